"""Frames as bytes, and what the authority says of those that are not plain."""

from __future__ import annotations

import os

import pytest
from websockets.exceptions import ProtocolError
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

from django_ws_dispatch.uvicorn.frames import (
    BINARY,
    PING,
    PONG,
    RSV1,
    TEXT,
    Authority,
    apply_mask,
    close_frame,
    control_frame,
    data_frame,
    require,
)

from ..servers.wire import frame


def read(data: bytes) -> Frame:
    """What websockets reads, and nothing is left over."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    parser = Frame.parse(reader.read_exact, mask=False)
    try:
        next(parser)
    except StopIteration as stop:
        found: Frame = stop.value
        assert bytes(found.data) == data[len(data) - len(found.data) :]
        return found
    raise AssertionError("it is not whole")


@pytest.mark.parametrize("first", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_a_data_frame_has_the_shortest_head(first, size):
    payload = os.urandom(size)
    data = data_frame(first, payload)
    assert data == Frame(Opcode(first & 0x0F), payload).serialize(mask=False)
    assert read(data).data == payload


@pytest.mark.parametrize("size", [0, 125, 126, 65536])
def test_a_compressed_message_has_a_bit_of_its_own(size):
    plain, compressed = data_frame(TEXT, b"x" * size), data_frame(TEXT | RSV1, b"x" * size)
    assert compressed[0] == plain[0] | 0x40
    assert compressed[1:] == plain[1:]


@pytest.mark.parametrize(("first", "opcode"), [(PING, Opcode.PING), (PONG, Opcode.PONG)])
def test_a_control_frame_is_whole(first, opcode):
    for payload in b"", b"x", b"x" * 125:
        assert read(control_frame(first, payload)) == Frame(opcode, payload)
    assert control_frame(first) == control_frame(first, b"")


@pytest.mark.parametrize(
    ("code", "reason", "payload"),
    [
        (None, "", b""),
        (1000, "", b"\x03\xe8"),
        (4999, "schön", b"\x13\x87sch\xc3\xb6n"),
        (1012, "x" * 123, b"\x03\xf4" + b"x" * 123),
    ],
)
def test_a_close_frame_says_code_and_reason(code, reason, payload):
    assert read(close_frame(code, reason)) == Frame(Opcode.CLOSE, payload)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_a_close_frame_holds_no_code_that_is_never_sent(code):
    with pytest.raises(ProtocolError):
        close_frame(code)


@pytest.mark.parametrize(("reason", "size"), [("x" * 124, 124), ("ü" * 62, 124)])
def test_a_close_frame_holds_no_long_reason(reason, size):
    with pytest.raises(ValueError, match=f"at most 123 bytes, not {size}"):
        close_frame(1000, reason)


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_a_mask_is_applied_to_any_bytes(kind):
    assert bytes(apply_mask(kind(b"abcde"), kind(b"\x01\x02\x03\x04"))) == b"\x60\x60\x60\x60\x64"


def authority(
    *, max_size: int = 100, deflates: bool = False, closing: Close | None = None
) -> Authority:
    return Authority(max_size, deflates, closing)


def test_a_websockets_that_is_too_old_is_named_with_the_remedy():
    require("16.0")
    require("100.1.dev0")
    with pytest.raises(ImportError, match=r"needs websockets 16 .* is 15\.0\.1: pip install"):
        require("15.0.1")


def test_fragments_become_one_message():
    one = authority()
    assert one.feed(frame(1, b"\xc3", fin=False)) == (None, b"")
    assert one.is_within
    assert one.size_left == 99
    assert one.feed(frame(0, b"\xbc", fin=False)) == (None, b"")
    assert one.size_left == 98
    assert one.feed(frame(0, b"x")) == ("üx", b"")
    assert not one.is_within
    assert one.size_left == 100
    assert one.feed(frame(2, b"a", fin=False)) == (None, b"")
    assert one.feed(bytearray(frame(0, b"\xff"))) == (b"a\xff", b"")
    assert not one.failed
    assert one.answered is None


def test_what_is_too_large_is_not_looked_into():
    one = authority(max_size=3, deflates=True)
    one.feed(frame(1, b"\xff", fin=False))
    assert one.feed(frame(0, b"\xff" * 3)) == (None, b"")
    assert one.is_too_big


def test_empty_fragments_take_no_memory():
    one = authority()
    one.feed(frame(1, b"a", fin=False))
    for _ in range(1000):
        one.feed(frame(0, b"", fin=False))
    assert len(one._payload) == 1
    assert one.feed(frame(0)) == ("a", b"")


def test_an_empty_fragment_begins_a_message_too():
    one = authority()
    one.feed(frame(1, b"", fin=False))
    assert one.is_within
    assert one.feed(frame(0)) == ("", b"")


def test_a_close_is_answered_with_what_it_says():
    one = authority()
    message, answer = one.feed(frame(8, b"\x0f\xa0bye"))
    assert message is None
    assert read(answer) == Frame(Opcode.CLOSE, b"\x0f\xa0bye")
    assert one.answered == Close(4000, "bye")
    assert not one.failed


def test_an_answer_to_the_own_close_is_not_answered():
    one = authority(closing=Close(1000, ""))
    assert one.feed(frame(8, b"\x03\xe8")) == (None, b"")
    assert one.answered == Close(1000, "")


def test_what_is_wrong_behind_the_own_close_is_not_answered():
    one = authority(closing=Close(4000, ""))
    assert one.feed(frame(3)) == (None, b"")
    assert one.failed
    assert one.answered == Close(4000, "")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(0, b"x"), 1002),
        (frame(3), 1002),
        (frame(1, b"x", mask=False)[:2], 1002),
        (frame(0x11, b"x"), 1002),
        (frame(8, b"\x03"), 1002),
        (frame(8, b"\x03\xe8\xff"), 1007),
        (frame(8, b"x" * 126)[:4], 1009),
    ],
)
def test_what_is_wrong_is_answered_with_a_code(data, code):
    one = authority()
    message, answer = one.feed(data)
    assert one.failed
    assert message is None
    assert one.answered is not None
    assert one.answered.code == code
    assert read(answer).data[:2] == code.to_bytes(2)


def test_text_that_is_no_utf8_raises():
    one = authority()
    one.feed(frame(1, b"\xc3", fin=False))
    with pytest.raises(UnicodeDecodeError):
        one.feed(frame(0, b"("))


def test_fragments_count_together():
    one = authority()
    one.feed(frame(2, b"x" * 60, fin=False))
    assert one.size_left == 40
    one.feed(frame(0, b"x" * 66)[:2])
    assert one.failed
    assert one.answered is not None
    assert one.answered.code == 1009


def test_a_small_limit_of_messages_is_none_of_control_frames():
    one = authority(max_size=1)
    one.feed(frame(8, b"\x0f\xa0" + b"x" * 123))
    assert one.answered == Close(4000, "x" * 123)
