"""The network between a server process and its broker falls silent, or is cut."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection

from django_ws_dispatch import groups
from django_ws_dispatch.groups import Group
from tests.kit.server import DEADLINE, Server
from tests.kit.valkey import Valkey

from .classes import on_ours
from .faults.clients import Neighbour, close_code, numbers, opened, publishing, undisturbed
from .proxy import Proxy
from .test_must_show import page, serve, sqlite
from .test_redis import REDIS_BROKER, use

pytestmark = [pytest.mark.live, pytest.mark.asyncio, pytest.mark.usefixtures("ws"), on_ours]

# What was measured: --log-cli-level=INFO
logger = logging.getLogger("faults")

SETTINGS = "tests.live.faults.settings"
ROOM = Group("room")
# Seconds for what a busy machine adds to a promise: four publishers, one after the other, would be
# told within 8 s.
SLACK = 5.0
TOLD_WITHIN = 2.0
BACK_WITHIN = 1.0
LOST, BACK = "Lost the broker", "is back; "


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
    with Proxy(valkey.socket) as proxy:
        yield proxy


def broker_at(location: str) -> dict[str, str]:
    broker = {"default": {"BACKEND": REDIS_BROKER, "LOCATION": location}}
    return {"WEBSOCKET_BROKERS": json.dumps(broker)}


@pytest.fixture
def server(proxy: Proxy) -> Iterator[Server]:
    with Server(settings=SETTINGS, environment=broker_at(proxied(proxy))) as server:
        yield server


def proxied(proxy: Proxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}/0"


@pytest.fixture
def two_servers(proxy: Proxy, valkey: Valkey, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two processes with one database; only the first has the proxy before its broker."""
    database = {"DJANGO_SETTINGS_MODULE": SETTINGS, "LIVE_DATABASE": json.dumps(sqlite(tmp_path))}
    with (
        serve(sqlite(tmp_path), **{**database, **broker_at(proxied(proxy))}) as here,
        Server(settings=SETTINGS, environment={**database, **broker_at(valkey.url)}) as elsewhere,
    ):
        yield here, elsewhere


class Site:
    """Sockets of the process, and a publisher that the fault does not touch.

    Attributes:
        member: of the room.
        publishers: clients that say what shall be published, and hear how that went.
    """

    def __init__(self, member: ClientConnection, publishers: list[ClientConnection]) -> None:
        self.member = member
        self.publishers = publishers

    async def attempt(self, how: str, socket: ClientConnection | None = None) -> tuple[str, float]:
        """Publish from the process. Return how that ended, and after how many seconds."""
        socket = socket or self.publishers[0]
        await socket.send(f"{how} from inside")
        async with asyncio.timeout(DEADLINE):
            ((outcome, seconds),) = json.loads(await socket.recv()).items()
        return outcome, seconds

    async def attempts(self) -> list[tuple[str, float]]:
        """Publish from all sockets at once, half of them in sync code."""
        hows = cycle(["async", "sync"])
        return await asyncio.gather(*map(self.attempt, hows, self.publishers))

    async def hears_from_outside(self) -> None:
        """Publish in another process, and wait until it has come."""
        await ROOM.asend("from outside")
        async with asyncio.timeout(DEADLINE):
            while await self.member.recv() != "from outside":
                pass


@asynccontextmanager
async def site(server: Server, publishers: int = 1) -> AsyncIterator[tuple[Site, Neighbour]]:
    async with AsyncExitStack() as stack:
        neighbour = await stack.enter_async_context(undisturbed(server))
        member = await stack.enter_async_context(opened(f"{server.url}/ws/reads/"))
        assert str(await member.recv()).startswith("joined")
        url = f"{server.url}/ws/publishes/"
        sockets = [await stack.enter_async_context(opened(url)) for _ in range(publishers)]
        yield Site(member, sockets), neighbour
        # Whatever happened to the broker, nobody's socket was closed for it.
        for socket in (member, *sockets):
            await (await socket.ping())


async def logged(server: Server, part: str) -> None:
    await asyncio.to_thread(server.wait_for_log, part)


async def test_publishers_are_told_in_time_when_nothing_reaches_the_broker(
    server: Server, proxy: Proxy
) -> None:
    async with site(server, publishers=4) as (here, neighbour):
        assert [outcome for outcome, _ in await here.attempts()] == ["async", "sync"] * 2
        proxy.stall(down=False)
        got = []
        async with publishing("outside", ROOM.asend) as said:
            # On connections that are there, and on new ones.
            for _ in range(2):
                outcomes = await here.attempts()
                assert [outcome for outcome, _ in outcomes] == ["BrokerError"] * 4
                longest = max(seconds for _, seconds in outcomes)
                logger.info("Seconds to the BrokerError: %.2f", longest)
                assert longest < TOLD_WITHIN + SLACK
        # The other direction has worked all the while.
        async with asyncio.timeout(DEADLINE):
            while len(got) < said():
                got += numbers([str(await here.member.recv())], "outside")
        assert got == list(range(said()))
        proxy.resume()
        for how in ("async", "sync"):
            assert (await here.attempt(how))[0] == how
        logger.info("The longest echo beside: %.3f s", neighbour.longest)
    assert LOST not in server.log


async def test_a_subscription_that_falls_silent_is_noticed_and_made_again(
    server: Server, proxy: Proxy
) -> None:
    async with site(server) as (here, neighbour):
        await here.hears_from_outside()
        proxy.stall(up=False)
        began = monotonic()
        await logged(server, LOST)
        logger.info("Seconds to the notice: %.1f", monotonic() - began)
        assert (await here.attempt("async"))[0] == "BrokerError"
        proxy.resume()
        began = monotonic()
        await logged(server, BACK)
        await here.hears_from_outside()
        seconds = monotonic() - began
        logger.info("Seconds to the first message: %.2f", seconds)
        assert seconds < BACK_WITHIN + SLACK
        assert (await here.attempt("async"))[0] == "async"
        logger.info("The longest echo beside: %.3f s", neighbour.longest)
    assert (server.log.count(LOST), server.log.count(BACK)) == (1, 1)
    server.expected.append(LOST)


async def test_connections_that_are_cut_for_good_are_replaced(server: Server, proxy: Proxy) -> None:
    async with site(server, publishers=8) as (here, neighbour):
        await here.attempts()
        proxy.stall(newcomers=False)
        began = monotonic()
        for how in ("async", "sync"):
            outcomes = [await here.attempt(how) for _ in range(2)]
            logger.info("Outcomes (%s): %s", how, outcomes)
            assert [outcome for outcome, _ in outcomes] == ["BrokerError", how]
        await logged(server, BACK)
        logger.info("Seconds to the new subscription: %.1f", monotonic() - began)
        await here.hears_from_outside()
        logger.info("The longest echo beside: %.3f s", neighbour.longest)
    assert (server.log.count(LOST), server.log.count(BACK)) == (1, 1)
    server.expected.append(LOST)


async def test_a_logout_that_the_broker_did_not_take_is_heard_of_elsewhere_once_it_does(
    two_servers: tuple[Server, Server], proxy: Proxy
) -> None:
    here, elsewhere = two_servers
    leaving, staying = [await page(here, "/login/?user=ann") for _ in range(2)]
    url = f"{elsewhere.url}/ws/asks-who/"
    async with (
        opened(url, additional_headers={"Cookie": leaving}) as left,
        opened(url, additional_headers={"Cookie": staying}) as stayed,
    ):
        assert [await left.recv(), await stayed.recv()] == ["ann"] * 2
        proxy.stall()
        await page(here, "/logout/", leaving)
        await logged(here, "could not be told")
        proxy.resume()
        assert await close_code(left) == 4401
        await logged(here, "takes messages again")
        await (await stayed.ping())
    # Who did not hear of it has no reason of its own to look.
    assert LOST not in elsewhere.log
    here.expected += ["could not be told", "Traceback", LOST]
