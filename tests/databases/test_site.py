"""Two processes of a site on one database, and clients that know nothing of Django."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import urllib.error
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import quote

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.kit.server import DEADLINE, Server
from tests.kit.waiting import until
from tests.live.envelope.page import ask
from tests.live.faults.clients import opened

from .database import SERVERS, Database

pytestmark = [pytest.mark.live, pytest.mark.databases, pytest.mark.asyncio]

ROOM, PLAIN = "room:a", "plain"
WORDS = 20
RESTARTS = 3


@asynccontextmanager
async def serving(database: Database, count: int = 2) -> AsyncIterator[list[Server]]:
    """Run so many processes of the site."""
    servers = [database.site() for _ in range(count)]
    async with AsyncExitStack() as stack:
        for server in servers:
            server.start()
            stack.callback(server.kill)
        for server in servers:
            await asyncio.to_thread(server.wait_until_ready)
        yield servers
        for server in servers:
            if server.alive:
                await asyncio.to_thread(server.stop)
            server.check()


class Client:
    """Keeps what it gets.

    Attributes:
        got: the messages, as they came.
        code: with which it was closed, 0 before.
    """

    def __init__(self) -> None:
        self.got: list[str] = []
        self.code = 0

    async def read(self, socket: ClientConnection) -> None:
        """Go on until the end."""
        try:
            while True:
                self.got.append(str(await socket.recv()))
        except ConnectionClosed as exc:
            self.code = 1006 if exc.rcvd is None else exc.rcvd.code

    async def has(self, *words: str) -> None:
        """Return once the last that came were these, and assert that there was nothing else."""
        try:
            await until(lambda: len(self.got) >= len(words))
        except TimeoutError:
            pass
        assert self.got == [*words]


@asynccontextmanager
async def member(server: Server, group: str, key: str = "ann") -> AsyncIterator[Client]:
    """Be in a group."""
    client = Client()
    async with opened(f"{server.url}/ws/{group}/{key}/") as socket:
        assert await socket.recv() == "joined"
        reading = asyncio.create_task(client.read(socket))
        yield client
    await reading


async def send(server: Server, how: str, group: str, *words: str) -> list[str | None]:
    """Ask a page to send; what ``send()`` returned for each."""
    answer: list[str | None] = json.loads(
        await ask(server, f"/{how}/{group}/{quote(' '.join(words))}/")
    )
    return answer


@pytest.mark.parametrize("group", [ROOM, PLAIN])
async def test_what_pages_of_two_processes_commit_reaches_all_in_order_and_once(
    database: Database, group: str
) -> None:
    async with (
        serving(database) as (one, two),
        member(one, group) as ann,
        member(two, group) as bob,
    ):
        expected = []
        for number in range(WORDS):
            server = (one, two)[number % 2]
            words = [f"{number}.{part}" for part in range(3)]
            assert await send(server, "in_a_transaction", group, words[0]) == [None]
            assert await send(server, "rolled_back", group, "never") == [None]
            (position,) = await send(server, "in_no_transaction", group, words[1])
            assert (position is None) == (group == PLAIN)
            assert await send(server, "partly_rolled_back", group, words[2]) == [None]
            expected += words
        await ann.has(*expected)
        await bob.has(*expected)


async def test_what_a_page_sends_is_there_when_it_is_killed_right_after(
    database: Database,
) -> None:
    async with serving(database) as (lives, dies), member(lives, ROOM) as ann:
        await send(dies, "in_a_transaction", ROOM, "before")
        with pytest.raises((OSError, EOFError)):
            await send(dies, "dies", ROOM, "last")
        await asyncio.to_thread(dies.wait)
        await ann.has("before", "last")
        await send(lives, "in_a_transaction", ROOM, "after")
        await ann.has("before", "last", "after")


class Sender:
    """Asks the pages of a process to send numbers, each once, until it is told to stop."""

    HOW = itertools.cycle(["in_a_transaction", "rolled_back", "in_no_transaction"])

    NUMBERS = itertools.count()

    def __init__(self, server: Server) -> None:
        self.committed: list[int] = []
        self.unsure: set[int] = set()
        self.over = False
        self._server = server

    async def send(self) -> None:
        while not self.over:
            number, how = next(self.NUMBERS), next(self.HOW)
            try:
                await send(self._server, how, ROOM, str(number))
            except urllib.error.HTTPError as exc:
                exc.close()
                if how != "rolled_back":
                    self.unsure.add(number)
                await asyncio.sleep(0.01)
            else:
                if how != "rolled_back":
                    self.committed.append(number)


@asynccontextmanager
async def sending(*servers: Server) -> AsyncIterator[list[Sender]]:
    """Have one at each process."""
    senders = [Sender(server) for server in servers]
    tasks = [asyncio.create_task(sender.send()) for sender in senders]
    yield senders
    for sender in senders:
        sender.over = True
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*tasks)


async def have_sent(senders: list[Sender], count: int) -> None:
    """Return once each has sent so many more."""
    goals = [len(sender.committed) + count for sender in senders]
    await until(
        lambda: all(len(one.committed) >= goal for one, goal in zip(senders, goals, strict=True))
    )


@pytest.mark.parametrize("database", SERVERS, indirect=True)
async def test_a_database_that_crashes_under_traffic_has_lost_nothing_that_was_committed(
    database: Database,
) -> None:
    assert database.server is not None
    crash = signal.SIGKILL if database.kind == "mariadb" else signal.SIGQUIT
    async with (
        serving(database) as (one, two),
        member(one, ROOM) as ann,
        member(two, ROOM) as bob,
    ):
        async with sending(one, two) as senders:
            await have_sent(senders, 10)
        before = await at_rest(database)
        async with sending(one, two) as more:
            for _ in range(RESTARTS):
                await have_sent(more, 10)
                await asyncio.to_thread(database.server.restart, crash)
            await have_sent(more, 10)
            senders += more
        for server in (one, two):
            server.expected += ["Lost the broker", "Traceback", "ERROR"]
        await send(one, "in_a_transaction", ROOM, "end")
        for client in (ann, bob):
            await until(lambda client=client: client.code or "end" in client.got)
            assert client.code == 0
        assert ann.got == bob.got
        check(ann.got[:-1], senders)
        # No connection is leaked, by those that were lost neither.
        await until(lambda: database.sessions() <= before)
    assert database.sessions() == 0


async def at_rest(database: Database) -> int:
    """How many connections there are while nobody asks for anything: the fewest of many looks."""
    return min([await asyncio.to_thread(database.sessions) for _ in range(100)])


def check(got: list[str], senders: list[Sender]) -> None:
    """Assert that all that was committed came, each once, and that of one sender in its order."""
    numbers = [int(one) for one in got]
    assert len(numbers) == len(set(numbers))
    committed = {number for sender in senders for number in sender.committed}
    # Of what was refused nobody knows whether it was committed.
    unsure = {number for sender in senders for number in sender.unsure}
    assert committed <= set(numbers) <= committed | unsure
    for sender in senders:
        mine = {*sender.committed, *sender.unsure}
        own = [number for number in numbers if number in mine]
        assert own == sorted(own)
