"""A tenant of a running site, as its visitors and its operators see it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from http.client import HTTPConnection
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.kit.server import DEADLINE, ROOT, Server

__all__ = ["WAYS", "Tenant", "busy", "close_code", "session_key", "storm"]

ROWS = 5
# In which handlers read: tests/live/tenants/sockets.py.
WAYS = ("by-the-orm", "by-a-call", "by-itself", "by-a-cursor")


def session_key(user: str) -> str:
    """The key of the session that ``prepare`` has made for somebody, the same in each tenant."""
    return f"session{user}".ljust(32, "0")


async def close_code(socket: ClientConnection) -> int:
    """Read on to the end of a socket; 1006 where no close frame came."""
    async with asyncio.timeout(DEADLINE):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as exc:
            return 1006 if exc.rcvd is None else exc.rcvd.code


class Tenant:
    """One of a site.

    Args:
        name: ``"red"`` or ``"blue"``.
        server: the site.
        environment: of its commands.
    """

    def __init__(self, name: str, server: Server, environment: Mapping[str, str]) -> None:
        self.name = name
        self.rows = [f"{name} {pk}" for pk in range(1, ROWS + 1)]
        self._server = server
        self._environment = environment

    def connect(self, path: str, user: str | None = None, key: str | None = None) -> connect:
        """Connect somebody: ``async with red.connect("/ws/shop/", "ada") as socket``."""
        return connect(
            f"ws://{self.name}.example.com:{self._server.port}{path}",
            host="127.0.0.1",
            port=self._server.port,
            additional_headers=_cookie(user, key),
            proxy=None,
            compression=None,
            ping_interval=None,
            close_timeout=1,
            open_timeout=DEADLINE,
        )

    @asynccontextmanager
    async def many(
        self, count: int, path: str, user: str | None = None
    ) -> AsyncIterator[list[ClientConnection]]:
        """Connect several, one after the other."""
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self.connect(path, user)) for _ in range(count)]

    async def page(self, path: str, user: str | None = None, key: str | None = None) -> str:
        """Get a page; return its text."""
        return (await self.get(path, user, key))[0]

    async def status(self, path: str) -> int:
        """Get a page; return its status."""

        def get() -> int:
            with closing(HTTPConnection("127.0.0.1", self._server.port, timeout=DEADLINE)) as page:
                page.request("GET", path, headers={"Host": f"{self.name}.example.com"})
                return page.getresponse().status

        return await asyncio.to_thread(get)

    async def get(
        self, path: str, user: str | None = None, key: str | None = None
    ) -> tuple[str, str]:
        """Get a page; return its text, and the key of the session that it has begun."""
        return await asyncio.to_thread(self._get, path, _cookie(user, key))

    def _get(self, path: str, headers: dict[str, str]) -> tuple[str, str]:
        with closing(HTTPConnection("127.0.0.1", self._server.port, timeout=DEADLINE)) as page:
            page.request("GET", path, headers={"Host": f"{self.name}.example.com", **headers})
            response = page.getresponse()
            text = response.read().decode()
        assert response.status == 200, f"{text}\n{self._server.log}"
        cookies = response.headers.get("Set-Cookie", "")
        return text, cookies.partition("sessionid=")[2].partition(";")[0]

    async def command(self, *arguments: str) -> None:
        """Run ``manage.py shop`` for this tenant, in a process of its own."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "django", "shop", self.name, *arguments),
            cwd=ROOT,
            env={**os.environ, **self._environment},
        )
        async with asyncio.timeout(2 * DEADLINE):
            assert await process.wait() == 0

    async def ask(self, sockets: list[ClientConnection], times: int = 1) -> list[Any]:
        """Have each of them answer so many times, all at once; return the answers."""

        async def answers(socket: ClientConnection) -> list[Any]:
            found = []
            for _ in range(times):
                await socket.send("?")
                async with asyncio.timeout(DEADLINE):
                    found.append(json.loads(await socket.recv()))
            return found

        found = await asyncio.gather(*(answers(socket) for socket in sockets))
        return [answer for each in found for answer in each]


async def storm(tenants: Sequence[Tenant], sockets: int, answers: int) -> Counter[tuple[str, str]]:
    """Have so many sockets read, in every way and as fast as it goes, until all have answered.

    Returns:
        How often who read in which way got what: ``"own"``, or the answer.
    """
    asyncio.get_running_loop().set_debug(False)  # which takes most of the time
    found: Counter[tuple[str, str]] = Counter()
    few = asyncio.Semaphore(8)

    async with AsyncExitStack() as stack:

        async def connect_to(tenant: Tenant, way: str) -> tuple[str, Tenant, ClientConnection]:
            async with few:
                return way, tenant, await stack.enter_async_context(tenant.connect(f"/ws/{way}/"))

        kinds = [(tenant, way) for tenant in tenants for way in WAYS]
        each = sockets // len(kinds)
        opened = await asyncio.gather(*(connect_to(*kind) for kind in kinds for _ in range(each)))

        async def ask(way: str, tenant: Tenant, socket: ClientConnection) -> None:
            for answer in await tenant.ask([socket], answers // sockets):
                found[way, "own" if answer == tenant.rows else str(answer)] += 1

        await asyncio.gather(*(ask(*one) for one in opened))
    return found


@asynccontextmanager
async def busy(*tenants: Tenant, each: int = 1) -> AsyncIterator[list[int]]:
    """Have sockets of each tenant read in every way all the while, and check what they read.

    Gives a list whose length is how often all have answered so far.
    """
    over = asyncio.Event()
    rounds: list[int] = []

    async def read(tenant: Tenant, sockets: list[ClientConnection]) -> None:
        while not over.is_set():
            answers = await tenant.ask(sockets)
            assert answers == [tenant.rows] * len(sockets)
            rounds.append(len(answers))
            # What else there is to do has its turn.
            await asyncio.sleep(0.02)

    async with AsyncExitStack() as stack:
        opened = [
            (tenant, await stack.enter_async_context(tenant.many(each, f"/ws/{way}/")))
            for tenant in tenants
            for way in WAYS
        ]
        tasks = [asyncio.create_task(read(*one)) for one in opened]
        try:
            yield rounds
        finally:
            over.set()
            await asyncio.gather(*tasks)
        assert rounds


def _cookie(user: str | None, key: str | None) -> dict[str, str]:
    key = key or (session_key(user) if user else None)
    return {} if key is None else {"Cookie": f"sessionid={key}"}
