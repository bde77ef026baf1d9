"""Reading: straight from the server, ahead into the inbox, and within limits."""

from __future__ import annotations

import asyncio

import pytest

from django_ws_dispatch.decorators import max_message_size, rate_limit
from django_ws_dispatch.exceptions import WebSocketDisconnect
from django_ws_dispatch.websockets import WebSocketState
from django_ws_dispatch.websockets.state import DETACHED
from tests.websockets.echoes import both_forms, echo, lines

from ..kit.fake_server import ClientDisconnected, hurry, only_socket, serving
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    hurry(monkeypatch)


@both_forms
@pytest.mark.parametrize(
    ("fits", "over"),
    [("x" * 10, "x" * 11), ("é" * 5, "é" * 5 + "x"), ("€€€x", "€€€xx"), (b"x" * 10, b"x" * 11)],
    ids=["ascii", "two-byte", "three-byte", "binary"],
)
async def test_a_message_of_exactly_the_limit_in_bytes_passes_and_one_byte_more_is_1009(
    handler, fits, over, caplog
):
    async with serving(handler, WEBSOCKET_MAX_MESSAGE_SIZE=10) as server:
        server.message(fits)
        assert await server.sends(1) == [fits]
        server.message(over)
        await server.ended()
        assert server.closed is not None
        assert server.closed[0] == 1009
    ((level, line),) = lines(caplog)
    assert level == "WARNING"
    assert "WEBSOCKET_MAX_MESSAGE_SIZE" in line
    assert "/ws/" in line
    assert "11 bytes" in line


@both_forms
async def test_the_rate_limit_closes_with_4429_and_the_log_names_the_setting(handler, caplog):
    async with serving(handler, WEBSOCKET_RATE_LIMIT="3/h") as server:
        server.message("1", "2", "3", "4", "5")
        await server.ended()
        assert server.data == ["1", "2", "3"]
        assert server.closed is not None
        assert server.closed[0] == 4429
    ((level, line),) = lines(caplog)
    assert level == "WARNING"
    assert "WEBSOCKET_RATE_LIMIT" in line


@both_forms
async def test_the_idle_limit_closes_with_4408_and_the_log_names_the_setting(handler, caplog):
    async with serving(handler, WEBSOCKET_IDLE_TIMEOUT=0.05) as server:
        server.message("1")
        assert await server.sends(1) == ["1"]
        await server.ended()
        assert server.closed is not None
        assert server.closed[0] == 4408
    ((level, line),) = lines(caplog)
    assert level == "WARNING"
    assert "WEBSOCKET_IDLE_TIMEOUT" in line


async def test_decorators_go_before_the_settings():
    @max_message_size(4)
    @rate_limit("2/h")
    async def handler(websocket):
        await echo(websocket)

    async with serving(handler, WEBSOCKET_RATE_LIMIT="99/h") as server:
        server.message("1", "2", "3")
        await server.ended()
        assert server.data == ["1", "2"]
        assert server.closed is not None
        assert server.closed[0] == 4429
    async with serving(handler, WEBSOCKET_MAX_MESSAGE_SIZE=99) as server:
        server.message("12345")
        await server.ended()
        assert server.closed is not None
        assert server.closed[0] == 1009


async def test_nothing_is_read_after_a_limit_was_exceeded():
    seen = []

    async def handler(websocket):
        async for message in websocket:
            seen.append(message)

    async with serving(handler, WEBSOCKET_MAX_MESSAGE_SIZE=3) as server:
        server.message("1", "toobig", "2")
        await server.ended()
    assert seen == ["1"]


@both_forms
async def test_a_handler_that_reads_sees_the_disconnect_at_once(handler, monkeypatch):
    hurry(monkeypatch, INTERVAL=3600)
    async with serving(handler) as server:
        await server.accepted()
        server.leave()
        await server.ended()


@pytest.mark.parametrize("server_name", ["uvicorn", "hypercorn", "daphne", "granian"])
async def test_receives_after_the_disconnect_raise_at_once_on_every_server(server_name):
    codes = []

    async def handler(websocket):
        for _ in range(3):
            with pytest.raises(WebSocketDisconnect) as caught:
                await websocket.receive()
            codes.append((caught.value.code, caught.value.reason))
        async for _ in websocket:
            codes.append("a message")

    async with serving(handler, server=server_name) as server:
        await server.accepted()
        server.leave(4321, "so long")
        await server.ended()
    assert codes == [(4321, "so long")] * 3


async def test_a_second_receive_at_once_raises_runtime_error():
    raised = []

    async def handler(websocket):
        first = asyncio.create_task(websocket.receive())
        await asyncio.sleep(0)
        for read in (websocket.receive, websocket.wait_closed, websocket.__anext__):
            with pytest.raises(RuntimeError, match="read already"):
                await read()
        raised.append(await first)

    async with serving(handler) as server:
        await server.accepted()
        server.message("mine")
        await server.ended()
    assert raised == ["mine"]


async def test_a_second_receive_raises_runtime_error_while_the_first_waits_for_reading_ahead():
    async def handler(websocket):
        await websocket.accept()
        await until(lambda: websocket.connection.reader.ahead)
        first = asyncio.create_task(websocket.receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="read already"):
            await websocket.receive()
        await websocket.send(await first)

    async with serving(handler) as server:
        await server.accepted()
        await until(lambda: only_socket().connection.reader.is_waiting)
        server.message("mine")
        assert await server.sends(1) == ["mine"]


async def test_cancelling_a_receive_loses_no_message():
    async def handler(websocket):
        for _ in range(20):
            try:
                async with asyncio.timeout(0.005):
                    await websocket.receive()
            except TimeoutError:
                pass
            else:
                raise AssertionError("nothing was sent yet")
        await websocket.send("ready")
        await websocket.send(await websocket.receive() + await websocket.receive())

    async with serving(handler) as server:
        await server.sends(1)
        server.message("a", "b")
        assert await server.sends(2) == ["ready", "ab"]


async def test_order_holds_between_reading_ahead_and_reading():
    got = []

    async def handler(websocket):
        async for message in websocket:
            got.append(int(message))
            if len(got) % 7 == 0:
                await until(lambda: websocket.connection.reader.state == DETACHED)
            elif len(got) % 3 == 0:
                await asyncio.sleep(0)

    async with serving(handler) as server:
        for number in range(100):
            server.message(str(number))
            if number % 5 == 0:
                await asyncio.sleep(0.001)
        await until(lambda: len(got) == 100)
    assert got == list(range(100))


async def test_reading_ahead_stops_at_64_messages_for_a_handler_that_has_read():
    async def handler(websocket):
        await websocket.receive()
        await go.wait()
        async for message in websocket:
            await websocket.send(message)

    go = asyncio.Event()
    async with serving(handler) as server:
        server.message("first")
        await until(lambda: server.unread == 0)
        server.message(*map(str, range(100)))
        await until(lambda: only_socket().connection.reader.full_since is not None)
        assert server.unread == 100 - 64
        go.set()
        assert await server.sends(100) == [str(number) for number in range(100)]


@pytest.mark.parametrize(
    "message",
    ["x" * 300, "€" * 150, "\U0001f600" + "x" * 75, b"x" * 300],
    ids=["ascii", "two bytes each", "four bytes each", "binary"],
)
async def test_reading_ahead_stops_at_the_size_of_one_message_in_memory(message):
    async def handler(websocket):
        await websocket.receive()
        await go.wait()
        async for message in websocket:
            await websocket.send(message)

    go = asyncio.Event()
    async with serving(handler, WEBSOCKET_MAX_MESSAGE_SIZE=1000) as server:
        server.message("first")
        await until(lambda: server.unread == 0)
        server.message(*[message] * 10)
        await until(lambda: only_socket().connection.reader.full_since is not None)
        assert server.unread == 6
        go.set()
        await server.sends(10)


async def test_a_handler_that_never_reads_loses_the_oldest_messages_with_one_log_line(caplog):
    async def handler(websocket):
        await websocket.accept()
        await go.wait()
        async for message in websocket:
            await websocket.send(message)

    go = asyncio.Event()
    async with serving(handler) as server:
        server.message(*map(str, range(200)))
        await until(lambda: server.unread == 0)
        ((level, line),) = lines(caplog)
        assert level == "WARNING"
        assert "wait_closed()" in line
        go.set()
        await server.sends(63)
        await asyncio.sleep(0.01)
        assert server.data == [str(number) for number in range(200)][-len(server.data) :]
        assert 63 <= len(server.data) <= 64


async def test_the_inbox_of_a_handler_that_never_reads_is_bounded_in_bytes():
    async def handler(websocket):
        await websocket.accept()
        await asyncio.Event().wait()

    async with serving(handler, WEBSOCKET_MAX_MESSAGE_SIZE=1000) as server:
        server.message(*["x"] * 60, *["y" * 900] * 50, *["€" * 300] * 50)
        await until(lambda: server.unread == 0)
        inbox = only_socket().connection.reader.inbox
        assert inbox is not None
        assert 0 < inbox.size <= 1000


async def test_a_server_whose_receive_raises_is_a_disconnect():
    async def handler(websocket):
        async for _ in websocket:
            await until(lambda: websocket.ready_state is WebSocketState.CLOSED)
        with pytest.raises(WebSocketDisconnect):
            await websocket.receive()

    async with serving(handler) as server:
        await server.accepted()
        server.message("x")
        await until(lambda: server.unread == 0)
        server.feed({})  # KeyError: no type
        await server.ended()


async def test_a_server_whose_receive_fails_when_a_client_has_left_is_a_disconnect_all_the_same():
    async def handler(websocket):
        await websocket.accept()
        server.error = ClientDisconnected()
        server.receive_error = ValueError("a bug of a middleware's")
        with pytest.raises(WebSocketDisconnect):
            await websocket.send("x")
        raise WebSocketDisconnect

    async with serving(handler, started=False) as server:
        server.start()
        await server.ended()
