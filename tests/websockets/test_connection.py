"""The conversation with a server, and writing in it, below what a handler sees."""

from __future__ import annotations

import asyncio

import pytest

from django_ws_dispatch.decorators import idle_timeout
from django_ws_dispatch.exceptions import WebSocketDisconnect
from django_ws_dispatch.websockets import WebSocketState
from tests.websockets.echoes import both_forms, echo, lines

from ..kit.fake_server import ClientDisconnected, hurry, only_socket, serving
from ..kit.members import text as text_message
from ..kit.waiting import DEADLINE, until

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    hurry(monkeypatch)


async def test_sends_of_several_tasks_go_out_in_the_order_of_the_calls():
    async def handler(websocket):
        await websocket.accept()
        server.block()
        async with asyncio.TaskGroup() as tasks:
            for number in range(20):
                tasks.create_task(websocket.send(str(number)))
            await asyncio.sleep(0.01)
            server.unblock()

    async with serving(handler, started=False) as server:
        server.start()
        await server.ended()
        assert server.data == [str(number) for number in range(20)]
        assert server.closed == (1000, "")


async def test_group_messages_and_sends_of_the_handler_keep_the_order_of_the_calls():
    async def handler(websocket):
        await websocket.accept()
        websocket.connection.writer.deliver(text_message("0"))
        await websocket.send("1")
        server.block()
        websocket.connection.writer.deliver(text_message("2"))
        websocket.connection.writer.deliver(text_message("3"))
        sending = asyncio.create_task(websocket.send("4"))
        await asyncio.sleep(0)
        websocket.connection.writer.deliver(text_message("5"))
        await asyncio.sleep(0.01)
        server.unblock()
        await sending
        await websocket.send("6")

    async with serving(handler, started=False) as server:
        server.start()
        await server.ended()
        assert server.data == [*"0123456"]


@both_forms
async def test_a_group_message_waits_behind_the_handlers_own_blocked_send(handler):
    async with serving(handler) as server:
        await server.accepted()
        server.block()
        server.message("1")
        await until(lambda: server.unread == 0)
        await asyncio.sleep(0.01)
        only_socket().connection.writer.deliver(text_message("2"))
        server.message("3")
        await asyncio.sleep(0.01)
        server.unblock()
        assert await server.sends(3) == ["1", "2", "3"]


async def test_a_delivery_that_does_not_suspend_makes_no_task():
    async with serving(echo) as server:
        await server.accepted()
        before = asyncio.all_tasks()
        only_socket().connection.writer.deliver(text_message("x"))
        assert server.data == ["x"]
        assert asyncio.all_tasks() == before


@both_forms
async def test_over_the_outbox_a_slow_client_is_closed_with_1013_and_nothing_more_is_sent(
    handler, caplog
):
    async with serving(handler, WEBSOCKET_OUTBOX_SIZE=1000) as server:
        await server.accepted()
        socket = only_socket()
        server.block()
        for _ in range(11):
            socket.connection.writer.deliver(text_message("x" * 100, 100))
        assert socket.close_code == 1013
        ((level, line),) = lines(caplog)
        assert level == "WARNING"
        assert "WEBSOCKET_OUTBOX_SIZE" in line
        assert "/ws/" in line
        socket.connection.writer.deliver(text_message("late", 4))
        server.unblock()
        await server.ended()
        assert server.data == ["x" * 100]
        assert server.closed == (1013, "slow client")


async def test_a_handlers_own_send_that_is_blocked_ends_when_the_socket_is_kicked(monkeypatch):
    hurry(monkeypatch, BUSY_GRACE=0.05, CLOSE_GRACE=0.05)
    async with serving(echo) as server:
        await server.accepted()
        transport = server.stall()
        server.block()
        server.message("x")
        await until(lambda: server.unread == 0)
        await asyncio.sleep(0.01)
        only_socket().kick(4403, "out")
        await server.ended()
        assert transport.aborted


@both_forms
async def test_a_send_behind_a_blocked_delivery_ends_when_the_client_goes(handler, caplog):
    async with serving(handler) as server:
        await server.accepted()
        server.block()
        for text in "ab":
            only_socket().connection.writer.deliver(text_message(text))
        server.message("mine")
        await until(lambda: server.unread == 0)
        await asyncio.sleep(0.01)
        server.leave()
        await server.ended()
    assert not lines(caplog)


async def test_what_a_server_raises_of_its_own_in_a_delivery_stays_with_that_socket(monkeypatch):
    hurry(monkeypatch, WAKE_GRACE=0.02)
    async with serving(echo) as server:
        await server.accepted()
        server.error = ValueError("a bug of the server's")
        only_socket().connection.writer.deliver(text_message("x"))
        await server.ended()


async def test_the_sweep_survives_a_server_whose_close_fails(monkeypatch):
    hurry(monkeypatch, WAKE_GRACE=0.02)

    @idle_timeout(0.02)
    async def handler(websocket):
        await echo(websocket)

    async with serving(handler) as server:
        await server.accepted()
        server.error = ValueError("a bug of the server's")
        async with serving(handler) as other:
            await other.accepted()
            await other.ended()
            assert other.closed is not None
            assert other.closed[0] == 4408


async def test_a_writer_whose_server_fails_leaves_no_send_hanging():
    async def handler(websocket):
        await websocket.accept()
        server.block()
        websocket.connection.writer.deliver(text_message("x"))
        sending = asyncio.create_task(websocket.send("mine"))
        await asyncio.sleep(0.01)
        server.error = ValueError("a bug of the server's")
        server.unblock()
        with pytest.raises(WebSocketDisconnect):
            await asyncio.wait_for(sending, DEADLINE)

    async with serving(handler, started=False) as server:
        server.start()
        await server.ended()


async def sends_and_sends(websocket):
    await websocket.accept()
    while True:
        await websocket.send("x")


async def raw_sends_and_sends(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        await send({"type": "websocket.send", "text": "x"})


@pytest.mark.parametrize("handler", [sends_and_sends, raw_sends_and_sends])
async def test_a_handler_that_does_nothing_but_send_leaves_the_loop_its_turn(handler):
    async with serving(handler) as server:
        await server.sends(1)
        assert len(server.data) < 5000
        server.leave()
        await server.ended()


async def test_a_cancelled_send_that_waits_in_the_outbox_is_not_sent():
    async def handler(websocket):
        await websocket.accept()
        server.block()
        websocket.connection.writer.deliver(text_message("1"))
        sending = asyncio.create_task(websocket.send("2"))
        await asyncio.sleep(0)
        sending.cancel()
        websocket.connection.writer.deliver(text_message("3"))
        await asyncio.sleep(0.01)
        server.unblock()

    async with serving(handler, started=False) as server:
        server.start()
        await server.ended()
        assert server.data == ["1", "3"]


async def test_a_delivery_after_the_client_left_is_quiet():
    async with serving(echo) as server:
        await server.accepted()
        socket = only_socket()
        server.error = ClientDisconnected()
        socket.connection.writer.deliver(text_message("x"))
        assert socket.ready_state is WebSocketState.CLOSED
        socket.connection.writer.deliver(text_message("x"))
        server.leave()
        await server.ended()


async def test_a_send_that_fails_before_reading_ahead_has_woken_knows_the_clients_code():
    ends = []

    async def handler(websocket):
        await websocket.receive()
        await until(lambda: server.waiting)
        server.leave(4001, "bye")
        try:
            await websocket.send("x")
        except WebSocketDisconnect as exc:
            ends.append((exc.code, exc.reason))
            raise

    async with serving(handler) as server:
        server.message("begin")
        await server.ended()
    assert ends == [(4001, "bye")]


async def test_a_send_that_fails_while_the_server_bears_one_reader_only_is_a_disconnect():
    ends = []

    async def handler(websocket):
        await websocket.receive()
        await until(lambda: server.waiting)
        server.one_reader = True
        server.error = ClientDisconnected()
        try:
            await websocket.send("x")
        except WebSocketDisconnect as exc:
            ends.append(exc.code)
            raise

    async with serving(handler) as server:
        server.message("begin")
        await server.ended()
    assert ends == [1006]


class PayloadExceededError(RuntimeError):
    """What daphne raises in ``send()`` for more than 1 MiB; the client stays."""


async def sends_too_much(websocket):
    await websocket.accept()
    server = websocket.scope["server_of_the_test"]
    server.error = PayloadExceededError("too big")
    try:
        await websocket.send("x")
    except PayloadExceededError:
        server.error = None
        await websocket.send("too big?")


async def raw_sends_too_much(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    server = scope["server_of_the_test"]
    server.error = PayloadExceededError("too big")
    try:
        await send({"type": "websocket.send", "text": "x"})
    except PayloadExceededError:
        server.error = None
        await send({"type": "websocket.send", "text": "too big?"})


@pytest.mark.parametrize("handler", [sends_too_much, raw_sends_too_much], ids=["websocket", "raw"])
async def test_a_message_that_the_server_refuses_is_the_senders_error_and_ends_nothing(handler):
    async with serving(handler, started=False) as server:
        server.scope["server_of_the_test"] = server
        server.start()
        await server.ended()
        assert server.data == ["too big?"]
        assert server.closed == (1000, "")


@pytest.mark.parametrize("blocked", [False, True], ids=["at-once", "behind-another"])
async def test_a_delivery_that_the_server_refuses_closes_that_socket_with_1011(blocked, caplog):
    async with serving(echo) as server:
        await server.accepted()
        socket = only_socket()
        if blocked:
            server.block()
            socket.connection.writer.deliver(text_message("first", 5))
        server.refused = PayloadExceededError("too big")
        socket.connection.writer.deliver(text_message("x"))
        server.unblock()
        await server.ended()
        assert server.data == (["first"] if blocked else [])
        assert server.closed == (1011, "")
    ((level, line),) = lines(caplog)
    assert level == "ERROR"
    assert "send()" in line


async def test_a_message_that_is_refused_behind_others_drops_no_close_frame():
    async with serving(echo) as server:
        await server.accepted()
        socket = only_socket()
        server.block()
        server.refused = PayloadExceededError("too big")
        for text in ("first", "x"):
            socket.connection.writer.deliver(text_message(text))
        socket.kick(4403)
        server.unblock()
        await server.ended()
        assert server.data == ["first"]
        assert server.closed == (4403, "")


async def test_a_refused_message_of_the_handler_that_had_to_wait_is_its_error_as_well():
    async def handler(websocket):
        await websocket.accept()
        server.block()
        server.refused = PayloadExceededError("too big")
        websocket.connection.writer.deliver(text_message("first", 5))
        sending = asyncio.create_task(websocket.send("x"))
        await asyncio.sleep(0)
        server.unblock()
        with pytest.raises(PayloadExceededError):
            await sending
        await websocket.send("last")

    async with serving(handler, started=False) as server:
        server.start()
        await server.ended()
        assert server.data == ["first", "last"]
        assert server.closed == (1000, "")


async def test_a_close_frame_waits_behind_a_group_message_larger_than_the_outbox():
    async with serving(echo, WEBSOCKET_OUTBOX_SIZE=1000) as server:
        await server.accepted()
        socket = only_socket()
        server.block()
        socket.connection.writer.deliver(text_message("x" * 2000, 2000))
        socket.kick(4401, "logged out")
        server.unblock()
        await server.ended()
        assert server.data == ["x" * 2000]
        assert server.closed == (4401, "logged out")


async def test_what_a_callback_closes_goes_out_in_a_task():
    async def send(event):
        async with asyncio.timeout(DEADLINE):
            await server.send(event)

    async def handler(websocket):
        websocket.connection.writer.server_send = send
        await echo(websocket)

    async with serving(handler) as server:
        await server.accepted()
        socket, loop = only_socket(), asyncio.get_running_loop()
        loop.call_soon(socket.kick, 4408, "idle timeout")
        await server.ended()
        assert server.closed == (4408, "idle timeout")
