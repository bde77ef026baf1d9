"""Subscribe, then accept: on a real server, with a broker that is a few milliseconds away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import Any

import pytest
import pytest_asyncio
from django.test import override_settings
from websockets import InvalidStatus
from websockets.asyncio.client import connect

from django_ws_dispatch import groups
from django_ws_dispatch.groups import Group
from django_ws_dispatch.testing import WebSocketClient
from tests.kit.server import DEADLINE, Server
from tests.kit.valkey import Valkey

from .proxy import Proxy
from .test_redis import REDIS_BROKER, use

pytestmark = [pytest.mark.live, pytest.mark.asyncio]

DELAY = 0.003  # seconds
TIMEOUT = 1.0  # of the broker
MANY = 100


@pytest_asyncio.fixture(autouse=True)
async def release() -> AsyncIterator[None]:
    """Close what the test itself has on the broker."""
    yield
    await groups.members.aclose()


@pytest.fixture
def valkey(settings: Any) -> Iterator[Valkey]:
    """The broker, which the test itself reaches without the proxy."""
    with Valkey() as valkey:
        yield use(valkey, settings)


@pytest.fixture
def proxy(valkey: Valkey) -> Iterator[Proxy]:
    with Proxy(valkey.socket, DELAY) as proxy:
        yield proxy


def brokers(proxy: Proxy) -> dict[str, Any]:
    location = f"redis://127.0.0.1:{proxy.port}/0"
    options = {"timeout": TIMEOUT}
    return {"default": {"BACKEND": REDIS_BROKER, "LOCATION": location, "OPTIONS": options}}


@pytest.fixture
def server(proxy: Proxy) -> Iterator[Server]:
    with Server(environment={"WEBSOCKET_BROKERS": json.dumps(brokers(proxy))}) as server:
        yield server


async def test_what_is_sent_the_moment_a_client_sees_its_socket_open_arrives(
    server: Server,
) -> None:
    at_once = asyncio.Semaphore(10)

    async def visit(number: int) -> bool:
        async with at_once, connect(f"{server.url}/ws/joins/{number}/") as socket:
            for group in (Group(f"all of {number}"), Group(str(number))):
                await group.asend(group.name)
            try:
                async with asyncio.timeout(DEADLINE):
                    got = {await socket.recv(), await socket.recv()}
            except TimeoutError:
                return False
            return got == {f"all of {number}", str(number)}

    arrived = await asyncio.gather(*map(visit, range(MANY)))
    assert arrived.count(True) == MANY


async def test_a_broker_that_is_silent_is_an_answer_to_the_handshake_in_its_time(
    server: Server, proxy: Proxy
) -> None:
    proxy.stall()
    began = monotonic()
    with pytest.raises(InvalidStatus) as denied:
        async with connect(f"{server.url}/ws/joins/room/", open_timeout=DEADLINE):
            pass
    assert denied.value.response.status_code >= 500
    assert TIMEOUT * 0.9 <= monotonic() - began < TIMEOUT + 15
    proxy.resume()
    await asyncio.to_thread(server.wait_for_log, "is back; ")
    async with connect(f"{server.url}/ws/joins/room/") as socket:
        await Group("room").asend("back")
        async with asyncio.timeout(DEADLINE):
            assert await socket.recv() == "back"
    server.expected += ["Lost the broker", "Logouts elsewhere", "/ws/joins/room/", "Traceback"]


async def test_the_test_client_is_a_member_once_it_is_connected(proxy: Proxy) -> None:
    client = WebSocketClient()
    with override_settings(
        WEBSOCKET_BROKERS=brokers(proxy), WEBSOCKET_HANDLERS="tests.live.handlers"
    ):
        for number in range(20):
            async with client.connect(f"/ws/joins/{number}/") as socket:
                await Group(str(number)).asend("async")
                await asyncio.to_thread(Group(str(number)).send, "sync")
                assert await socket.receive() == "async"
                assert await socket.receive() == "sync"
