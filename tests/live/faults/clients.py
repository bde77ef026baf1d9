"""Who is on the other side in the fault tests: pages that come back, and a neighbour."""

from __future__ import annotations

import asyncio
import json
import random
import re
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from tests.kit.server import DEADLINE, Server

__all__ = [
    "Visitor",
    "close_code",
    "holds",
    "numbers",
    "opened",
    "publishing",
    "state",
    "undisturbed",
    "visiting",
]

# Seconds between two messages. Shorter than any fault lasts, so that what is held up shows.
PACE = 0.05


def opened(url: str, **options: Any) -> connect:
    """Connect with a client that sends no pings and whose messages are as big as they look."""
    defaults = {"compression": None, "max_size": None, "ping_interval": None, "proxy": None}
    # What it has not read is in the way of the other's goodbye.
    return connect(url, **{**defaults, "close_timeout": 1, **options})


async def close_code(socket: ClientConnection) -> int:
    """Read on to the end of a socket; 1006 where no close frame came."""
    async with asyncio.timeout(DEADLINE):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as exc:
            return 1006 if exc.rcvd is None else exc.rcvd.code


async def state(server: Server) -> dict[str, Any]:
    """What the process says that it holds."""

    def get() -> dict[str, Any]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{server.http_url}/state/", timeout=DEADLINE) as response:
            found: dict[str, Any] = json.load(response)
            return found

    return await asyncio.to_thread(get)


async def holds(server: Server, **expected: int) -> None:
    """Wait until the process holds exactly so many ``sockets``, ``members``, ..."""
    async with asyncio.timeout(DEADLINE):
        while True:
            found = await state(server)
            if {what: found[what] for what in expected} == expected:
                return
            await asyncio.sleep(0.05)


def numbers(messages: Iterable[str], publisher: str) -> list[int]:
    """Return what one publisher has counted, of all that a socket got."""
    found = (re.fullmatch(rf"{publisher} (\d+)", message) for message in messages)
    return [int(match[1]) for match in found if match]


class Neighbour:
    """Has an echo going.

    Attributes:
        longest: seconds that one took so far.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.longest = 0.0
        self._socket = socket

    async def chat(self, over: asyncio.Event) -> None:
        """Go on until it is over; at least once."""
        while True:
            began = monotonic()
            await self._socket.send(f"echo {began}")
            async with asyncio.timeout(DEADLINE):
                while await self._socket.recv() != f"echo {began}":
                    pass
            self.longest = max(self.longest, monotonic() - began)
            if over.is_set():
                return
            await asyncio.sleep(PACE)


@asynccontextmanager
async def undisturbed(server: Server, path: str = "/ws/echo/") -> AsyncIterator[Neighbour]:
    """Echo in the background all the while, on one socket; raises where it fails."""
    over = asyncio.Event()
    async with opened(server.url + path) as socket:
        neighbour = Neighbour(socket)
        chat = asyncio.create_task(neighbour.chat(over))
        try:
            yield neighbour
        finally:
            over.set()
            await chat


@asynccontextmanager
async def publishing(
    publisher: str, publish: Callable[[str], Awaitable[None]]
) -> AsyncIterator[Callable[[], int]]:
    """Publish numbers all the while; gives how many have been acknowledged."""
    count, over = 0, False

    async def publish_all() -> None:
        nonlocal count
        while not over:
            await publish(f"{publisher} {count}")
            count += 1
            await asyncio.sleep(PACE)

    task = asyncio.create_task(publish_all())
    try:
        yield lambda: count
    finally:
        over = True
        with suppress(ConnectionClosed):  # the one through which it published is dead
            await asyncio.wait_for(task, DEADLINE)


class Visitor:
    """A page: it connects again whenever it is closed, as docs/howto/deploys.md has it.

    Attributes:
        lives: the messages of each connection, in order.
        ends: the close code of each that has ended, and when.
        joined: the process that it is a member in now; 0 while it is not.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.lives: list[list[str]] = []
        self.ends: list[tuple[int, float]] = []
        self.joined = 0

    @property
    def connected(self) -> bool:
        return len(self.lives) > len(self.ends)

    async def visit(self) -> None:
        pause = 0.1
        while True:
            try:
                async with opened(self.url) as socket:
                    pause = 0.1
                    self.lives.append([])
                    await self._read(socket)
            except (OSError, TimeoutError, EOFError, InvalidMessage):
                pass
            except InvalidStatus as exc:
                if exc.response.status_code < 500:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, 2)

    async def _read(self, socket: ClientConnection) -> None:
        try:
            while True:
                message = str(await socket.recv())
                self.lives[-1].append(message)
                # A message of the group may come before this.
                if message.startswith("joined "):
                    self.joined = int(message.removeprefix("joined "))
        except ConnectionClosed as exc:
            self.joined = 0
            self.ends.append((1006 if exc.rcvd is None else exc.rcvd.code, monotonic()))


@asynccontextmanager
async def visiting(visitors: Iterable[Visitor]) -> AsyncIterator[None]:
    """Have them there for a while."""
    tasks = [asyncio.create_task(visitor.visit()) for visitor in visitors]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        with suppress(asyncio.CancelledError):
            task.result()
