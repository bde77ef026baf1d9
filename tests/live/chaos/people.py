"""What people do to their sessions and sockets, and what of that is known."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from tests.kit.server import Server
from tests.live.faults.clients import opened

__all__ = ["PAGE_DEADLINE", "Browser", "Lineage", "People", "Socket", "get"]

PAGE_DEADLINE = 60.0
MOST_SOCKETS = 3  # of a browser
DONE, NOTHING = (200,), (409, 503)
# What is done how often.
ACTIONS = {
    "look": 2,
    "login": 1,
    "replace": 2,
    "logout": 2,
    "cycle": 4,
    "password": 2,
    "deactivate": 1,
    "delete": 1,
}


@dataclass(eq=False)
class Lineage:
    """A session, under whatever keys it has had.

    Attributes:
        doubts: what may have ended it: is under way, or was never answered.
        out: a page has said that it has ended it.
        leaving: a logout was not answered. It tells sockets first, and then the store. Or a login
            as somebody else was not, after a page that may have left a second row in the store: a
            key is cycled by writing the new row before the old one is deleted.
    """

    name: str
    user: int
    key: str = ""
    doubts: int = 0
    out: bool = False
    leaving: bool = False
    history: list[str] = field(default_factory=list)


@dataclass(eq=False)
class Socket:
    client: ClientConnection
    lineage: Lineage
    closed: bool = False


@dataclass(eq=False)
class Browser:
    chance: random.Random
    lineage: Lineage | None = None
    cookie: str = ""
    lost: bool = False  # its last page was not answered
    sockets: list[Socket] = field(default_factory=list)


class People:
    """A few users at a time, each with two browsers.

    Args:
        users: how many.
        servers: that they go to.
        away: what is away, for the history of a session.
    """

    def __init__(
        self, users: int, chance: random.Random, servers: list[Server], away: Iterable[str]
    ) -> None:
        self.did: Counter[str] = Counter()
        self.lineages: dict[str, Lineage] = {}
        self.sockets: list[Socket] = []
        self._browsers = [Browser(random.Random(chance.random())) for _ in range(2 * users)]
        self._users = list(range(1, users + 1))
        self._spare = count(users + 1)
        self._names = count(1)
        self._servers = servers
        self._away = away
        # Two people never do something to one user at once: what is answered is what is so.
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def live(self, over: Callable[[], bool]) -> None:
        async with asyncio.TaskGroup() as tasks:

            async def live(browser: Browser) -> None:
                while not over():
                    await self._act(browser)
                    browser.sockets = [one for one in browser.sockets if not one.closed]
                    if browser.lineage is not None and len(browser.sockets) < MOST_SOCKETS:
                        tasks.create_task(self._open(browser))
                    await asyncio.sleep(browser.chance.uniform(0, 0.5))

            for browser in self._browsers:
                tasks.create_task(live(browser))

    async def _act(self, browser: Browser) -> None:
        mine = browser.lineage
        if mine is None or mine.out:
            browser.lineage, browser.cookie, browser.lost = None, "", False
            await self._enter(browser)
            return
        (action,) = browser.chance.choices(list(ACTIONS), list(ACTIONS.values()))
        if browser.lost or action == "look":
            await self._do("look", browser)
        elif action == "login":  # once more
            await self._do("login", browser, keeps=[mine], user=mine.user, lineage="")
        elif action == "replace":
            await self._enter(browser)
        elif action == "logout":
            status = await self._do("logout", browser, ends=[mine])
            mine.leaving |= status not in (*DONE, *NOTHING)
        elif action == "cycle":
            await self._do("cycle", browser, keeps=[mine])
        elif action == "password":
            await self._do("password", browser, keeps=[mine], user=mine.user)
        elif action == "deactivate":
            user = browser.chance.choice(self._users)
            self._users[self._users.index(user)] = next(self._spare)
            await self._do("deactivate", Browser(browser.chance), user=user)
        else:
            # Of one that is in doubt nobody knows the key.
            sure = [one for one in self.lineages.values() if not (one.out or one.doubts)]
            if sure:
                await self._do(
                    "delete", Browser(browser.chance), ends=[browser.chance.choice(sure)]
                )

    async def _enter(self, browser: Browser) -> None:
        """Log in, perhaps as somebody else than who is in."""
        old = browser.lineage
        user = browser.chance.choice([one for one in self._users if not old or one != old.user])
        new = Lineage(str(next(self._names)), user)
        ends = [old] if old else []
        status = await self._do("login", browser, ends=ends, user=user, lineage=new.name)
        if old:
            old.leaving |= old.doubts > 1 and status not in (*DONE, *NOTHING)
        if status in DONE:
            self.lineages[new.name] = browser.lineage = new
            new.key = browser.cookie

    async def _do(
        self,
        path: str,
        browser: Browser,
        keeps: Iterable[Lineage] = (),
        ends: Iterable[Lineage] = (),
        **query: object,
    ) -> int:
        """Do something on a page, and note what it means for the sessions that it may end."""
        mine, user = browser.lineage, int(str(query.get("user", 0)))
        async with AsyncExitStack() as stack:
            for one in sorted({user, *(one.user for one in (*keeps, *ends))} - {0}):
                await stack.enter_async_context(self._locks[one])
            if any(one.out or (path == "delete" and one.doubts) for one in (*keeps, *ends)):
                return 409  # meanwhile
            if path == "delete":
                (query["key"],) = (one.key for one in ends)
            elif path in ("password", "deactivate"):
                every = [one for one in self.lineages.values() if one.user == user and not one.out]
                ends = [one for one in every if one not in keeps]
            for one in (*keeps, *ends):
                one.doubts += 1
            if mine is not None:
                query["expected"] = mine.name
            status = await self._page(f"/{path}/?{urlencode(query)}", browser)
            for one in (*keeps, *ends):
                if status in NOTHING:
                    one.doubts -= 1
                    continue
                one.history.append(f"{monotonic():.2f} {path} {status} while {list(self._away)}")
                one.doubts -= status in DONE and one in keeps
                one.out |= status in DONE and one in ends
            if mine is not None:
                mine.key = browser.cookie or mine.key
                browser.lost = status not in (*DONE, *NOTHING) or (browser.lost and status == 503)
                if status == 409:  # it is not in by that session
                    browser.lineage, browser.cookie = None, ""
        what = "done" if status in DONE else "refused" if status in NOTHING else "not answered"
        self.did[f"{path}: {what}"] += 1
        return status

    async def _page(self, path: str, browser: Browser) -> int:
        """Get a page from either process; return its status, 0 if there was no answer."""
        server = browser.chance.choice(self._servers)
        try:
            async with asyncio.timeout(PAGE_DEADLINE):
                head, _ = await get(server, path, browser.cookie)
            if found := re.search(r"set-cookie: sessionid=\"?(\w*)", head, re.IGNORECASE):
                browser.cookie = found[1]
            return int(head.split()[1])
        except (OSError, IndexError):
            return 0

    async def _open(self, browser: Browser) -> None:
        url = f"{browser.chance.choice(self._servers).url}/ws/mine/"
        headers = {"Cookie": f"sessionid={browser.cookie}"}
        try:
            async with asyncio.timeout(PAGE_DEADLINE):
                client = await opened(url, additional_headers=headers, open_timeout=None)
                socket = Socket(client, self.lineages[str(await client.recv())])
        except (WebSocketException, OSError):
            self.did["sockets: denied"] += 1
            return
        self.sockets.append(socket)
        browser.sockets.append(socket)


async def get(server: Server, path: str, cookie: str = "") -> tuple[str, str]:
    """Get a page; return its head and its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
        lines += [f"Cookie: sessionid={cookie}"] if cookie else []
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    finally:
        writer.close()
    return head, body
