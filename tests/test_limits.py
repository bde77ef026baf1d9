"""Limits as values, on a clock of the test's own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from django_ws_dispatch import limits
from django_ws_dispatch.decorators import idle_timeout, max_message_size, rate_limit
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.limits import (
    ConnectionCount,
    Limits,
    Rate,
    TokenBucket,
    parse_rate,
    text_size,
)
from django_ws_dispatch.routing.handlers import Handler
from django_ws_dispatch.websockets import WebSocket, deadlines, inbox
from django_ws_dispatch.websockets import connection as protocol

from .kit.fake_server import FakeServer, hurry, only_socket, serving
from .kit.waiting import until


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20/s", Rate(20, 1)),
        ("600/m", Rate(600, 60)),
        ("5000/h", Rate(5000, 3600)),
        ("1 / s", Rate(1, 1)),
        ("0020/s", Rate(20, 1)),
        ("1000000000/h", Rate(10**9, 3600)),
    ],
)
def test_a_rate_is_a_number_and_a_time(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "value",
    ["", "20", "20/", "/s", "00/s", "-1/s", "1.5/s", "20/d", "20/sec", "s/20", "٢/s", 20, None, []],
)
def test_what_is_no_rate_is_refused_with_how_to_write_one(value: Any) -> None:
    with pytest.raises(ValueError, match='written like "20/s", "600/m" or "5000/h", not '):
        parse_rate(value)


@pytest.mark.parametrize("digits", ["1000000001", "9" * 400, "9" * 5000])
def test_a_rate_that_no_bucket_holds_is_refused(digits: str) -> None:
    with pytest.raises(ValueError, match=r"at most 1000000000 messages, not '.{10,30}$"):
        parse_rate(f"{digits}/s")


def take_all(bucket: TokenBucket) -> int:
    taken = 0
    while bucket.take():
        taken += 1
    return taken


def test_a_bucket_is_full_at_first_and_as_deep_as_its_number(clock: Clock) -> None:
    assert take_all(TokenBucket(Rate(20, 1), clock)) == 20


def test_a_bucket_is_refilled_evenly(clock: Clock) -> None:
    bucket = TokenBucket(Rate(600, 60), clock)
    assert take_all(bucket) == 600
    clock.now += 0.05
    assert not bucket.take()
    clock.now += 0.0625
    assert bucket.take()
    assert not bucket.take()
    clock.now += 30
    assert take_all(bucket) == 300


def test_a_bucket_never_holds_more_than_its_depth(clock: Clock) -> None:
    bucket = TokenBucket(Rate(5, 1), clock)
    clock.now += 3600
    assert take_all(bucket) == 5


def test_a_steady_client_at_the_rate_is_never_refused(clock: Clock) -> None:
    bucket = TokenBucket(Rate(8, 1), clock)
    for _ in range(1000):
        assert bucket.take()
        clock.now += 0.125


def test_a_refusal_takes_no_token(clock: Clock) -> None:
    bucket = TokenBucket(Rate(1, 1), clock)
    assert bucket.take()
    for _ in range(4):
        clock.now += 0.25
        taken = bucket.take()
    assert taken


def test_connections_are_counted_for_each_key() -> None:
    counts = ConnectionCount()
    assert counts.enter("a", 2)
    assert counts.enter("a", 2)
    assert not counts.enter("a", 2)
    assert counts.enter("b", 1)
    counts.leave("a")
    assert counts.enter("a", 2)
    assert not counts.enter("a", 2)


def test_a_refused_connection_is_not_counted() -> None:
    counts = ConnectionCount()
    assert counts.enter("a", 1)
    for _ in range(3):
        assert not counts.enter("a", 1)
    counts.leave("a")
    assert counts.enter("a", 1)


def test_a_count_of_none_takes_no_memory() -> None:
    counts = ConnectionCount()
    for user in range(100):
        counts.enter(user, 1)
    for user in range(100):
        counts.leave(user)
    assert not counts._counts


@pytest.mark.parametrize("text", ["", "abc", "é", "€uro", "\U0001f600", "a\ud800"])
def test_the_size_of_a_text_is_that_of_its_utf_8(text: str) -> None:
    assert text_size(text) == len(text.encode("utf-8", "surrogatepass"))


async def silent(websocket: Any) -> None:
    async for _ in websocket:
        pass


def test_the_limits_of_a_handler_are_those_of_the_settings(settings: Any) -> None:
    settings.WEBSOCKET_MAX_MESSAGE_SIZE = 10
    settings.WEBSOCKET_RATE_LIMIT = "3/m"
    settings.WEBSOCKET_IDLE_TIMEOUT = 4
    settings.WEBSOCKET_OUTBOX_SIZE = 5
    assert Handler(silent).limits == Limits(10, Rate(3, 60), 4.0, 5)


def test_a_decorator_wins_over_a_setting(settings: Any) -> None:
    settings.WEBSOCKET_MAX_MESSAGE_SIZE = 10
    settings.WEBSOCKET_RATE_LIMIT = "3/m"
    settings.WEBSOCKET_IDLE_TIMEOUT = 4

    @max_message_size(20)
    @rate_limit("5/s")
    @idle_timeout(0.5)
    async def decorated(websocket: Any) -> None:
        pass

    assert Handler(decorated).limits[:3] == (20, Rate(5, 1), 0.5)
    assert Handler(silent).limits[:3] == (10, Rate(3, 60), 4.0)


async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


async def raw_echo(scope: Any, receive: Any, send: Any) -> None:
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif event["type"] == "websocket.disconnect":
            return
        else:
            await send({**event, "type": "websocket.send"})


FORMS = [pytest.param(echo, id="coroutine"), pytest.param(raw_echo, id="raw")]


def one_line(caplog: pytest.LogCaptureFixture) -> str:
    (record,) = [one for one in caplog.records if one.name.startswith("django_ws_dispatch")]
    assert record.levelno == logging.WARNING
    assert record.__dict__["path"] == "/ws/"
    return record.getMessage()


@pytest.mark.parametrize("handler", FORMS)
@pytest.mark.parametrize("message", ["xxxxx", b"xxxxx", "ééé", "\U0001f600x"])
def test_a_message_over_the_size_closes_with_1009(
    handler: Any, message: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with serving(handler, WEBSOCKET_MAX_MESSAGE_SIZE=4) as server:
            server.message("xxxx", b"xxxx", "éé", "\U0001f600", message, "after")
            await server.ended()
            assert server.data == ["xxxx", b"xxxx", "éé", "\U0001f600"]
            assert server.closed == (1009, "max message size")

    asyncio.run(scenario())
    assert "WEBSOCKET_MAX_MESSAGE_SIZE or @max_message_size (4)" in one_line(caplog)


@pytest.mark.parametrize("handler", FORMS)
def test_messages_over_the_rate_close_with_4429(
    handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with serving(handler, WEBSOCKET_RATE_LIMIT="3/h") as server:
            server.message("1", "2", "3", "4", "5")
            await server.ended()
            assert server.data == ["1", "2", "3"]
            assert server.closed == (4429, "rate limit")

    asyncio.run(scenario())
    assert "WEBSOCKET_RATE_LIMIT or @rate_limit (3 in 3600 s)" in one_line(caplog)


@pytest.mark.parametrize("handler", FORMS)
def test_a_client_that_says_nothing_is_closed_with_4408(
    handler: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)

    async def scenario() -> None:
        async with serving(handler, WEBSOCKET_IDLE_TIMEOUT=0.05) as server:
            await server.ended()
            assert server.closed == (4408, "idle timeout")

    asyncio.run(scenario())
    assert "WEBSOCKET_IDLE_TIMEOUT or @idle_timeout (0.05)" in one_line(caplog)


class Hours:
    """The monotonic clock of everything that looks after a socket."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        for module in (connections, inbox, limits, protocol):
            monkeypatch.setattr(module, "monotonic", lambda: self.now)


def test_a_message_that_is_discarded_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    hours = Hours(monkeypatch)

    async def push_only(websocket: Any) -> None:
        await websocket.accept()
        await asyncio.Event().wait()

    async def scenario() -> None:
        async with serving(push_only, WEBSOCKET_IDLE_TIMEOUT=1) as server:
            await server.accepted()
            socket = only_socket()
            for _ in range(5):
                hours.now += 0.9
                server.message("hello")
                await until(lambda: socket.connection.reader.meter.heard == hours.now)
            assert server.closed is None
            hours.now += 1.1
            await until(lambda: server.closed)
            assert server.closed == (4408, "idle timeout")
            hours.now += 60
            await server.ended()

    asyncio.run(scenario())


def test_the_idle_time_begins_with_the_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = Hours(monkeypatch)
    go = asyncio.Event()

    async def late(websocket: Any) -> None:
        await go.wait()
        await echo(websocket)

    async def scenario() -> None:
        async with serving(late, WEBSOCKET_IDLE_TIMEOUT=5) as server:
            await until(lambda: connections.local().sockets)
            socket = only_socket()
            hours.now += 100
            go.set()
            await server.accepted()
            deadlines.check(socket.connection, hours.now)
            assert server.closed is None
            hours.now += 6
            deadlines.check(socket.connection, hours.now)
            assert server.closed == (4408, "idle timeout")

    asyncio.run(scenario())


@asynccontextmanager
async def full_inbox(then: Any) -> AsyncIterator[tuple[Any, Any, asyncio.Event]]:
    """A socket whose handler has read once, and goes on with ``then`` where it is told to."""
    go = asyncio.Event()

    async def handler(websocket: Any) -> None:
        await websocket.receive()
        await go.wait()
        await then(websocket)

    async with serving(handler, WEBSOCKET_IDLE_TIMEOUT=5) as server:
        await server.accepted()
        server.message(*map(str, range(100)))
        socket = only_socket()
        await until(lambda: socket.connection.reader.full_since is not None)
        yield server, socket, go


def test_a_client_that_waits_for_a_full_inbox_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch, BUSY_GRACE=1000)
    hours = Hours(monkeypatch)

    async def scenario() -> None:
        async with full_inbox(echo) as (server, socket, go):
            for _ in range(3):
                hours.now += 4
                deadlines.check(socket.connection, hours.now)
            go.set()
            await server.sends(99)
            deadlines.check(socket.connection, hours.now)
            assert server.closed is None

    asyncio.run(scenario())


def test_a_client_that_falls_silent_with_a_full_inbox_is_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hurry(monkeypatch, BUSY_GRACE=1000)
    hours = Hours(monkeypatch)

    async def scenario() -> None:
        async with full_inbox(WebSocket.wait_closed) as (server, socket, go):
            go.set()
            await until(lambda: socket.connection.reader.full_since is None and not server.unread)
            hours.now += 6
            await until(lambda: server.closed)
            assert server.closed == (4408, "idle timeout")
            hours.now += 2000
            await server.ended()

    asyncio.run(scenario())


def test_unset_limits_are_not_looked_at_for_a_message() -> None:
    async def scenario() -> None:
        async with serving(echo) as server:
            server.message("hello")
            await server.sends(1)
            socket = only_socket()
            assert socket.connection.reader.meter is None

    asyncio.run(scenario())


@pytest.mark.parametrize("handler", FORMS)
def test_more_open_sockets_than_may_be_are_denied_with_503(
    handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with serving(handler, WEBSOCKET_MAX_CONNECTIONS=1) as first:
            await first.accepted()
            second = FakeServer(first.application).start()
            await second.ended()
            assert second.denied == (503, b"Service Unavailable")
            assert (b"retry-after", b"10") in second.sent[0]["headers"]
            first.leave()
            await first.ended()
            third = FakeServer(first.application).start()
            await third.accepted()
            third.leave()
            await third.ended()

    asyncio.run(scenario())
    assert "WEBSOCKET_MAX_CONNECTIONS (1) are open" in one_line(caplog)
