"""A socket on the protocol class of this package: what it reads and writes without events."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from django.test import override_settings
from websockets.frames import Opcode

from django_ws_dispatch.decorators import max_message_size
from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.exceptions import WebSocketDisconnect
from django_ws_dispatch.groups import Group
from django_ws_dispatch.uvicorn import WebSocketProtocol
from django_ws_dispatch.websockets.direct import DirectReader, DirectWriter
from django_ws_dispatch.websockets.reader import Reader
from django_ws_dispatch.websockets.writer import Writer

from ..kit.fake_server import hurry, no_pages
from ..kit.waiting import until
from ..uvicorn.wire import DEFLATE, Client, served

pytestmark = pytest.mark.asyncio

Wrap = Callable[[Any], Any]


@asynccontextmanager
async def on_the_class(
    handler: object, *, wrap: Wrap | None = None, wait: bool = True, **options: Any
) -> AsyncIterator[Client]:
    """Yield the client of a socket of a site; what is in capitals is a setting."""
    settings = {name: options.pop(name) for name in list(options) if name.isupper()}
    with override_settings(
        WEBSOCKET_HANDLERS={"ws/café/": handler}, WEBSOCKET_ALLOWED_ORIGINS=["*"], **settings
    ):
        app: Any = WebSocketDispatcher(no_pages)
        async with served(wrap(app) if wrap else app, **options) as client:
            if wait:
                await until(lambda: client.response is not None)
            yield client


async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


def socket() -> Any:
    (only,) = connections.local().sockets
    return only


async def test_messages_of_both_kinds_come_and_go():
    async with on_the_class(echo) as client:
        client.sends("one", b"two", "", "é" * 1000)
        await client.sees("one", b"two", "", "é" * 1000)
        assert type(socket().connection.reader) is DirectReader
        assert type(socket().connection.writer) is DirectWriter
        client.closes(4000, "bye")
        assert (await client.ended()).code == 4000


async def test_the_handler_is_told_the_code_of_the_client():
    told = []

    async def handler(websocket: Any) -> None:
        try:
            while True:
                await websocket.receive()
        except WebSocketDisconnect as exc:
            told.append((exc.code, exc.reason))

    async with on_the_class(handler) as client:
        client.sends("one")
        client.closes(4000, "bye")
        await client.ended()
    assert told == [(4000, "bye")]


async def test_all_that_came_before_the_close_is_read():
    got, left = [], asyncio.Event()

    async def handler(websocket: Any) -> None:
        await websocket.accept()
        await left.wait()
        got.extend([message async for message in websocket])

    async with on_the_class(handler) as client:
        client.sends(*map(str, range(20)))
        client.closes()
        await client.ended()
        left.set()
        await until(lambda: len(got) == 20)
    assert got == [str(number) for number in range(20)]


async def test_a_message_over_the_limit_of_the_handler_is_1009(caplog):
    async with on_the_class(max_message_size(10)(echo)) as client:
        client.sends("x" * 10)
        await client.sees("x" * 10)
        client.sends("x" * 11)
        assert (await client.ended()).code == 1009
    assert "WEBSOCKET_MAX_MESSAGE_SIZE or @max_message_size (10)" in caplog.text


async def test_a_message_over_the_limit_is_refused_at_its_head_and_a_bomb_before_it_is_inflated():
    head = bytes((0x81, 0x80 | 126, 0x10, 0x00))
    bomb = zlib.compress(bytes(1024 * 1024), wbits=-15)
    async with on_the_class(echo, WEBSOCKET_MAX_MESSAGE_SIZE=1000) as client:
        client.feed(head)
        await until(lambda: client.close is not None)
        assert client.close.code == 1009
    deflate = {"extensions": DEFLATE}
    async with on_the_class(echo, WEBSOCKET_MAX_MESSAGE_SIZE=2000, client=deflate) as client:
        client.feed(bytes((0xC2, 0x80 | 126)) + len(bomb).to_bytes(2) + bytes(4) + bomb)
        assert (await client.ended()).code == 1009


async def test_too_many_messages_are_4429():
    async with on_the_class(echo, WEBSOCKET_RATE_LIMIT="2/h") as client:
        client.sends("1", "2", "3")
        assert (await client.ended()).code == 4429
        assert client.messages == ["1", "2"]


def wrapped_receive(app: Any) -> Any:
    async def wrapper(scope: Any, receive: Any, send: Any) -> None:
        async def receiving() -> Any:
            seen.append((await_event := await receive())["type"])
            return await_event

        await app(scope, receiving, send)

    return wrapper


def wrapped_send(app: Any) -> Any:
    async def wrapper(scope: Any, receive: Any, send: Any) -> None:
        async def sending(event: Any) -> None:
            seen.append(event["type"])
            await send(event)

        await app(scope, receive, sending)

    return wrapper


seen: list[str] = []


@pytest.mark.parametrize(
    ("wrap", "types"),
    [
        (wrapped_receive, ["websocket.connect", "websocket.receive", "websocket.disconnect"]),
        (wrapped_send, ["websocket.accept", "websocket.send", "websocket.close"]),
    ],
)
async def test_what_is_wrapped_around_either_sees_every_event(wrap: Wrap, types: list[str]):
    seen.clear()

    async def handler(websocket: Any) -> None:
        await websocket.send(await websocket.receive())
        if wrap is wrapped_receive:
            with pytest.raises(WebSocketDisconnect):
                await websocket.receive()

    async with on_the_class(handler, wrap=wrap) as client:
        client.sends("one")
        await client.sees("one")
        if wrap is wrapped_receive:
            client.closes()
        await client.ended()
    assert seen == types


async def test_a_socket_that_is_wrapped_has_the_plain_halves():
    async with on_the_class(echo, wrap=wrapped_send) as client:
        client.sends("one")
        await client.sees("one")
        assert type(socket().connection.reader) is Reader
        assert type(socket().connection.writer) is Writer
        assert socket().latency is None


async def member(websocket: Any) -> None:
    async with websocket.join("room"):
        async for message in websocket:
            await Group("room").asend(message)
            await websocket.send("mine")


async def test_a_groups_message_and_ones_own_come_in_the_order_of_the_calls():
    async with on_the_class(member) as client:
        client.sends("one", b"two")
        await client.sees("one", "mine", b"two", "mine")


async def test_a_frame_is_made_once_for_all_members():
    made = []
    make = WebSocketProtocol.make_frame

    def counting(self: Any, message: Any) -> bytes:
        made.append(message)
        return make(self, message)

    async def handler(websocket: Any) -> None:
        async with websocket.join("room"):
            await websocket.wait_closed()

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(WebSocketProtocol, "make_frame", counting)
        text = "x" * 1000
        async with (
            on_the_class(handler) as one,
            served_again(one) as two,
            served_again(one, deflate=True) as three,
            served_again(one, deflate=True) as four,
        ):
            await until(lambda: len(connections.local().sockets) == 4)
            await until(lambda: all(client.response for client in (one, two, three, four)))
            await Group("room").asend(text)
            for client in (one, two, three, four):
                await client.sees(text)
            assert made == [text, text]  # plain, and compressed
            assert len(three.transport.writes[-1]) < 100 < len(one.transport.writes[-1])


@asynccontextmanager
async def served_again(client: Client, *, deflate: bool = False) -> AsyncIterator[Client]:
    """Another client of the same site."""
    app = client.protocol._shared.app
    options: Any = {"client": {"extensions": DEFLATE}} if deflate else {}
    async with served(app, **options) as other:
        yield other


async def test_messages_of_one_turn_leave_in_one_write():
    async def handler(websocket: Any) -> None:
        async with websocket.join("room"):
            async for _ in websocket:
                for number in range(8):
                    await Group("room").asend(str(number))
                await websocket.send("done")

    async with on_the_class(handler) as client:
        before = len(client.transport.writes)
        client.sends("go")
        await client.sees(*map(str, range(8)), "done")
        assert len(client.transport.writes) == before + 1


async def test_a_client_that_takes_nothing_is_closed_with_1013_once_its_outbox_is_full():
    async def handler(websocket: Any) -> None:
        async with websocket.join("room"):
            await websocket.wait_closed()

    async with on_the_class(handler, WEBSOCKET_OUTBOX_SIZE=100_000) as client:
        await until(lambda: bool(connections.local().sockets))
        await until(lambda: socket().joined)
        client.transport.is_taken = False
        one = socket()
        for _ in range(40):
            await Group("room").asend("x" * 20_000)
            await asyncio.sleep(0)
        assert one.close_code == 1013


async def test_nothing_is_lost_for_one_that_takes_it_late():
    async def handler(websocket: Any) -> None:
        async with websocket.join("room"):
            await websocket.wait_closed()

    async with on_the_class(handler) as client:
        await until(lambda: bool(connections.local().sockets) and socket().joined)
        client.transport.is_taken = False
        texts = [f"{number}".zfill(20_000) for number in range(20)]
        for text in texts:
            await Group("room").asend(text)
            await asyncio.sleep(0)
        client.transport.taken()
        await client.sees(*texts)


async def test_a_send_waits_for_a_client_that_takes_nothing():
    done = []

    async def handler(websocket: Any) -> None:
        await websocket.receive()
        for number in range(20):
            await websocket.send("x" * 20_000)
            done.append(number)
        await websocket.receive()

    async with on_the_class(handler) as client:
        client.transport.is_taken = False
        client.sends("go")
        await until(lambda: bool(done))
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(done) < 20
        client.transport.taken()
        await until(lambda: len(done) == 20)


async def test_a_ping_is_answered_while_the_handler_does_something_else(monkeypatch):
    hurry(monkeypatch)
    over = asyncio.Event()

    async def handler(websocket: Any) -> None:
        await websocket.receive()
        await over.wait()

    async with on_the_class(handler) as client:
        client.sends(*["x"] * 50)
        client.core.send_ping(b"there")
        client.flush()
        await until(lambda: client.payloads(Opcode.PONG) == [b"there"])
        over.set()
        await client.ended()


async def test_a_read_that_is_cancelled_loses_no_message():
    got = []

    async def handler(websocket: Any) -> None:
        await websocket.accept()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await websocket.receive()
        ready.set()
        got.extend([message async for message in websocket])

    ready = asyncio.Event()
    async with on_the_class(handler) as client:
        await ready.wait()
        client.sends("one", "two")
        client.closes()
        await client.ended()
        await until(lambda: len(got) == 2)
    assert got == ["one", "two"]


async def test_a_flood_that_is_read_at_once_leaves_others_their_turn():
    """Who never waits for what has come would keep the loop to itself."""
    turns = []

    async def handler(websocket: Any) -> None:
        async for message in websocket:
            if message == "last":
                turns.append("end")

    async def beat() -> None:
        while "end" not in turns:
            turns.append("turn")
            await asyncio.sleep(0)

    async with on_the_class(handler) as client:
        for _ in range(1000):
            client.core.send_text(b"x")
        client.core.send_text(b"last")
        flood = b"".join(client.core.data_to_send())
        beating = asyncio.create_task(beat())
        client.feed(flood)
        await until(lambda: "end" in turns)
        await beating
        assert turns.count("turn") > 10


async def test_the_latency_is_that_of_the_last_pong():
    told = []

    async def handler(websocket: Any) -> None:
        told.append(websocket.latency)
        await websocket.accept()
        await until(lambda: websocket.latency is not None)
        told.append(websocket.latency)

    async with on_the_class(handler, ws_ping_interval=0.01, ws_ping_timeout=20) as client:
        await client.ended()
    assert told[0] is None
    assert isinstance(told[1], float)
    assert told[1] > 0


async def test_the_drain_of_the_site_is_told_to_the_connection():
    async with on_the_class(echo, WEBSOCKET_DRAIN=3) as client:
        client.sends("one")
        await client.sees("one")
        assert client.protocol.drain == 3.0


async def raw_echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


async def test_a_raw_handler_speaks_asgi_on_it():
    async with on_the_class(raw_echo) as client:
        client.sends("one", b"two")
        await client.sees("one", b"two")
        client.closes(4001)
        assert (await client.ended()).code == 4001
