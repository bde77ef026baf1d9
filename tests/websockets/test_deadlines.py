"""What the sweep ends: who stays away, who does not end, and what takes no close frame."""

from __future__ import annotations

import asyncio
import inspect
import re
from contextlib import suppress

import pytest

from django_ws_dispatch import servers
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.exceptions import WebSocketDisconnect
from django_ws_dispatch.websockets import connection as protocol
from django_ws_dispatch.websockets import deadlines
from tests.websockets.echoes import both_forms, echo, lines

from ..kit.fake_server import HABITS, hurry, only_socket, serving
from ..kit.members import text as text_message
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio

every_server = pytest.mark.parametrize("server_name", HABITS)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    hurry(monkeypatch)


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


async def never_reads(websocket):
    await websocket.accept()
    await asyncio.Event().wait()


async def raw_never_reads(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await asyncio.Event().wait()


async def not_even_accepts(websocket):
    await asyncio.Event().wait()


@pytest.mark.parametrize("handler", [never_reads, raw_never_reads, not_even_accepts])
@every_server
async def test_a_handler_that_has_never_read_is_cancelled_when_its_client_leaves(
    handler, server_name, caplog
):
    async with serving(handler, server=server_name) as server:
        await until(lambda: connections.local().sockets)
        server.message("talk", "talk")
        server.leave()
        await server.ended()
    assert not caplog.records


@pytest.mark.parametrize("form", ["implicit", "explicit", "raw"])
async def test_one_that_reads_but_is_busy_may_finish_and_has_what_was_sent_before(form):
    async def handler(websocket):
        if form == "explicit":
            await websocket.accept()
        try:
            await websocket.receive()
            busy.set()
            await go.wait()
            got.extend([await websocket.receive(), await websocket.receive()])
            with pytest.raises(WebSocketDisconnect):
                await websocket.receive()
        except asyncio.CancelledError:
            got.append("cancelled")
            raise

    async def raw(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        busy.set()
        await go.wait()
        got.extend([(await receive())["text"], (await receive())["text"]])
        assert (await receive())["type"] == "websocket.disconnect"

    busy, go, got = asyncio.Event(), asyncio.Event(), []
    async with serving(raw if form == "raw" else handler) as server:
        server.message("work")
        await busy.wait()
        server.message("a", "b")
        server.leave(1001)
        await until(lambda: only_socket().close_code == 1001)
        await asyncio.sleep(0.05)  # many sweeps
        go.set()
        await server.ended()
    assert got == ["a", "b"]


async def test_one_that_reads_but_does_not_come_back_is_cancelled(monkeypatch, caplog):
    hurry(monkeypatch, BUSY_GRACE=0.05)

    async def handler(websocket):
        await websocket.receive()
        await asyncio.Event().wait()

    async with serving(handler) as server:
        server.message("work")
        await until(lambda: not server.unread)
        server.leave()
        await server.ended()
    assert not caplog.records


class Worker:
    """A handler that comes back to its read 9 s after each message."""

    def __init__(self, monkeypatch):
        self.now, self.got = 0.0, []
        self.busy, self.go = asyncio.Event(), asyncio.Event()
        for module in (connections, protocol):
            monkeypatch.setattr(module, "monotonic", lambda: self.now)

    async def work(self, message):
        self.busy.set()
        await self.go.wait()
        self.got.append(message)
        self.now += 0.9 * deadlines.BUSY_GRACE
        deadlines.check(only_socket().connection, self.now)
        await asyncio.sleep(0)

    async def handler(self, websocket):
        async for message in websocket:
            await self.work(message)

    async def raw(self, scope, receive, send):
        while (event := await receive())["type"] != "websocket.disconnect":
            if event["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})
            else:
                await self.work(event["text"])

    async def has_waiting(self, server):
        """It works on the first message, and three more wait."""
        server.message("first")
        await self.busy.wait()
        server.message("a", "b", "c")
        await until(lambda: len(only_socket().connection.reader.inbox or ()) == 3)


@pytest.mark.parametrize("form", ["handler", "raw"])
async def test_one_that_comes_back_to_its_read_may_finish_with_each_message(form, monkeypatch):
    worker = Worker(monkeypatch)
    async with serving(getattr(worker, form)) as server:
        await worker.has_waiting(server)
        server.leave(1001)
        await until(lambda: only_socket().close_code == 1001)
        worker.go.set()
        await server.ended()
    assert worker.got == ["first", "a", "b", "c"]


async def test_a_client_that_the_sweep_saw_leave_first_has_left_all_the_same(monkeypatch):
    worker = Worker(monkeypatch)
    async with serving(worker.handler) as server:
        await worker.has_waiting(server)
        server.stall(unsent=0).given_up = True
        await until(lambda: only_socket().connection.abort_at is not None)
        server.leave(1001)
        await until(lambda: only_socket().close_code == 1001)
        worker.go.set()
        await server.ended()
    assert worker.got == ["first", "a", "b", "c"]


@pytest.mark.parametrize("why", ["this side has closed", "the server stops", "it takes too long"])
async def test_one_that_comes_back_is_cancelled_after_10_s_where(why, monkeypatch):
    worker = Worker(monkeypatch)
    if why == "the server stops":
        monkeypatch.setattr(servers, "is_told_to_exit", lambda: True)
    elif why == "it takes too long":
        monkeypatch.setattr(deadlines, "READ_ON_GRACE", 1)
    async with serving(worker.handler) as server:
        await worker.has_waiting(server)
        if why == "this side has closed":
            only_socket().kick(4401, "logged out")
        else:
            server.leave(1001)
        await until(lambda: only_socket().close_code)
        worker.go.set()
        await server.ended()
    assert worker.got == ["first", "a"]


async def test_a_handler_that_swallows_the_cancellation_gets_another(monkeypatch, caplog):
    hurry(monkeypatch, CANCEL_AGAIN=0.02)
    swallowed = []

    async def handler(websocket):
        await websocket.accept()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed.append(1)
                if len(swallowed) == 3:
                    raise

    async with serving(handler) as server:
        await server.accepted()
        server.leave()
        await server.ended()
    assert len(swallowed) == 3
    (record,) = caplog.records
    assert record.levelname == "WARNING"


# More often than a handler gets to try before it is let go, if it leaves the loop its turns.
TOO_OFTEN = 10**6


let_go: list[bool] = []


def stubbornly():
    """Until nothing is left to be seen."""
    for _ in range(TOO_OFTEN):
        if let_go:
            return
        yield
    let_go.append(False)


async def swallows(websocket):
    await websocket.accept()
    for _ in stubbornly():
        with suppress(BaseException):
            await asyncio.Event().wait()


async def reads_regardless(websocket):
    for _ in stubbornly():
        with suppress(BaseException):
            await websocket.receive()


async def iterates_regardless(websocket):
    for _ in stubbornly():
        with suppress(BaseException):
            async for _ in websocket:
                pass


async def sends_regardless(websocket):
    for _ in stubbornly():
        with suppress(BaseException):
            await websocket.send("x")


async def raw_reads_regardless(scope, receive, send):
    await send({"type": "websocket.accept"})
    for _ in stubbornly():
        with suppress(BaseException):
            await receive()


async def raw_sends_regardless(scope, receive, send):
    await send({"type": "websocket.accept"})
    for _ in stubbornly():
        with suppress(BaseException):
            await send({"type": "websocket.send", "text": "x"})


@pytest.mark.parametrize(
    "handler",
    [
        swallows,
        reads_regardless,
        iterates_regardless,
        sends_regardless,
        raw_reads_regardless,
        raw_sends_regardless,
    ],
    ids=lambda handler: handler.__name__,
)
async def test_a_handler_that_swallows_every_cancellation_is_named_with_its_place(
    handler, monkeypatch, caplog
):
    hurry(monkeypatch, CANCEL_AGAIN=0.001, WAKE_GRACE=0.001, BUSY_GRACE=0.001)
    let_go.clear()
    async with serving(handler) as server:
        await server.accepted()
        socket = only_socket()
        server.leave()
        await until(lambda: len(caplog.records) >= 4)
        tries, lines = socket.connection.tries, list(caplog.records)
        let_go.append(True)
        await server.ended()
    assert let_go == [True]
    # The second, the fourth, the eighth cancellation, and so on.
    assert len(lines) == tries.bit_length() - 1
    assert [line.levelname for line in lines] == ["WARNING", *["ERROR"] * (len(lines) - 1)]
    source, first = inspect.getsourcelines(handler)
    for line in lines:
        assert (line.name, line.path) == ("django_ws_dispatch.connection", "/ws/")
        found = re.fullmatch(
            r"The handler of /ws/ goes on \d+ s after it was cancelled: it is at (.*):(\d+)\. .*",
            line.getMessage(),
        )
        assert found is not None
        assert found[1] == __file__
        assert first < int(found[2]) < first + len(source)


async def test_a_handler_that_ends_with_its_first_cancellation_is_not_named(monkeypatch, caplog):
    async def handler(websocket):
        await websocket.accept()
        await asyncio.Event().wait()

    hurry(monkeypatch, CANCEL_AGAIN=0.001)
    async with serving(handler) as server:
        await server.accepted()
        server.leave()
        await server.ended()
    assert not caplog.records


async def test_a_finally_may_await_after_the_cancellation(caplog):
    done = []

    async def handler(websocket):
        await websocket.accept()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.03)
            done.append(True)

    async with serving(handler) as server:
        await server.accepted()
        server.leave()
        await server.ended()
    assert done
    assert not caplog.records


@pytest.mark.parametrize("handler", [never_reads, raw_never_reads])
async def test_a_server_that_stops_gives_the_handler_a_while_and_cancels_it(
    handler, monkeypatch, caplog
):
    hurry(monkeypatch, STOP_GRACE=0.1)
    async with serving(handler) as server:
        await server.accepted()
        server.leave(1012)
        await until(lambda: only_socket().close_code == 1012)
        assert server.task is not None
        assert not server.task.done()
        await server.ended()
    assert not caplog.records


async def test_a_blocked_client_does_not_keep_the_process_when_the_server_stops(monkeypatch):
    hurry(monkeypatch, STOP_GRACE=0.02, CLOSE_GRACE=0.05)

    async def handler(websocket):
        await websocket.accept()
        await websocket.wait_closed()

    async with serving(handler) as server:
        await server.accepted()
        transport = server.stall()
        server.block()
        only_socket().connection.writer.deliver(text_message("x"))
        server.feed({"type": "websocket.disconnect", "code": 1012})
        await server.ended()
    assert transport.aborted
