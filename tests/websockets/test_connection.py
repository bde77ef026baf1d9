"""Reading, reading ahead, limits and writing, below what a handler sees."""

from __future__ import annotations

import asyncio

import pytest

from django_ws_dispatch.decorators import idle_timeout, max_message_size, rate_limit
from django_ws_dispatch.exceptions import WebSocketDisconnect
from django_ws_dispatch.websockets import WebSocketState
from django_ws_dispatch.websockets.state import DETACHED

from ..kit.fake_server import ClientDisconnected, hurry, only_socket, serving
from ..kit.members import text as text_message
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    hurry(monkeypatch)


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def raw_echo(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        key = "text" if event.get("text") is not None else "bytes"
        await send({"type": "websocket.send", key: event[key]})


both_forms = pytest.mark.parametrize("handler", [echo, raw_echo], ids=["websocket", "raw"])


def lines(caplog):
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name.startswith("django_ws_dispatch")
    ]


# Limits


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


# Reading


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


async def test_a_reader_that_stays_away_while_its_inbox_is_full_is_closed_with_1013(
    monkeypatch, caplog
):
    hurry(monkeypatch, BUSY_GRACE=0.05)
    ended = []

    async def handler(websocket):
        await websocket.receive()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(websocket.close_code)

    async with serving(handler) as server:
        server.message(*map(str, range(100)))
        await server.ended()
        assert server.closed is not None
        assert server.closed[0] == 1013
    assert ended == [1013]
    ((level, line),) = lines(caplog)
    assert level == "WARNING"
    assert "did not read" in line


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


# Writing


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


async def test_a_slow_client_that_does_not_read_its_close_frame_is_aborted(monkeypatch):
    hurry(monkeypatch, CLOSE_GRACE=0.05)
    async with serving(echo, WEBSOCKET_OUTBOX_SIZE=100) as server:
        await server.accepted()
        transport = server.stall()
        server.block()
        for _ in range(3):
            only_socket().connection.writer.deliver(text_message("x" * 50, 50))
        await until(lambda: transport.aborted)
        await server.ended()
        assert server.closed is None


@both_forms
async def test_a_client_that_the_server_has_given_up_with_much_to_read_is_aborted(
    handler, monkeypatch
):
    # uvicorn closes such a transport, which waits for its buffer, and says nothing.
    hurry(monkeypatch, GIVEN_UP_GRACE=0.05)
    async with serving(handler) as server:
        await server.accepted()
        transport = server.stall()
        server.block()
        server.message("x")
        await until(lambda: server.unread == 0)
        assert not transport.aborted
        transport.given_up = True
        await server.ended()
        assert transport.aborted


async def test_a_client_that_is_given_up_while_nothing_is_sent_is_aborted(monkeypatch):
    hurry(monkeypatch, GIVEN_UP_GRACE=0.05)
    async with serving(echo) as server:
        await server.accepted()
        transport = server.stall(unsent=0)
        transport.given_up = True
        await until(lambda: transport.aborted)
        await server.ended()


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
            await asyncio.wait_for(sending, 5)

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


async def test_what_a_callback_closes_goes_out_in_a_task():
    async def send(event):
        async with asyncio.timeout(60):
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
