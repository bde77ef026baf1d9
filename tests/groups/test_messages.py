"""A group's message as it travels, and what processes of other versions make of it."""

from __future__ import annotations

import pytest

from django_ws_dispatch.brokers.history import FORGOTTEN, KEPT, kept
from django_ws_dispatch.brokers.history import RESET as RESET_HEAD
from django_ws_dispatch.groups.messages import (
    BYTES,
    CLOSE,
    FORGOT,
    RESET,
    TEXT,
    LaterVersion,
    channel_of,
    decode,
    encode_close,
    encode_data,
)

# What every version writes, and every version reads.
FIRST = [
    (encode_data("h\u00e9"), b"t\x00h\xc3\xa9"),
    (encode_data(""), b"t\x00"),
    (encode_data("hello", "abc"), b"t\x03abchello"),
    (encode_data(b"\x00\xff"), b"b\x00\x00\xff"),
    (encode_data(b"hello", "abc"), b"b\x03abchello"),
    (encode_close(4403, "Removed"), b"c\x00\x11\x33Removed"),
    (encode_close(1000, "", "abc"), b"c\x03abc\x03\xe8"),
]


@pytest.mark.parametrize(("encoded", "bytes_of_the_first_version"), FIRST)
def test_the_kinds_of_the_first_version_never_change(
    encoded: bytes, bytes_of_the_first_version: bytes
) -> None:
    assert encoded == bytes_of_the_first_version


def test_what_was_encoded_is_decoded() -> None:
    text = decode(encode_data("hello", "abc"))
    assert (text.kind, text.data, text.exclude) == (TEXT, "hello", "abc")
    assert text.event == {"type": "websocket.send", "text": "hello"}
    data = decode(encode_data(b"hello"))
    assert (data.kind, data.data, data.exclude) == (BYTES, b"hello", None)
    assert data.event == {"type": "websocket.send", "bytes": b"hello"}
    close = decode(encode_close(4403, "Removed"))
    assert (close.kind, close.code, close.reason) == (CLOSE, 4403, "Removed")


@pytest.mark.parametrize("exclude", ["\u00e9", "x" * 256])
def test_what_can_be_no_id_excludes_nobody(exclude: str) -> None:
    assert decode(encode_data("hello", exclude)).exclude is None


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (b"p\x00\x02", "kind 'p', version 2"),
        (b"p\x02id\x03and more", "kind 'p', version 3"),
        (b"a\x00\xff\xff", "kind 'a', version 255"),
        (b"z\x00", "kind 'z'"),
        # What a process tells its own members is not what another one may tell them.
        (b"g\x00\x01", "kind 'g', version 1"),
    ],
)
def test_another_small_letter_is_a_later_versions(message: bytes, what: str) -> None:
    with pytest.raises(LaterVersion) as caught:
        decode(message)
    assert str(caught.value) == what


@pytest.mark.parametrize(
    "message", [b"", b"p", b"p\x05id", b"p\x01\xff\x02", b"P\x00\x02", b"{}", b"\x00\x00"]
)
def test_what_has_no_head_of_ours_is_nobodys(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"short|unknown|decode") as caught:
        decode(message)
    assert not isinstance(caught.value, LaterVersion)


def test_no_name_reaches_into_another_namespace() -> None:
    names = ["room", "4:blue:group:room", "in:3:red:group:room", ""]
    spaces = ["", "red", "3:red", "red:group:room"]
    channels = {channel_of("group:", name, space) for name in names for space in spaces}
    assert len(channels) == len(names) * len(spaces)


def test_a_message_that_is_kept_has_its_positions() -> None:
    message = decode(kept("1.1-0", "1.2-0", encode_data("text", "me")))
    assert (message.kind, message.data, message.exclude) == (TEXT, "text", "me")
    assert (message.previous, message.position) == ("1.1-0", "1.2-0")
    assert decode(kept("1.1-0", "1.2-0", FORGOTTEN)).kind == FORGOT
    assert decode(RESET_HEAD).kind == RESET
    assert decode(encode_data("text")).position is None


def test_what_is_kept_and_garbled_is_nobodys() -> None:
    whole = kept("1.1-0", "1.2-0", encode_data("text"))
    for broken in (whole[:5], KEPT, kept("1.1-0", "x", b"t\0"), kept("1.1-0", "1.2-0", whole)):
        with pytest.raises(ValueError, match=r"short|position|twice|unknown"):
            decode(broken)
    with pytest.raises(LaterVersion, match="version 2"):
        decode(b"m\0\x02" + whole[3:])
