"""The network between a client and the server falls silent: in both directions, or in one."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.kit.server import DEADLINE, Server
from tests.kit.valkey import Valkey

from .classes import MISSED
from .faults.clients import close_code, holds, opened, undisturbed
from .proxy import Proxy

pytestmark = [pytest.mark.live, pytest.mark.asyncio, pytest.mark.usefixtures("ws")]

# What was measured: --log-cli-level=INFO
logger = logging.getLogger("faults")

SETTINGS = "tests.live.faults.settings"
# A second is what takes 20 s by default.
PINGS = ("--ws-ping-interval", "1", "--ws-ping-timeout", "1")
# What each kind of handler notes once it has ended.
ENDS = {
    "reads": "reads ended",
    "sends": "sends ended",
    "sleeps": "sleeps ended",
    "works": "works ended",
    "feed": "generator closed",
    "waits": "waits {}",
    "raw-echo": "raw_echo {}",
    "raw-pusher": "pusher ended",
    "raw-sleeper": "woken",
}
MEMBERS = 4
OF_EACH = 5
MESSAGE = "x" * 65536
FLOOD = 200


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with Valkey() as valkey:
        backend = "django_ws_dispatch.brokers.redis.RedisBroker"
        broker = {"default": {"BACKEND": backend, "LOCATION": valkey.url}}
        yield {"WEBSOCKET_BROKERS": json.dumps(broker)}


@pytest.fixture(scope="module")
def pinging_server(ws: str, environment: dict[str, str]) -> Iterator[Server]:
    with Server(*PINGS, settings=SETTINGS, environment=environment) as server:
        yield server


@pytest.fixture(scope="module")
def patient_server(ws: str, environment: dict[str, str]) -> Iterator[Server]:
    with Server(settings=SETTINGS, environment=environment) as server:
        yield server


@pytest.fixture
def pinging(pinging_server: Server) -> Iterator[Server]:
    yield pinging_server
    pinging_server.check()


@pytest.fixture
def patient(patient_server: Server) -> Iterator[Server]:
    yield patient_server
    patient_server.check()


@asynccontextmanager
async def through(proxy: Proxy, path: str, count: int = 1) -> AsyncIterator[list[ClientConnection]]:
    """Sockets behind the proxy. At the end they may be unable to say goodbye."""
    async with AsyncExitStack() as stack:
        url = f"ws://127.0.0.1:{proxy.port}/ws/{path}/"
        sockets = [await stack.enter_async_context(opened(url)) for _ in range(count)]
        try:
            yield sockets
        finally:
            for socket in sockets:
                socket.transport.abort()


async def noted(server: Server, note: str, count: int = 1) -> None:
    await asyncio.to_thread(server.wait_for_notes, note, count)


# Both directions


async def test_every_kind_of_handler_ends_when_its_client_falls_silent(
    pinging: Server, ws: str
) -> None:
    notes = [note.format(MISSED[ws]) for note in ENDS.values()]
    async with AsyncExitStack() as stack:
        proxy = stack.enter_context(Proxy(pinging.port))
        neighbour = await stack.enter_async_context(undisturbed(pinging, "/ws/reads/"))
        for path in ENDS:
            await stack.enter_async_context(through(proxy, path, OF_EACH))
        await holds(pinging, sockets=OF_EACH * len(ENDS) + 1, members=OF_EACH * MEMBERS + 1)
        before = {note: pinging.notes.count(note) for note in notes}
        proxy.stall()
        began = monotonic()
        for note in notes:
            await noted(pinging, note, before[note] + OF_EACH)
        await holds(pinging, sockets=1, members=1)
        logger.info("Seconds to the last end: %.1f", monotonic() - began)
        logger.info("The longest echo beside: %.3f s", neighbour.longest)
    await holds(pinging, sockets=0, members=0)


async def test_a_client_that_falls_silent_with_much_to_read_is_given_up(
    environment: dict[str, str],
) -> None:
    # So that nobody is closed with 1013 before.
    environment = {**environment, "WEBSOCKET_OUTBOX_SIZE": str(2 * FLOOD * len(MESSAGE))}
    with (
        Server(*PINGS, settings=SETTINGS, environment=environment) as server,
        Proxy(server.port) as proxy,
    ):
        async with (
            through(proxy, "gushes"),
            through(proxy, "raw-gushes"),
            through(proxy, "reads"),
            undisturbed(server),
            opened(f"{server.url}/ws/publishes/") as publisher,
        ):
            proxy.stall()
            began = monotonic()
            for _ in range(FLOOD):
                await publisher.send(f"async {MESSAGE}")
                assert "async" in json.loads(await publisher.recv())
            await noted(server, "gushes ended", 2)
            await noted(server, "reads ended")
            await holds(server, sockets=2, members=0)
            logger.info("Seconds to the last end: %.1f", monotonic() - began)


async def test_a_client_that_falls_silent_with_much_to_read_does_not_keep_the_server_from_stopping(
    environment: dict[str, str],
) -> None:
    with (
        Server(*PINGS, settings=SETTINGS, environment=environment) as server,
        Proxy(server.port) as proxy,
    ):
        async with through(proxy, "gushes"), through(proxy, "sleeps"):
            proxy.stall()
            # It was pinged when the other one was.
            await noted(server, "sleeps ended")
            began = monotonic()
            await asyncio.to_thread(server.stop)
            logger.info("Seconds to the stop: %.1f", monotonic() - began)
            assert server.notes.count("gushes ended") == 1


async def test_a_silence_that_ends_before_a_ping_is_missed_costs_nothing(patient: Server) -> None:
    words = [f"word {number}" for number in range(50)]
    with Proxy(patient.port) as proxy:
        async with through(proxy, "reads") as (socket,):
            assert str(await socket.recv()).startswith("joined")
            for directions in ({"down": False}, {"up": False}, {}):
                proxy.stall(**directions)
                for word in words:
                    await socket.send(word)
                async with undisturbed(patient):
                    pass
                proxy.resume()
                assert [await socket.recv() for _ in words] == words


# One direction


async def test_a_client_whose_words_do_not_arrive_is_told_that_it_is_given_up(
    pinging: Server,
) -> None:
    before = pinging.notes.count("reads ended")
    with Proxy(pinging.port) as proxy:
        async with through(proxy, "reads") as (socket,):
            proxy.stall(down=False)
            assert await close_code(socket) == 1011
            await noted(pinging, "reads ended", before + 1)


@pytest.mark.parametrize("when", ["at once", "once it was cut off"])
async def test_a_slow_client_that_reads_again_misses_nothing_before_its_end(
    patient: Server, when: str
) -> None:
    closed = patient.log.count("more than WEBSOCKET_OUTBOX_SIZE")
    with Proxy(patient.port) as proxy:
        async with (
            through(proxy, "reads") as (slow,),
            opened(f"{patient.url}/ws/publishes/") as publisher,
            opened(f"{patient.url}/ws/reads/") as one,
            opened(f"{patient.url}/ws/reads/") as other,
        ):
            for socket in (slow, one, other):
                assert str(await socket.recv()).startswith("joined")
            proxy.stall(up=False)
            for number in range(FLOOD):
                await publisher.send(f"async {number} {MESSAGE}")
                assert "async" in json.loads(await publisher.recv())
                for socket in (one, other):
                    assert await socket.recv() == f"{number} {MESSAGE}"
            await asyncio.to_thread(
                patient.wait_for_log, "more than WEBSOCKET_OUTBOX_SIZE", closed + 1
            )
            began = monotonic()
            if when != "at once":
                await holds(patient, sockets=3)
                logger.info("Seconds from 1013 to the cut: %.1f", monotonic() - began)
            proxy.resume()
            got, code = await rest_of(slow)
            assert code == (1013 if when == "at once" else 1006)
            assert 0 < len(got) < FLOOD
            assert got == list(range(len(got)))
            logger.info("Messages before the end: %d of %d", len(got), FLOOD)
            await publisher.send("async still here")
            assert await other.recv() == "still here"


async def rest_of(socket: ClientConnection) -> tuple[list[int], int]:
    """Read to the end. Return the numbers of the messages, and the close code."""
    got: list[int] = []
    async with asyncio.timeout(DEADLINE):
        try:
            while True:
                got.append(int(str(await socket.recv()).split()[0]))
        except ConnectionClosed as exc:
            return got, 1006 if exc.rcvd is None else exc.rcvd.code
