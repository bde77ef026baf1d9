"""A server process dies, or is replaced, under load."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from time import monotonic
from typing import Any

import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection

from django_ws_dispatch import groups
from django_ws_dispatch.groups import Group
from tests.kit.server import DEADLINE, Server
from tests.kit.valkey import Valkey
from tests.kit.waiting import until

from .classes import on_ours
from .faults.clients import Visitor, numbers, opened, publishing, visiting
from .proxy import Proxy
from .test_redis import REDIS_BROKER, ask, use

pytestmark = [pytest.mark.live, pytest.mark.asyncio, pytest.mark.usefixtures("ws")]

# What was measured: --log-cli-level=INFO
logger = logging.getLogger("faults")

SETTINGS = "tests.live.faults.settings"
ROOM = Group("room")
# Seconds for what a busy machine adds to a promise.
SLACK = 3.0
# Seconds within which a server has ended: what it would wait for takes a minute, or an hour.
STOPPED_WITHIN = 45.0


@pytest.fixture
def valkey(settings: Any) -> Iterator[Valkey]:
    with Valkey() as valkey:
        yield use(valkey, settings)


@pytest_asyncio.fixture(autouse=True)
async def release() -> AsyncIterator[None]:
    """Close what the test itself has on the broker."""
    yield
    await groups.members.aclose()


@pytest.fixture
def environment(valkey: Valkey) -> dict[str, str]:
    broker = {"default": {"BACKEND": REDIS_BROKER, "LOCATION": valkey.url}}
    return {"WEBSOCKET_BROKERS": json.dumps(broker)}


def without_gap(visitor: Visitor, publisher: str) -> bool:
    """Whether each connection of a page got all that was published, from its first message on."""
    lives = [numbers(messages, publisher) for messages in visitor.lives]
    return all(got == list(range(got[0], got[0] + len(got))) for got in lives if got)


# A worker is killed


@pytest.fixture
def workers(environment: dict[str, str]) -> Iterator[Server]:
    # What is slow to start on a busy machine is not ill.
    patience = ("--timeout-worker-healthcheck", "60")
    server = Server("--workers", "2", *patience, settings=SETTINGS, environment=environment)
    # uvicorn's own: the parent never closes the socket that its workers listen on.
    server.expected += ["ResourceWarning: unclosed <socket", "ResourceWarning: Enable tracemalloc"]
    try:
        with server:
            server.wait_for_log("Application startup complete", 2)
            yield server
    except BaseException:
        # The parent may have been killed, which its children would outlive.
        for pid in pids(server):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        raise


def pids(server: Server) -> list[int]:
    """All the workers that there ever were."""
    return [int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", server.log)]


@asynccontextmanager
async def opened_in(server: Server, path: str, pid: int) -> AsyncIterator[ClientConnection]:
    """Connect until it is to one worker: the kernel chooses."""
    async with asyncio.timeout(DEADLINE) as patience:
        while True:
            async with opened(f"{server.url}/ws/{path}/") as socket:
                if path == "publishes":
                    await socket.send("who")
                if str(await socket.recv()).endswith(str(pid)):
                    patience.reschedule(None)
                    yield socket
                    return


def subscribed(valkey: Valkey) -> int:
    """How many processes the broker takes for subscribers."""
    return len(ask(valkey, "CLIENT", "LIST", "TYPE", "pubsub").splitlines())


def through(socket: ClientConnection) -> Callable[[str], Awaitable[None]]:
    """Publish through a worker."""

    async def publish(message: str) -> None:
        await socket.send(f"async {message}")
        assert "async" in json.loads(await socket.recv())

    return publish


@on_ours
async def test_a_worker_that_is_killed_costs_only_its_own_clients_their_connection(
    workers: Server, valkey: Valkey
) -> None:
    visitors = [Visitor(f"{workers.url}/ws/reads/") for _ in range(100)]
    async with visiting(visitors):
        await until(lambda: all(visitor.joined for visitor in visitors))
        counts = Counter(visitor.joined for visitor in visitors)
        logger.info("Clients of each worker: %s", sorted(counts.values()))
        doomed, living = sorted(counts)
        losers = [visitor for visitor in visitors if visitor.joined == doomed]
        stayers = [visitor for visitor in visitors if visitor.joined == living]
        async with (
            opened_in(workers, "publishes", living) as one,
            opened_in(workers, "publishes", doomed) as other,
            publishing("living", through(one)) as said,
            publishing("doomed", through(other)) as said_last,
        ):
            await until(lambda: said() > 20 and said_last() > 20)
            os.kill(doomed, signal.SIGKILL)
            began = monotonic()
            await until(lambda: all(visitor.ends and visitor.joined for visitor in losers))
            logger.info("Seconds until all were back: %.1f", monotonic() - began)
            await asyncio.to_thread(workers.wait_for_log, "Application startup complete", 3)
            logger.info("Seconds to the new worker: %.1f", monotonic() - began)
            (newcomer,) = set(pids(workers)) - {doomed, living}
            async with opened_in(workers, "reads", newcomer) as member:
                heard = said()
                await until(lambda: said() > heard + 20)
                got = [str(await member.recv()) for _ in range(10)]
                assert len(numbers(got, "living")) == 10
                assert subscribed(valkey) == 2
        await ROOM.asend("last")
        await until(lambda: all("last" in visitor.lives[-1] for visitor in visitors))
    assert [visitor.ends[0][0] for visitor in losers] == [1006] * len(losers)
    assert [visitor.ends for visitor in stayers] == [[]] * len(stayers)
    for visitor in stayers:
        assert numbers(visitor.lives[0], "living") == list(range(said()))
    # What the dead one has published either reached everybody or nobody.
    (got,) = {tuple(numbers(visitor.lives[0], "doomed")) for visitor in stayers}
    assert got == tuple(range(len(got)))
    assert said_last() <= len(got) <= said_last() + 1  # one was under way
    assert all(without_gap(visitor, "living") for visitor in losers)
    await until(lambda: ask(valkey, "PUBSUB", "CHANNELS") == ["wsd:control:"])


# A process stands still, as a virtual machine that is moved does


@on_ours
async def test_a_process_that_stood_still_catches_up_and_misses_nothing(
    environment: dict[str, str],
) -> None:
    with Server(settings=SETTINGS, environment=environment) as server:
        visitors = [Visitor(f"{server.url}/ws/reads/") for _ in range(20)]
        async with visiting(visitors):
            await until(lambda: all(visitor.joined for visitor in visitors))
            async with publishing("outside", ROOM.asend) as said:
                await until(lambda: said() > 10)
                os.kill(server.pid, signal.SIGSTOP)
                try:
                    # Long enough for the broker to be given up.
                    heard, began = said(), monotonic()
                    await until(lambda: said() > heard + 100)
                    logger.info("Seconds without a turn: %.1f", monotonic() - began)
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                heard = said()
                await until(lambda: said() > heard + 10)
            await ROOM.asend("last")
            await until(lambda: all("last" in visitor.lives[-1] for visitor in visitors))
        for visitor in visitors:
            assert not visitor.ends
            assert numbers(visitor.lives[0], "outside") == list(range(said()))
        assert "Lost the broker" not in server.log


# A deploy


async def test_workers_that_are_replaced_one_after_the_other_tell_every_client(
    workers: Server,
) -> None:
    """uvicorn does so on SIGHUP."""
    first = pids(workers)
    visitors = [Visitor(f"{workers.url}/ws/reads/") for _ in range(50)]
    async with visiting(visitors), publishing("outside", ROOM.asend) as said:
        await until(lambda: all(visitor.joined for visitor in visitors))
        os.kill(workers.pid, signal.SIGHUP)
        await asyncio.to_thread(workers.wait_for_log, "Finished server process", 2)
        await until(lambda: all(visitor.joined not in (0, *first) for visitor in visitors))
        heard = said()
        await until(lambda: said() > heard + 10)
        await ROOM.asend("last")
        await until(lambda: all("last" in visitor.lives[-1] for visitor in visitors))
    for visitor in visitors:
        assert {code for code, _ in visitor.ends} == {1012}
    assert all(without_gap(visitor, "outside") for visitor in visitors)


OF_EACH = 20
ROUNDS = 3
# What each kind of handler notes once it has ended.
MEMBERS = {kind: f"{kind} ended" for kind in ("reads", "sends", "sleeps", "sticks")}
ENDS = {**MEMBERS, "raw-echo": "raw_echo 1012", "raw-pusher": "pusher ended"}


async def told(visitors: list[Visitor], number: int, began: float) -> None:
    """Return once every page has been told, for the so-manieth time, that its server stops."""
    await until(lambda: all(len(visitor.ends) == number for visitor in visitors))
    codes, times = zip(*(visitor.ends[-1] for visitor in visitors), strict=True)
    assert set(codes) == {1012}
    logger.info("Seconds to the last 1012: %.2f", max(times) - began)
    assert max(times) - began < 1 + SLACK


async def stopped(server: Server, began: float) -> None:
    assert await asyncio.to_thread(server.wait) in (0, -signal.SIGTERM)
    logger.info("Seconds to the stop: %.1f", monotonic() - began)
    assert monotonic() - began < STOPPED_WITHIN
    for kind, note in ENDS.items():
        assert (kind, server.notes.count(note)) == (kind, OF_EACH)


async def test_deploys_in_a_row_under_load_tell_every_client_and_lose_no_handler(
    environment: dict[str, str],
) -> None:
    with ExitStack() as stack:
        old = stack.enter_context(Server(settings=SETTINGS, environment=environment))
        proxy = stack.enter_context(Proxy(old.port))
        visitors = {
            kind: [Visitor(f"ws://127.0.0.1:{proxy.port}/ws/{kind}/") for _ in range(OF_EACH)]
            for kind in ENDS
        }
        members = [visitor for kind in MEMBERS for visitor in visitors[kind]]
        everybody = [visitor for kind in ENDS for visitor in visitors[kind]]
        stops = []
        async with visiting(everybody), publishing("outside", ROOM.asend) as said:
            for number in range(1, ROUNDS + 1):
                await until(lambda: all(visitor.connected for visitor in everybody))
                await until(lambda: all(visitor.joined for visitor in members))
                heard = said()
                await until(lambda: said() > heard + 10)  # noqa: B023
                new = Server(settings=SETTINGS, environment=environment)
                stack.enter_context(new)
                proxy.target = new.port
                began = monotonic()
                old.terminate()
                await told(everybody, number, began)
                stops.append(asyncio.create_task(stopped(old, began)))
                old = new
            await until(lambda: all(visitor.joined for visitor in members))
            await ROOM.asend("last")
            await until(lambda: all("last" in visitor.lives[-1] for visitor in members))
            await asyncio.gather(*stops)
        assert all(without_gap(visitor, "outside") for visitor in members)
