"""One connection: what a client sends, what the application is told, and what is answered."""

from __future__ import annotations

import asyncio
import logging
import os
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState
from websockets.exceptions import ProtocolError
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Opcode

from django_ws_dispatch.uvicorn import drain, protocol
from django_ws_dispatch.uvicorn.protocol import EXTENSION, MOST_BYTES, MOST_MESSAGES

from ..kit.waiting import DEADLINE, until
from ..servers.wire import frame
from .wire import CLIENT, DEFLATE, SERVER, Client, Handler, echo, opened, served

pytestmark = pytest.mark.asyncio

ERRORS = "WARNING", "ERROR", "CRITICAL"


@pytest.fixture(autouse=True)
def logged(caplog) -> Iterator[Any]:
    """What went wrong and was logged; a test asks for it, or there is nothing."""
    seen = 0
    caplog.set_level(logging.INFO, "uvicorn.error")  # a development server's stop has changed it

    def lines() -> list[str]:
        nonlocal seen
        records = caplog.get_records("call")[seen:]
        seen += len(records)
        return [one.getMessage().strip() for one in records if one.levelname in ERRORS]

    yield lines
    assert not lines()


async def turns(count: int = 5) -> None:
    """Let the loop do what is due."""
    for _ in range(count):
        await asyncio.sleep(0)


def deflated(payload: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def chunks_of(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def close_code(client: Client) -> int | None:
    return None if client.close is None else client.close.code


# Reading


async def test_messages_are_sent_back_in_the_form_in_which_they_came():
    async with served(echo) as client:
        await until(lambda: client.response)
        client.sends("grüße", b"\x00\xff", "", b"")
        await client.sees("grüße", b"\x00\xff", "", b"")


MESSAGES = [b"1" * 125, b"2" * 126, b"", b"3" * 200, b"4", b"5" * 125]
STREAM = b"".join(frame(2, one) for one in MESSAGES)


async def test_a_stream_may_be_cut_anywhere():
    async with opened() as (client, app):
        for cut in range(1, len(STREAM)):
            client.feed(STREAM[:cut], STREAM[cut:])
            assert await app.reads(len(MESSAGES)) == MESSAGES


async def test_a_stream_may_come_in_chunks_of_any_size():
    async with opened() as (client, app):
        for size in range(1, len(STREAM)):
            client.feed(*chunks_of(STREAM, size))
            assert await app.reads(len(MESSAGES)) == MESSAGES
            assert client.protocol.take() is None


async def test_a_length_of_eight_bytes_may_be_cut_too():
    message = os.urandom(70_000)
    stream = frame(2, message)
    async with opened() as (client, app):
        for cut in range(1, 20):
            client.feed(*(stream[at : at + 1] for at in range(cut)), stream[cut:])
            assert await app.reads(1) == [message]


async def test_a_large_frame_comes_in_many_chunks():
    message = os.urandom(1024 * 1024)
    async with opened() as (client, app):
        client.feed(*chunks_of(frame(2, message), 64 * 1024))
        assert await app.reads(1) == [message]


async def test_fragments_are_one_message_and_a_ping_between_them_is_answered():
    async with opened() as (client, app):
        client.feed(
            frame(1, "grü".encode()[:3], fin=False),
            frame(9, b"here?"),
            frame(0, "ü".encode()[1:], fin=False) + frame(0, b"", fin=False),
            frame(0, "ße".encode()),
            frame(2, b"a", fin=False) + frame(0, b"b") + frame(1, b"c"),
        )
        assert await app.reads(3) == ["grüße", b"ab", "c"]
        await until(lambda: client.payloads(Opcode.PONG) == [b"here?"])


async def test_fragments_may_be_compressed():
    message = "so long " * 100
    data = deflated(message.encode())
    half = len(data) // 2
    async with opened(client={"extensions": DEFLATE}) as (client, app):
        client.feed(
            frame(0x41, data[:half], fin=False),
            frame(9, b"here?"),
            frame(0, data[half:]) + frame(0x42, deflated(b"whole")) + frame(1, b"plain"),
            frame(0x41, data[:half], fin=False) + frame(0, data[half:]),
        )
        assert await app.reads(4) == [message, b"whole", "plain", message]
        await until(lambda: client.payloads(Opcode.PONG) == [b"here?"])


async def test_an_idle_connection_keeps_nothing_of_what_was():
    async with opened() as (client, app):
        client.feed(frame(1, b"a", fin=False))
        assert client.protocol._authority is not None
        client.feed(frame(0, b"b"))
        assert await app.reads(1) == ["ab"]
        for name in "authority", "rest", "core", "handshake", "scope", "response", "waiter":
            assert getattr(client.protocol, f"_{name}") is None, name


BROKEN = {
    "no UTF-8": (frame(1, b"\xff"), 1007),
    "no UTF-8 in fragments": (frame(1, b"\xc3", fin=False) + frame(0, b"("), 1007),
    "half a character at the end": (frame(1, b"\xc3", fin=False) + frame(0), 1007),
    "the first reserved bit": (frame(0x41, b"x"), 1002),
    "the second reserved bit": (frame(0x21, b"x"), 1002),
    "the third reserved bit": (frame(0x12, b"x"), 1002),
    "a reserved bit of a ping": (frame(0x49, b"x"), 1002),
    "a reserved bit of a fragment": (frame(1, b"x", fin=False) + frame(0x40, b"y"), 1002),
    "a reserved opcode": (frame(3, b"x"), 1002),
    "a reserved opcode of a control frame": (frame(11, b"x"), 1002),
    "no mask": (frame(1, b"x", mask=False), 1002),
    "a ping without a mask": (frame(9, b"x", mask=False), 1002),
    "the rest of no message": (frame(0, b"x"), 1002),
    "a message within a message": (frame(1, b"x", fin=False) + frame(1, b"y"), 1002),
    "a fragment of a ping": (frame(9, b"x", fin=False), 1002),
    "a long ping": (frame(9, b"x" * 126), 1002),
    "half a close code": (frame(8, b"\x03"), 1002),
    "a close code that is never sent": (frame(8, b"\x03\xed"), 1002),
    "a reason that is no UTF-8": (frame(8, b"\x03\xe8\xff"), 1007),
    "more than is read": (frame(2, b"x" * 1001), 1009),
    "more than is read in fragments": (
        frame(2, b"x" * 600, fin=False) + frame(0, b"y" * 600),
        1009,
    ),
}
CHUNKS = {"in one chunk": 1_000_000, "in small ones": 3, "byte by byte": 1}


@pytest.mark.parametrize("size", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize(("broken", "code"), BROKEN.values(), ids=BROKEN)
async def test_what_is_good_in_front_of_what_is_broken_is_delivered(broken, code, size):
    stream = frame(1, b"good") + frame(2, b"too") + broken + frame(1, b"never read")
    async with opened(ws_max_size=1000) as (client, app):
        client.feed(*chunks_of(stream, size))
        assert await app.reads(2) == ["good", b"too"]
        told = await app.disconnected()
        assert told[0] == code
        assert await app.disconnected() == told
        assert (close_code(client), client.close.reason) == told
        with pytest.raises(ClientDisconnected):
            await app.says("too late")
        await client.ended()
        assert client.messages == []


DEFLATED = {
    "no UTF-8": (frame(0x41, deflated(b"\xff")), 1007),
    "not compressed": (frame(0x41, b"\xff" * 10), 1002),
    "a fragment that says so again": (
        frame(0x41, deflated(b"x" * 50)[:4], fin=False) + frame(0x40, b"y"),
        1002,
    ),
    "a bomb": (frame(0x42, deflated(b"\0" * 50_000)), 1009),
    "a bomb in fragments": (
        frame(0x42, deflated(b"\0" * 50_000)[:30], fin=False)
        + frame(0, deflated(b"\0" * 50_000)[30:]),
        1009,
    ),
    "one byte too much": (frame(0x42, deflated(b"\0" * 101)), 1009),
}


@pytest.mark.parametrize("size", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize(("broken", "code"), DEFLATED.values(), ids=DEFLATED)
async def test_so_it_is_where_it_is_compressed(broken, code, size):
    stream = frame(0x41, deflated(b"good")) + broken + frame(1, b"never read")
    async with opened(ws_max_size=100, client={"extensions": DEFLATE}) as (client, app):
        client.feed(*chunks_of(stream, size))
        assert await app.reads(1) == ["good"]
        assert (await app.disconnected())[0] == code
        assert close_code(client) == code
        await client.ended()


async def test_a_message_may_have_all_the_size_that_is_read():
    compressible, random = b"\0" * 100, os.urandom(100)
    async with opened(ws_max_size=100, client={"extensions": DEFLATE}) as (client, app):
        client.feed(frame(2, random), frame(0x42, deflated(compressible)))
        client.feed(frame(2, random[:50], fin=False) + frame(0, random[50:]))
        assert await app.reads(3) == [random, compressible, random]


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"\x82\xfe\x00\x65", 1009),
        (b"\x82\xff" + (101).to_bytes(8), 1009),
        (b"\x82\xff" + b"\xff" * 8, 1009),
        (b"\x81\x05", 1002),
        (b"\x83\x85", 1002),
        (b"\x8b\x85", 1002),
    ],
    ids=["length 2", "length 8", "the largest length", "no mask", "opcode 3", "opcode 11"],
)
@pytest.mark.parametrize("size", [1, 100])
async def test_what_can_not_become_good_is_refused_at_its_head(head, code, size):
    async with opened(ws_max_size=100) as (client, app):
        client.feed(*chunks_of(head, size))
        assert (await app.disconnected())[0] == close_code(client) == code


@pytest.mark.parametrize(
    ("message", "count"), [(b"x", MOST_MESSAGES), (b"x" * 10_000, MOST_BYTES // 10_000 + 1)]
)
@pytest.mark.parametrize("size", [1000, 1_000_000])
async def test_only_so_much_waits_unread_and_reading_goes_on_after_it(message, count, size):
    stream = frame(2, message) * 100
    async with opened() as (client, app):
        client.feed(*chunks_of(stream, size))
        assert len(client.protocol._inbox) == count
        assert not client.transport.is_reading
        assert client.protocol.reading_is_paused
        assert await app.reads(count - 1) == [message] * (count - 1)
        await turns()
        assert not client.transport.is_reading
        assert await app.reads(101 - count) == [message] * (101 - count)
        assert client.transport.is_reading
        assert not client.protocol.reading_is_paused
        client.sends("more")
        assert await app.reads(1) == ["more"]


async def test_fragments_count_by_their_bytes():
    half = "é".encode() * 10_000
    message = frame(1, half, fin=False) + frame(0, half)
    async with opened() as (client, app):
        client.feed(message * 3)
        assert len(client.protocol._inbox) == 2  # the last of them may go over
        assert not client.transport.is_reading
        assert await app.reads(3) == ["é" * 20_000] * 3


async def test_fragments_wait_unread_too():
    stream = (frame(1, b"a", fin=False) + frame(0, b"b")) * 100
    async with opened() as (client, app):
        client.feed(stream)
        assert not client.transport.is_reading
        assert len(client.protocol._inbox) == MOST_MESSAGES
        assert await app.reads(100) == ["ab"] * 100
        assert client.transport.is_reading


async def test_what_comes_although_reading_is_paused_is_kept():
    stream = frame(2, b"x" * 10) * 50
    async with opened() as (client, app):
        client.feed(stream[:-5])
        client.protocol.data_received(stream[-5:-1])
        client.protocol.data_received(stream[-1:] + frame(1, b"last"))
        assert len(client.protocol._inbox) == MOST_MESSAGES
        assert await app.reads(51) == [*[b"x" * 10] * 50, "last"]


async def test_a_ping_in_front_of_what_waits_is_answered():
    async with opened() as (client, app):
        client.feed(frame(9, b"1") + frame(1, b"x") * MOST_MESSAGES + frame(9, b"2"))
        await until(lambda: client.payloads(Opcode.PONG) == [b"1", b"2"])
        client.feed(frame(1, b"x") + frame(9, b"3"))
        await turns()
        assert client.payloads(Opcode.PONG) == [b"1", b"2"]
        await app.reads(MOST_MESSAGES + 1)
        await until(lambda: client.payloads(Opcode.PONG) == [b"1", b"2", b"3"])


@pytest.mark.parametrize("payload", [b"", b"x" * 125])
async def test_a_ping_may_have_any_payload(payload):
    async with opened() as (client, _):
        client.feed(frame(9, payload))
        await until(lambda: client.payloads(Opcode.PONG) == [payload])


async def test_a_pong_that_nobody_asked_for_is_ignored():
    async with opened() as (client, app):
        client.feed(frame(10) + frame(10, b"x" * 125) + frame(1, b"a"))
        assert await app.reads(1) == ["a"]
        assert client.protocol.latency is None


# receive()


async def test_two_tasks_may_wait_and_each_message_goes_to_one():
    async with opened() as (client, app):
        waiting = [asyncio.create_task(app.receive()) for _ in range(3)]
        await turns()
        client.feed(frame(1, b"a"))
        await until(lambda: sum(task.done() for task in waiting) == 1)
        await turns()
        assert sum(task.done() for task in waiting) == 1
        client.feed(frame(1, b"b") + frame(1, b"c"))
        assert {(await task)["text"] for task in waiting} == {"a", "b", "c"}


@pytest.mark.parametrize("cancelled", [0, 1, 2])
@pytest.mark.parametrize("first", [True, False])
async def test_who_waits_too_goes_on_where_one_is_cancelled(cancelled, first):
    async with opened() as (client, app):
        waiting = [asyncio.create_task(app.receive()) for _ in range(3)]
        await turns()
        if first:
            waiting[cancelled].cancel()
            await turns()
        client.feed(frame(1, b"a") + frame(1, b"b"))
        waiting[cancelled].cancel()
        events = await asyncio.gather(*waiting, return_exceptions=True)
        del events[cancelled]
        assert {event["text"] for event in events} == {"a", "b"}


async def test_all_who_wait_hear_of_the_end():
    async with opened() as (client, app):
        waiting = [asyncio.create_task(app.disconnected()) for _ in range(3)]
        await turns()
        client.closes(4000)
        assert await asyncio.gather(*waiting) == [(4000, "")] * 3


async def test_who_is_cancelled_with_a_message_leaves_it_to_the_next():
    async with opened() as (client, app):
        task = asyncio.create_task(app.receive())
        await turns()
        client.feed(frame(1, b"a"))
        task.cancel()
        await turns()
        assert task.cancelled()
        assert await app.reads(1) == ["a"]


async def test_who_takes_messages_itself_is_told_when_there_is_one():
    async with opened() as (client, _):
        assert client.protocol.take() is None
        waiting = client.protocol.wait()
        assert not waiting.done()
        client.feed(frame(1, b"a") + frame(2, b"b"))
        assert waiting.done()
        assert client.protocol.wait().done()
        assert [client.protocol.take() for _ in range(3)] == ["a", b"b", None]
        waiting = client.protocol.wait()
        client.closes(4000)
        assert waiting.done()
        assert client.protocol.wait().done()
        assert client.protocol.take() is None
        assert client.protocol.disconnect == (4000, "")


# Writing


async def test_messages_of_one_turn_leave_in_one_write():
    async with opened() as (client, app):
        del client.transport.writes[:]
        await app.says("a", b"b", "c")
        await client.sees("a", b"b", "c")
        assert len(client.transport.writes) == 1


async def test_not_too_much_is_joined():
    message = b"x" * 40_000
    async with opened() as (client, app):
        del client.transport.writes[:]
        await app.says(message, message, message)
        await client.sees(message, message, message)
        assert [len(one) // 40_000 for one in client.transport.writes] == [2, 1]


async def test_a_close_frame_leaves_with_the_messages_in_front_of_it():
    async with opened() as (client, app):
        del client.transport.writes[:]
        await app.says("a", "b")
        await app.send("close")
        assert client.messages == ["a", "b"]
        assert close_code(client) == 1000
        assert len(client.transport.writes) == 1


async def test_what_is_not_sent_is_counted():
    async with opened() as (client, app):
        assert client.protocol.unsent == 0
        client.transport.is_taken = False
        await app.says(b"x" * 100)
        assert client.protocol.unsent == 102
        await turns()
        assert client.transport.get_write_buffer_size() == client.protocol.unsent == 102
        client.transport.taken()
        assert client.protocol.unsent == 0


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 100_000])
async def test_a_message_may_have_any_size(size):
    message = os.urandom(size)
    async with opened() as (client, app):
        await app.says(message)
        await client.sees(message)


async def slow(client: Client, app: Handler) -> None:
    """The client does not read any more."""
    client.transport.is_taken = False
    await app.says(b"x" * 100_000)
    await until(lambda: client.protocol._blocked is not None)


async def test_send_waits_for_a_client_that_does_not_read():
    async with opened() as (client, app):
        await slow(client, app)
        sending = [asyncio.create_task(app.says(one)) for one in ("a", "b", "c")]
        await turns()
        assert not any(task.done() for task in sending)
        sending.pop(0).cancel()
        await turns()
        assert not any(task.done() for task in sending)
        client.transport.taken()
        await asyncio.gather(*sending)
        await client.sees(b"x" * 100_000, "b", "c")


async def test_send_waits_where_the_client_stops_again_at_once():
    async with opened() as (client, app):
        await slow(client, app)
        sending = asyncio.create_task(app.says("a"))
        await turns()
        client.protocol.resume_writing()
        client.protocol.pause_writing()
        client.protocol.pause_writing()
        await turns()
        assert not sending.done()
        client.transport.taken()
        await sending
        await client.sees(b"x" * 100_000, "a")


async def test_send_fails_where_the_client_is_lost():
    async with opened() as (client, app):
        await slow(client, app)
        sending = asyncio.create_task(app.says("a"))
        await turns()
        client.transport.lose(ConnectionResetError())
        with pytest.raises(ClientDisconnected):
            await sending
        with pytest.raises(ClientDisconnected):
            await app.says("b")
        with pytest.raises(ClientDisconnected):
            await app.send("close")


async def test_nothing_is_unsent_once_the_client_is_lost():
    async with opened() as (client, app):
        client.transport.lose(None)
        await app.says("a")
        await client.ended()
        assert client.protocol.unsent == 0


async def test_a_client_that_does_not_read_gets_the_newest_pong_alone():
    async with opened() as (client, app):
        await slow(client, app)
        client.feed(frame(9, b"1") + frame(9, b"2"), frame(9, b"3"))
        await turns()
        before = client.transport.get_write_buffer_size()
        assert before == len(b"x" * 100_000) + 10
        client.transport.taken()
        await until(lambda: client.payloads(Opcode.PONG))
        client.feed(frame(9, b"4"))
        await until(lambda: len(client.payloads(Opcode.PONG)) > 1)
        assert client.payloads(Opcode.PONG) == [b"3", b"4"]


async def test_no_pong_is_sent_behind_a_close():
    async with opened() as (client, app):
        await slow(client, app)
        client.feed(frame(9, b"1") + frame(3))
        client.transport.taken()
        await client.ended()
        assert close_code(client) == 1002
        assert client.transport.writes[-1][0] == 0x88


async def test_what_has_neither_text_nor_bytes_is_no_message():
    async with opened() as (client, app):
        for event in {}, {"text": None, "bytes": None}:
            with pytest.raises(RuntimeError, match="needs 'bytes' or 'text'"):
                await app.send("send", **event)
        await app.send("send", text=None, bytes=b"a")
        await app.send("send", text="b", bytes=None)
        await client.sees(b"a", "b")


async def test_nothing_else_is_sent_to_an_open_connection():
    async with opened() as (_, app):
        for kind in "accept", "http.response.start", "http.response.body", "strange":
            with pytest.raises(RuntimeError, match=f"but got 'websocket.{kind}'"):
                await app.send(kind)


# The end


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (4000, "schön"), (1001, "x" * 123)])
async def test_a_close_of_the_client_is_answered(code, reason):
    async with opened() as (client, app):
        client.sends("last")
        client.closes(code, reason)
        assert await app.reads(1) == ["last"]
        assert await app.disconnected() == (code, reason)
        assert await client.ended() == client.core.close_sent
        assert client.core.close_rcvd_then_sent is False


async def test_a_close_without_a_code_is_1005():
    async with opened() as (client, app):
        client.closes(None)
        assert await app.disconnected() == (1005, "")
        assert (await client.ended()).code == 1005
        assert client.payloads(Opcode.CLOSE) == [b""]


async def test_nothing_behind_a_close_of_the_client_is_read():
    async with opened() as (client, app):
        client.feed(frame(8, b"\x03\xe8") + frame(1, b"never read") + frame(3))
        assert await app.disconnected() == (1000, "")
        assert (await client.ended()).code == 1000


@pytest.mark.parametrize(
    ("event", "code", "reason"),
    [
        ({}, 1000, ""),
        ({"code": None, "reason": None}, 1000, ""),
        ({"code": 4000, "reason": "schön"}, 4000, "schön"),
        ({"code": 1011, "reason": "x" * 123}, 1011, "x" * 123),
    ],
)
async def test_the_application_closes_and_the_client_answers(event, code, reason):
    async with opened() as (client, app):
        await app.send("close", **event)
        assert (client.close.code, client.close.reason) == (code, reason)
        assert await app.disconnected() == (code, reason)
        assert not client.transport.is_closing()
        await client.ended()
        assert client.core.close_rcvd_then_sent is True
        assert not client.transport.is_aborted


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"code": 1005}, ProtocolError),
        ({"code": 1006}, ProtocolError),
        ({"code": 999}, ProtocolError),
        ({"code": 5000}, ProtocolError),
        ({"reason": "x" * 124}, ValueError),
        ({"reason": "ü" * 62}, ValueError),
    ],
)
async def test_a_close_that_can_not_be_sent_ends_nothing(event, error):
    async with opened() as (client, app):
        with pytest.raises(error):
            await app.send("close", **event)
        client.sends("a")
        assert await app.reads(1) == ["a"]
        await app.send("close")
        await client.ended()


async def test_nothing_is_sent_behind_the_own_close():
    async with opened(client={"answers": False}) as (client, app):
        await app.send("close")
        for kind in "send", "close", "accept":
            with pytest.raises(RuntimeError, match=f"Unexpected ASGI message 'websocket.{kind}'"):
                await app.send(kind, text="a")
        assert client.messages == []


async def test_what_comes_behind_the_own_close_is_thrown_away():
    async with opened(client={"answers": False}) as (client, app):
        await app.send("close", code=4000)
        client.feed(frame(1, b"a") + frame(1, b"\xff"), frame(1, b"b", fin=False) + frame(0, b"c"))
        client.feed(frame(9, b"here?"), frame(2, b"x" * 100_000), frame(8, b"\x0f\xa0"))
        await client.ended()
        assert await app.disconnected() == (4000, "")
        assert b"\x8a\x05here?" in client.transport.writes
        assert not client.transport.is_aborted


async def test_a_message_that_has_begun_is_no_obstacle_to_the_own_close():
    async with opened() as (client, app):
        client.feed(frame(1, b"a", fin=False))
        await app.send("close", code=4000)
        client.feed(frame(0, b"b"))
        await client.ended()
        assert await app.disconnected() == (4000, "")


@pytest.mark.parametrize("begun", [b"", frame(1, b"\xff", fin=False)], ids=["", "begun"])
@pytest.mark.parametrize(
    "wrong",
    [frame(3), frame(8, b"\x03"), frame(1, b"x", mask=False)],
    ids=["opcode", "half a code", "no mask"],
)
async def test_who_answers_wrong_is_gone_without_a_second_close(begun, wrong):
    async with opened(client={"answers": False}) as (client, app):
        client.feed(begun)
        await app.send("close", code=4000)
        client.feed(wrong)
        await client.ended()
        assert await app.disconnected() == (4000, "")
        assert [data[0] for data in client.transport.writes[1:]] == [0x88]


@pytest.mark.parametrize("data", [frame(1, b"\xff", fin=False) + frame(0), frame(0), frame(0x11)])
async def test_what_is_wrong_in_messages_behind_the_own_close_is_read_over(data):
    async with opened() as (client, app):
        await app.send("close", code=4000)
        client.transport.receives(data)
        await client.ended()
        assert await app.disconnected() == (4000, "")
        assert client.protocol.close_timer is None


async def test_who_answers_within_a_message_is_gone_without_a_second_close():
    async with opened(client={"answers": False}) as (client, app):
        client.feed(frame(1, b"a", fin=False))
        await app.send("close", code=4000)
        client.feed(frame(8, b"\x0f\xa0"))
        await client.ended()
        assert await app.disconnected() == (4000, "")
        assert [data[0] for data in client.transport.writes[1:]] == [0x88]


async def test_a_close_behind_the_loss_is_not_sent():
    async with opened() as (client, app):
        client.transport.eof()
        with pytest.raises(ClientDisconnected):
            await app.send("close", code=4000)
        assert await app.disconnected() == (1006, None)
        assert client.close is None


async def test_a_client_that_takes_nothing_and_sends_no_more_is_gone_for_the_application():
    async with opened() as (client, app):
        client.transport.is_taken = False
        await app.says("x" * 100_000)
        client.transport.eof()
        assert await app.disconnected() == (1006, None)
        assert not client.transport.is_lost


async def test_what_an_application_raises_of_a_client_that_is_gone_is_not_logged():
    class WebSocketDisconnect(Exception):
        pass

    async with opened() as (client, app):
        client.closes(4000)
        await app.disconnected()
        app.raises(WebSocketDisconnect())
        await client.ended()


@pytest.mark.parametrize("size", [400_000, 1_100_000])
async def test_a_client_that_sends_too_much_in_compressed_fragments_gets_its_1009(size):
    whole = zlib.compress(b"x" * size, wbits=-15)
    options = {"client": {"extensions": DEFLATE}, "ws_max_size": 100_000}
    async with opened(**options) as (client, app):
        half = len(whole) // 2
        client.feed(frame(0x41, whole[:half], fin=False), frame(0, whole[half:]))
        client.feed(frame(2, b"more"))
        assert await app.disconnected() == (1009, "max message size")
        assert not client.transport.is_closing()  # it reads until the client has answered
        await client.ended()
        assert client.close is not None
        assert client.close.code == 1009


@pytest.mark.parametrize(
    "wrong",
    [
        frame(1, b"x" * 101),
        frame(1, b"\xff"),
        frame(2, b"x", mask=False),
        frame(3),
        frame(0),
        frame(0x11),
        frame(9, b"", fin=False),
    ],
    ids=["too large", "no UTF-8", "no mask", "opcode", "a rest", "reserved bit", "half a ping"],
)
async def test_what_is_good_in_front_of_what_is_wrong_is_answered_before_the_close(wrong):
    async with served(echo, ws_max_size=100) as client:
        client.feed(frame(1, b"a") + frame(2, b"b") + wrong)
        await until(lambda: client.close is not None)
        assert client.messages == ["a", b"b"]
        assert client.close.code in (1002, 1007, 1009)


async def test_a_client_may_close_within_a_message():
    async with opened(ws_max_size=100) as (client, app):
        client.feed(frame(1, b"x" * 100, fin=False) + frame(8, b"\x0f\xa0bye"))
        assert await app.disconnected() == (4000, "bye")
        await client.ended()
        assert client.payloads(Opcode.CLOSE) == [b"\x0f\xa0bye"]


async def test_a_large_frame_is_not_copied_to_what_is_sent_with_it():
    written = []
    async with opened() as (client, _):
        client.transport.write = written.append
        small, large = b"\x81\x01a", b"\x82\x7f" + (100_000).to_bytes(8) + bytes(100_000)
        for write in (client.protocol.write, client.protocol.write_in_turn):
            write(small)
            write(large)
            assert written[-2:] == [small, large]
            assert written[-1] is large
        del client.transport.write


async def test_messages_that_wait_are_delivered_in_front_of_the_own_close():
    async with opened() as (client, app):
        client.feed(frame(1, b"a") + frame(1, b"b"))
        await app.send("close", code=4000)
        assert await app.reads(2) == ["a", "b"]
        assert await app.disconnected() == (4000, "")
        await client.ended()


@pytest.mark.parametrize("count", [MOST_MESSAGES, MOST_MESSAGES + 1, 100])
async def test_an_answer_behind_what_nobody_reads_is_read(count):
    async with opened() as (client, app):
        client.protocol.close_timeout = 2 * DEADLINE
        client.feed(*[frame(1, b"x")] * count)
        await app.send("close")
        await client.ended()
        assert len(client.protocol._inbox) == MOST_MESSAGES
        assert await app.reads(MOST_MESSAGES) == ["x"] * MOST_MESSAGES
        assert await app.disconnected() == (1000, "")


async def test_a_client_that_does_not_answer_a_close_has_so_long():
    async with opened(client={"answers": False}) as (client, app):
        client.protocol.close_timeout = 0.01
        await app.send("close")
        await client.ended()
        assert not client.transport.is_aborted


async def test_a_client_that_takes_nothing_is_aborted(monkeypatch):
    monkeypatch.setattr(protocol, "ABORT_TIMEOUT", 0.01)
    async with opened(client={"answers": False}) as (client, app):
        client.protocol.close_timeout = 0.01
        client.transport.is_taken = False
        await app.says("a")
        await app.send("close")
        await client.ended()
        assert client.transport.is_aborted


async def test_a_client_that_takes_it_late_is_not(monkeypatch):
    async with opened(client={"answers": False}) as (client, app):
        client.transport.is_taken = False
        await app.says("a")
        client.feed(frame(3))
        await until(client.transport.is_closing)
        client.transport.taken()
        assert (await client.ended()).code == 1002
        assert client.messages == ["a"]
        assert client.protocol._abort_timer is None


@pytest.mark.parametrize("exc", [None, ConnectionResetError()])
async def test_a_loss_is_1006(exc):
    async with opened() as (client, app):
        client.sends("a")
        client.transport.lose(exc)
        await client.ended()
        assert await app.reads(1) == ["a"]
        assert await app.disconnected() == (1006, None)
        with pytest.raises(ClientDisconnected):
            await app.says("b")


async def test_a_loss_within_a_message_is_1006():
    for part in frame(1, b"a", fin=False), frame(1, b"abc")[:5]:
        async with opened() as (client, app):
            client.feed(part)
            client.transport.eof()
            assert await app.disconnected() == (1006, None)
            assert await client.ended() is None


async def test_who_waits_to_send_hears_of_the_end_before_the_client_has_taken_anything():
    async with opened() as (client, app):
        client.transport.is_taken = False
        await app.says("x" * 100_000)
        sending = asyncio.ensure_future(app.says("late"))
        await until(lambda: client.protocol._blocked is not None)
        client.feed(frame(3))
        with pytest.raises(ClientDisconnected):
            await sending
        assert not client.transport.is_lost


async def test_a_client_that_sends_no_more_is_gone():
    async with opened() as (client, app):
        client.transport.eof()
        await client.ended()
        assert await app.disconnected() == (1006, None)


async def test_a_loss_after_the_own_close_keeps_its_code():
    async with opened(client={"answers": False}) as (client, app):
        await app.send("close", code=4000)
        client.transport.lose(None)
        await client.ended()
        assert await app.disconnected() == (4000, "")


async def test_an_application_that_returns_drops_the_connection():
    async with opened() as (client, app):
        await app.says("a")
        app.returns()
        assert await client.ended() is None
        assert client.messages == ["a"]


async def test_an_application_that_returns_behind_its_close_waits_for_the_answer():
    async with opened(client={"answers": False}) as (client, app):
        await app.send("close")
        app.returns()
        await turns()
        assert not client.transport.is_closing()
        client.flush()
        await client.ended()


async def test_an_application_that_raises_is_logged_and_drops_the_connection(logged):
    async with opened() as (client, app):
        app.raises(ValueError("no"))
        assert await client.ended() is None
        assert logged() == ["Exception in ASGI application"]


async def test_an_application_that_hears_of_the_loss_from_send_is_not_logged():
    async with opened() as (client, app):
        client.transport.lose(None)
        await client.ended()
        app.raises(ClientDisconnected())


async def test_an_application_that_returns_something_is_logged(logged):
    async with opened() as (client, app):
        app.returns(1)
        assert await client.ended() is None
        assert logged() == ["ASGI callable should return None, but returned '1'."]


async def test_a_cancelled_application_is_logged_and_drops_the_connection(logged):
    state = ServerState()
    async with opened(state=state) as (client, _):
        (task,) = state.tasks
        task.cancel()
        assert await client.ended() is None
        assert logged() == ["Exception in ASGI application"]


# The server stops


async def test_an_open_connection_is_told_with_1012():
    async with opened() as (client, app):
        client.protocol.shutdown()
        assert close_code(client) == 1012
        assert await app.disconnected() == (1012, None)
        with pytest.raises(OSError) as raised:  # noqa: PT011
            await app.says("a")
        assert isinstance(raised.value, ClientDisconnected)
        await client.ended()
        assert not client.transport.is_aborted


async def test_a_connection_may_be_told_later():
    async with opened() as (client, app):
        client.protocol.drain = 0.01
        client.protocol.shutdown()
        assert client.close is None
        await app.says("a")
        assert await app.disconnected() == (1012, None)
        assert client.messages == ["a"]
        assert (await client.ended()).code == 1012


async def test_a_connection_that_ends_before_its_turn_keeps_its_code():
    async with opened() as (client, app):
        client.protocol.drain = 2 * DEADLINE
        client.protocol.shutdown()
        await app.send("close", code=4000)
        assert not client.protocol._shared.drain._waiting
        assert (await client.ended()).code == 4000


async def test_a_client_that_does_not_answer_a_restart_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(protocol, "RESTART_TIMEOUT", 0.01)
    async with opened(client={"answers": False}) as (client, _):
        client.protocol.shutdown()
        assert (await client.ended()).code == 1012


async def test_a_connection_that_closes_already_is_not_waited_for():
    async with opened(client={"answers": False}) as (client, app):
        await app.send("close", code=4000)
        client.protocol.shutdown()
        assert (await client.ended()).code == 4000
        assert len(client.payloads(Opcode.CLOSE)) == 1


async def test_a_handshake_that_is_not_answered_is_answered_with_503():
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        client.protocol.shutdown()
        assert await app.receive() == {"type": "websocket.connect"}
        assert await app.disconnected() == (1006, None)
        with pytest.raises(ClientDisconnected):
            await app.send("accept")
        await client.ended()
        assert client.response.status_code == 503
        assert client.response.body == b"Service Unavailable"


async def test_a_handshake_that_has_not_come_is_answered_with_503():
    async with served(echo, sends=False) as client:
        request = client.request()
        client.feed(request[:20])
        client.protocol.shutdown()
        await client.ended()
        assert client.response.status_code == 503


async def test_a_denial_that_has_begun_is_not_sent_behind_503():
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        client.transport.is_taken = False
        await app.send("http.response.start", status=404)
        client.protocol.shutdown()
        with pytest.raises(ClientDisconnected):
            await app.send("http.response.body", body=b"not found")
        client.transport.taken()
        await client.ended()
        assert client.response.status_code == 503
        assert client.response.body == b"Service Unavailable"


async def test_a_new_handshake_is_answered_with_503_while_the_server_stops(monkeypatch):
    monkeypatch.setattr(drain.Drain, "is_stopping", True)
    app = Handler()
    async with served(app) as client:
        await client.ended()
        assert client.response.status_code == 503
        assert not app.is_called


async def test_an_application_that_is_cancelled_while_the_server_stops_is_a_restart(monkeypatch):
    state = ServerState()
    async with opened(state=state) as (client, _):
        monkeypatch.setattr(drain.Drain, "is_stopping", True)
        (task,) = state.tasks
        task.cancel()
        assert (await client.ended()).code == 1012


async def test_an_application_that_is_cancelled_behind_its_close_keeps_its_code(monkeypatch):
    state = ServerState()
    async with opened(state=state) as (client, app):
        await app.send("close", code=4000)
        monkeypatch.setattr(drain.Drain, "is_stopping", True)
        (task,) = state.tasks
        task.cancel()
        assert (await client.ended()).code == 4000


# Keep-alive


async def test_a_client_is_pinged_and_its_pong_tells_the_latency():
    async with opened(ws_ping_interval=0.01, ws_ping_timeout=DEADLINE) as (client, _):
        await until(lambda: len(client.payloads(Opcode.PING)) > 1)
        assert all(len(payload) == 4 for payload in client.payloads(Opcode.PING))
        await until(lambda: client.protocol.latency is not None)
        assert client.protocol.latency >= 0


async def test_a_client_without_a_pong_is_closed_with_1011():
    options = {"ws_ping_interval": 0.01, "ws_ping_timeout": 0.01, "client": {"answers": False}}
    async with opened(**options) as (client, app):
        assert await app.disconnected() == (1011, "keepalive ping timeout")
        assert (await client.ended()).code == 1011
        assert client.protocol.latency is None


async def test_a_client_whose_pong_can_not_be_seen_is_waited_for():
    options = {"ws_ping_interval": 0.01, "ws_ping_timeout": 0.01, "client": {"answers": False}}
    async with opened(**options) as (client, app):
        client.feed(frame(1, b"x") * 40)
        keeper = client.protocol._shared.keeper
        for _ in range(3):
            ends = keeper._waiting.get(client.protocol)
            await until(lambda ends=ends: keeper._waiting.get(client.protocol) != ends)
        assert client.close is None
        client.flush()
        assert client.transport.unread
        assert client.protocol.latency is None
        await app.reads(40)
        await until(lambda: client.protocol.latency is not None)


async def test_a_client_that_is_read_again_has_all_of_its_time():
    options = {"ws_ping_interval": 0.01, "ws_ping_timeout": DEADLINE, "client": {"answers": False}}
    async with opened(**options) as (client, app):
        await until(lambda: client.payloads(Opcode.PING))
        waiting = client.protocol._shared.keeper._waiting
        ends = waiting[client.protocol][0]
        client.feed(frame(1, b"x") * 40)
        await until(lambda: asyncio.get_running_loop().time() + DEADLINE > ends)
        await app.reads(40)
        assert waiting[client.protocol][0] > ends


async def test_nobody_is_pinged_behind_a_close():
    async with opened(ws_ping_interval=DEADLINE) as (client, app):
        keeper = client.protocol._shared.keeper
        assert len(keeper) == 1
        await app.send("close")
        assert len(keeper) == 0
        assert not client.protocol.ping(b"1234")
    async with opened(ws_ping_interval=DEADLINE) as (client, _):
        client.transport.eof()
        assert not client.protocol.ping(b"1234")


async def test_nobody_is_pinged_where_that_is_off():
    async with opened(ws_ping_interval=None) as (client, _):
        assert not len(client.protocol._shared.keeper)


# Denials


async def test_a_close_before_the_answer_is_403():
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        await app.receive()
        await app.send("close", code=4000, reason="no")
        assert await app.disconnected() == (1006, None)
        with pytest.raises(RuntimeError, match=r"after sending 'websocket\.close'"):
            await app.send("accept")
        await client.ended()
        assert client.response.status_code == 403
        assert client.response.body == b""
        assert client.response.headers["Content-Length"] == "0"
        assert client.response.headers["Connection"] == "close"


async def test_a_denial_has_what_the_application_says():
    app = Handler()
    headers = [(b"Content-Type", b"text/html"), (b"x-a", b"1"), (b"x-a", b"\xe9")]
    async with served(app) as client:
        await until(lambda: app.is_called)
        await app.send("http.response.start", status=404, headers=headers)
        assert client.transport.writes == []
        await app.send("http.response.body", body=b"not found")
        assert client.protocol.disconnect == (1006, None)
        with pytest.raises(RuntimeError, match=r"after sending 'websocket\.close'"):
            await app.send("http.response.body", body=b"more")
        await client.ended()
        response = client.response
        assert (response.status_code, response.reason_phrase) == (404, "Not Found")
        assert response.body == b"not found"
        assert response.headers["Content-Length"] == "9"
        assert response.headers.get_all("Content-Type") == ["text/html"]
        assert response.headers.get_all("X-A") == ["1", "é"]
        assert response.headers["Date"]


async def test_a_denial_may_be_streamed():
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        await app.send("http.response.start", status=599)
        await app.send("http.response.body", body=b"a", more_body=True)
        assert client.transport.writes
        await app.send("http.response.body", more_body=True)
        await app.send("http.response.body", body=b"b", more_body=True)
        assert not client.transport.is_closing()
        await app.send("http.response.body")
        await client.ended()
        assert client.response.status_code == 599
        assert client.response.body == b"ab"
        assert "Content-Length" not in client.response.headers


async def test_a_denial_waits_for_a_client_that_does_not_read():
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        client.transport.is_taken = False
        await app.send("http.response.start", status=500)
        await app.send("http.response.body", body=b"x" * 100_000, more_body=True)
        sending = asyncio.create_task(app.send("http.response.body", body=b"y"))
        await turns()
        assert not sending.done()
        client.transport.taken()
        await sending
        await client.ended()
        assert client.response.body == b"x" * 100_000 + b"y"


async def test_the_client_may_be_lost_within_a_denial():
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        await app.send("http.response.start", status=500)
        await app.send("http.response.body", body=b"x", more_body=True)
        client.transport.lose(None)
        await client.ended()
        with pytest.raises(ClientDisconnected):
            await app.send("http.response.body", body=b"y")


async def test_a_denial_without_a_body_is_sent_when_the_application_returns():
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        await app.send("http.response.start", status=401, headers=[(b"x-a", b"1")])
        app.returns()
        await client.ended()
        assert client.response.status_code == 401
        assert client.response.body == b""
        assert client.response.headers["X-A"] == "1"


async def test_a_denial_without_a_body_is_sent_when_the_application_raises(logged):
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        await app.send("http.response.start", status=401)
        app.raises(ValueError("no"))
        await client.ended()
        assert client.response.status_code == 401
        assert logged() == ["Exception in ASGI application"]


async def test_a_denial_that_is_not_whole_is_cut_off_when_the_application_returns():
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        await app.send("http.response.start", status=401)
        await app.send("http.response.body", body=b"a", more_body=True)
        app.returns()
        await client.ended()
        assert client.response.body == b"a"


@pytest.mark.parametrize("status", [0, 99, 600])
async def test_a_status_that_does_not_exist_is_refused(status):
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        with pytest.raises(RuntimeError, match=f"Invalid HTTP status code '{status}'"):
            await app.send("http.response.start", status=status)
        await app.send("close")
        await client.ended()
        assert client.response.status_code == 403


async def test_nothing_but_an_answer_is_sent_first():
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        for kind in "send", "http.response.body", "strange":
            with pytest.raises(RuntimeError, match=f"but got 'websocket.{kind}'"):
                await app.send(kind)
        await app.send("http.response.start", status=404)
        for kind in "accept", "close", "send", "http.response.start":
            with pytest.raises(RuntimeError, match=f"but got 'websocket.{kind}'"):
                await app.send(kind)
        await app.send("http.response.body")
        await client.ended()
        assert client.response.status_code == 404


@pytest.mark.parametrize(
    "header", [(b"x-a", b"1\r\nx-b: 2"), (b"x-a", b"\n"), (b"x\r", b""), (b"x-a", b"\0")]
)
async def test_no_header_ends_in_the_middle(header):
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        with pytest.raises(ValueError, match="No header may hold"):
            await app.send("accept", headers=[header])
        with pytest.raises(ValueError, match="No header may hold"):
            await app.send("accept", subprotocol=header[1].decode() + "\n")
        with pytest.raises(ValueError, match="No header may hold"):
            await app.send("http.response.start", status=404, headers=[header])
        assert client.transport.writes == []
        await app.send("accept")
        await until(lambda: client.response)
        assert client.response.status_code == 101


# The opening handshake


async def test_the_scope_says_what_the_client_asks_for():
    headers = [("Cookie", "a=é"), ("X-A", "1"), ("x-a", "2")]
    options: dict[str, Any] = {"client": {"subprotocols": ["a", "b"]}, "root_path": "/site"}
    async with opened(headers=headers, **options) as (client, app):
        scope = app.scope
        extensions = scope.pop("extensions")
        assert extensions == {"websocket.http.response": {}, EXTENSION: client.protocol}
        got = scope.pop("headers")
        assert [value for name, value in got if name == b"x-a"] == [b"1", b"2"]
        assert (b"cookie", b"a=\xe9") in got
        assert (b"host", b"127.0.0.1:8000") in got
        assert scope == {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "server": SERVER,
            "client": CLIENT,
            "root_path": "/site",
            "path": "/site/ws/café/",
            "raw_path": b"/site/ws/caf%C3%A9/",
            "query_string": b"a=%20b",
            "subprotocols": ["a", "b"],
            "state": {"of": "lifespan"},
        }
        assert scope["state"] is not client.protocol._app_state


async def test_a_connection_with_tls_is_wss():
    async with opened(client={"extra": {"sslcontext": object()}}) as (_, app):
        assert app.scope["scheme"] == "wss"


async def test_the_answer_has_what_the_application_and_the_server_say():
    state = ServerState()
    state.default_headers = [(b"server", b"uvicorn")]
    accept = {"subprotocol": "b", "headers": [(b"X-A", b"1"), (b"x-a", b"2")]}
    async with opened(accept, state=state, client={"subprotocols": ["a", "b"]}) as (client, _):
        assert client.core.subprotocol == "b"
        assert client.response.headers.get_all("X-A") == ["1", "2"]
        assert client.response.headers["Server"] == "uvicorn"
        assert b"\r\nx-a: 1\r\nx-a: 2\r\n" in client.transport.writes[0]


async def test_a_request_may_come_in_parts():
    for size in 1, 7, 100:
        app = Handler()
        async with served(app, sends=False) as client:
            client.feed(*chunks_of(client.request(("X-A", "é")), size))
            await until(lambda app=app: app.is_called)
            assert (b"x-a", b"\xe9") in app.scope["headers"]
            assert app.scope["path"] == "/ws/café/"
            await app.send("accept")
            client.sends("a")
            await app.receive()
            assert await app.reads(1) == ["a"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: c2hvcnQ=\r\nSec-WebSocket-Version: 13\r\n\r\n",
            400,
        ),
    ],
    ids=["no HTTP", "no upgrade", "POST", "a short key"],
)
async def test_a_bad_handshake_is_refused_without_the_application(request_, status):
    app = Handler()
    async with served(app, sends=False) as client:
        client.request()
        client.feed(request_)
        await client.ended()
        assert client.response.status_code == status
        assert not app.is_called


async def test_frames_in_front_of_the_answer_wait_for_it():
    app = Handler()
    async with served(app) as client:
        stream = frame(1, b"a") + frame(9, b"here?") + frame(1, b"b")
        client.feed(*chunks_of(stream[:-1], 3))
        await until(lambda: app.is_called)
        await app.receive()
        reading = asyncio.create_task(app.reads(2))
        await turns()
        await app.send("accept")
        client.feed(stream[-1:])
        assert await reading == ["a", "b"]
        await until(lambda: client.payloads(Opcode.PONG) == [b"here?"])


async def test_only_so_much_waits_for_the_answer():
    app = Handler()
    message = b"x" * 10_000
    async with served(app) as client:
        client.feed(*[frame(2, message)] * 20)
        assert not client.transport.is_reading
        assert len(client.transport.unread) == 20 - 7
        await until(lambda: app.is_called)
        await app.receive()
        await app.send("accept")
        assert await app.reads(20) == [message] * 20
        assert client.transport.is_reading


async def test_a_client_that_is_lost_before_the_answer_is_1006():
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        await app.receive()
        client.transport.lose(None)
        assert await app.disconnected() == (1006, None)
        with pytest.raises(ClientDisconnected):
            await app.send("accept")


async def test_a_client_that_leaves_while_it_is_accepted_is_lost():
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        await app.receive()
        client.transport.eof()
        await app.send("accept")
        with pytest.raises(ClientDisconnected):
            await app.says("a")
        assert await app.disconnected() == (1006, None)


async def test_an_application_that_raises_before_its_answer_is_500(logged):
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        app.raises(ValueError("no"))
        await client.ended()
        assert client.response.status_code == 500
        assert client.response.body == b"Internal Server Error"
        assert logged() == ["Exception in ASGI application"]


async def test_an_application_that_returns_without_an_answer_is_500(logged):
    app = Handler()
    async with served(app) as client:
        await until(lambda: app.is_called)
        app.returns()
        await client.ended()
        assert client.response.status_code == 500
        assert logged() == ["ASGI callable returned without completing handshake."]


async def test_an_application_that_is_cancelled_before_its_answer_is_500(logged):
    app = Handler()
    state = ServerState()
    async with served(app, state=state) as client:
        await until(lambda: app.is_called)
        (task,) = state.tasks
        task.cancel()
        await client.ended()
        assert client.response.status_code == 500
        assert logged() == ["Exception in ASGI application"]


async def test_an_application_may_be_no_coroutine():
    class Later:
        def __init__(self, scope: Any, receive: Any, send: Any) -> None:
            self._arguments = scope, receive, send

        def __await__(self) -> Any:
            return echo(*self._arguments).__await__()

    async with served(Later) as client:
        await until(lambda: client.response)
        client.sends("a")
        await client.sees("a")


@pytest.mark.parametrize(
    "app",
    [lambda scope, receive, send: None, lambda scope: None, lambda scope, receive, send: 1 / 0],
    ids=["returns nothing", "takes one argument", "raises"],
)
async def test_an_application_that_can_not_be_awaited_is_500(app, logged):
    async with served(app) as client:
        await client.ended()
        assert client.response.status_code == 500
        assert logged() == ["Exception in ASGI application"]


async def test_a_configuration_that_is_not_loaded_is_loaded():
    config = Config(echo, lifespan="off", log_config=None)
    protocol.WebSocketProtocol(config, ServerState(), {})
    assert config.loaded


# permessage-deflate


def bits(client: Client) -> list[bool]:
    """Whether each of the writes was a compressed message."""
    return [bool(data[0] & 0x40) for data in client.transport.writes[1:]]


async def test_what_is_long_enough_is_compressed():
    text, binary = "so long " * 1000, b"\0" * 1000
    short, random = "so long", os.urandom(1000)
    async with opened(client={"extensions": DEFLATE}) as (client, app):
        offered = client.response.headers["Sec-WebSocket-Extensions"]
        assert "client_no_context_takeover" in offered
        assert "server_no_context_takeover" in offered
        for message in text, binary, short, random, text:
            await app.says(message)
            await turns()
        await client.sees(text, binary, short, random, text)
        assert bits(client) == [True, True, False, False, True]
        client.sends(text, binary, short, random, text)
        assert await app.reads(5) == [text, binary, short, random, text]


@pytest.mark.parametrize(
    "offer",
    [
        {"client_no_context_takeover": True},
        {"server_no_context_takeover": True},
        {"server_max_window_bits": 15},
        {"client_max_window_bits": 10},
    ],
    ids=str,
)
async def test_the_client_never_keeps_a_context(offer):
    text = "so long " * 1000
    extensions = [ClientPerMessageDeflateFactory(**offer)]
    async with opened(client={"extensions": extensions}) as (client, app):
        offered = client.response.headers["Sec-WebSocket-Extensions"]
        assert "client_no_context_takeover" in offered
        client.sends(text, text)
        assert await app.reads(2) == [text, text]
        await app.says(text)
        await client.sees(text)
        assert bits(client) == [True]


async def test_a_client_with_a_small_window_gets_plain_messages_alone():
    text = "so long " * 1000
    extensions = [ClientPerMessageDeflateFactory(server_max_window_bits=10)]
    async with opened(client={"extensions": extensions}) as (client, app):
        assert "server_max_window_bits=10" in client.response.headers["Sec-WebSocket-Extensions"]
        await app.says(text)
        await client.sees(text)
        assert bits(client) == [False]
        client.sends(text)
        assert await app.reads(1) == [text]


async def test_nothing_is_compressed_where_that_is_off():
    options: dict[str, Any] = {"client": {"extensions": DEFLATE}, "ws_per_message_deflate": False}
    async with opened(**options) as (client, app):
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        await app.says("so long " * 1000)
        await client.sees("so long " * 1000)
        assert bits(client) == [False]
