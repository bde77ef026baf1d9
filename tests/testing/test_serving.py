"""Sockets of one event loop that come and go, and the lives of their applications."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from django.test import override_settings

from django_ws_dispatch.brokers.memory import MemoryBroker, MemorySubscriber
from django_ws_dispatch.decorators import idle_timeout
from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group
from django_ws_dispatch.testing import WebSocketClient

from .loops import run
from .sockets import HANDLERS, events

pytestmark = pytest.mark.slow

# How many turns of the loop one socket may be behind another: from before the other opens until
# after all of it is over.
TURNS = range(41)


async def crowd(websocket, room):
    async with websocket.join(room):
        async for message in websocket:
            await Group(room).asend(message)


@idle_timeout(0.1)
async def idle(websocket):
    await websocket.receive()


@asynccontextmanager
async def slow_lifespan():
    events.append("started")
    yield {}
    for _ in range(20):
        await asyncio.sleep(0)
    events.append("stopped")


class LateSubscriber(MemorySubscriber):
    def __init__(self, receiver):
        super().__init__(receiver)
        self.asked = []

    def subscribe(self, channel):
        super().subscribe(channel)
        ready = self.loop.create_future()
        self.asked.append(ready)
        self.loop.call_soon(self.loop.call_soon, self.acknowledge, ready)
        return ready

    def acknowledge(self, ready):
        if not ready.done():
            ready.set_result(None)

    def close(self):
        for ready in self.asked:
            if not ready.done():
                ready.set_exception(BrokerError("closed"))


class LateBroker(MemoryBroker):
    """Acknowledges a subscription later, as over a network; a closed one acknowledges none."""

    def subscriber(self, receiver):
        subscriber = LateSubscriber(receiver)
        self._subscribers = (*self._subscribers, subscriber)
        return subscriber

    async def aclose(self):
        for subscriber in self._subscribers:
            subscriber.close()
        await super().aclose()


async def nothing(scope, receive, send):
    pass


@pytest.fixture(autouse=True)
def _site():
    events.clear()
    handlers = HANDLERS | {"ws/crowds/<slug:room>/": crowd, "ws/idle/": idle}
    with override_settings(WEBSOCKET_HANDLERS=handlers):
        yield


async def talk(room):
    async with WebSocketClient().connect(f"/ws/crowds/{room}/") as socket:
        await socket.send("hello")
        assert await socket.receive() == "hello"


async def come_and_go(turns):
    """One socket; so many turns of the loop later, which may be while that one leaves, another."""
    first = asyncio.create_task(talk("lobby"))
    for _ in range(turns):
        await asyncio.sleep(0)
    await talk("garden")
    await first


# Sockets that come while others leave


@run
async def test_a_socket_that_comes_while_another_leaves_is_a_member():
    for turns in TURNS:
        await come_and_go(turns)


@run
async def test_its_subscription_is_acknowledged_by_a_broker_that_takes_its_time():
    with override_settings(WEBSOCKET_BROKERS={"default": {"BACKEND": f"{__name__}.LateBroker"}}):
        for turns in TURNS:
            await come_and_go(turns)


@run
async def test_the_lifespan_is_not_entered_again_before_it_is_left():
    with override_settings(WEBSOCKET_LIFESPAN=f"{__name__}.slow_lifespan"):
        for turns in TURNS:
            await come_and_go(turns)
    assert events == ["started", "stopped"] * (len(events) // 2)


# Two applications


@run
async def test_the_end_of_another_applications_last_socket_is_not_the_others_end():
    other = WebSocketClient(application=WebSocketDispatcher(nothing))
    async with WebSocketClient().connect("/ws/crowds/lobby/") as one:
        async with other.connect("/ws/crowds/lobby/") as two:
            await two.send("hello")
            assert await one.receive() == await two.receive() == "hello"
        await one.send("still here")
        assert await one.receive() == "still here"


@run
async def test_who_stays_is_still_looked_after():
    other = WebSocketClient(application=WebSocketDispatcher(nothing))
    async with WebSocketClient().connect("/ws/idle/") as one:
        async with other.connect("/ws/echo/"):
            pass
        await one.wait_closed()
        assert one.close_code == 4408


@run
async def test_all_applications_live_until_the_last_socket_has_left():
    def named(name):
        async def application(scope, receive, send):
            if scope["type"] == "lifespan":
                for what in ("startup", "shutdown"):
                    await receive()
                    events.append(f"{what} {name}")
                    await send({"type": f"lifespan.{what}.complete"})
            else:
                await send({"type": "websocket.accept"})

        return WebSocketClient(application=application)

    async with named("one").connect("/"), named("two").connect("/"):
        pass
    assert events == ["startup one", "startup two", "shutdown two", "shutdown one"]


# The lifespan


@run
async def test_the_lifespan_is_entered_before_the_first_socket_and_left_after_the_last():
    with override_settings(WEBSOCKET_LIFESPAN="tests.testing.sockets.lifespan"):
        client = WebSocketClient()
        async with client.connect("/ws/state/") as one:
            assert await one.receive_json() == {"number": 42}
            async with client.connect("/ws/state/") as two:
                assert await two.receive_json() == {"number": 42}
            assert events == ["started"]
        assert events == ["started", "stopped"]
        async with client.connect("/ws/state/"):
            assert events == ["started", "stopped", "started"]
    assert events[3:] == ["stopped"]


@run
async def test_two_first_sockets_at_once_enter_the_lifespan_once():
    async def one():
        async with WebSocketClient().connect("/ws/state/") as socket:
            assert await socket.receive_json() == {"number": 42}

    with override_settings(WEBSOCKET_LIFESPAN="tests.testing.sockets.lifespan"):
        await asyncio.gather(one(), one())
    assert events == ["started", "stopped"]


@run
async def test_a_lifespan_that_fails_is_raised_by_connect():
    with (
        override_settings(WEBSOCKET_LIFESPAN="tests.testing.sockets.broken_lifespan"),
        pytest.raises(RuntimeError, match=r"start-up failed: OSError\('no database'\)"),
    ):
        async with WebSocketClient().connect("/ws/state/"):
            pass


@run
async def test_who_comes_after_one_that_was_cancelled_waits_for_the_same_start():
    start = asyncio.Event()

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            events.append((await receive())["type"])
            await start.wait()
            scope["state"]["number"] = 42
            await send({"type": "lifespan.startup.complete"})
            events.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
        else:
            events.append(scope["state"])
            await send({"type": "websocket.accept"})

    async def connect():
        async with WebSocketClient(application=application).connect("/"):
            pass

    async with WebSocketClient().connect("/ws/rooms/lobby/"):
        first, second = asyncio.create_task(connect()), asyncio.create_task(connect())
        while not events:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        start.set()
        await second
    assert events == ["lifespan.startup", {"number": 42}, "lifespan.shutdown"]
