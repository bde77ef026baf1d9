"""People do things to their sessions while the broker and the database come and go.

At the end each socket is judged by what the store says of the session that it was opened under. And
one that is closed while nobody has done anything that could end its session is wrong at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import monotonic
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from tests.live.faults.clients import opened
from tests.live.postgres import PostgresServer, binaries
from tests.live.server import ROOT, Server
from tests.live.valkey import Valkey

__all__ = ["SESSIONS", "Program"]

SESSIONS = ["db", "cached_db", "cache", "file"]
SETTINGS = "tests.live.chaos.settings"
PREPARE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
User.objects.bulk_create(User(username=f"user{n}") for n in range(5000))
"""
# Seconds that one page may take, and that all may take to come to rest. A socket whose session is
# gone under a key that it was just given stays for 60 s.
PAGE_DEADLINE, REST_DEADLINE = 60.0, 240.0
START_DEADLINE = 120.0
# What must not be in a log, whatever else is away.
TROUBLE = re.compile(r"Task was destroyed|never retrieved|was never awaited|Exception in callback")
LOGGED_OUT = 4401
MOST_SOCKETS = 3  # of a browser


@dataclass(eq=False)
class Lineage:
    """A session, under whatever keys it has had.

    Attributes:
        doubts: what may have ended it: is under way, or was never answered.
        out: a page has said that it has ended it.
        leaving: a logout was not answered. It tells sockets first, and then the store.
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
    opened: float = field(default_factory=monotonic)


@dataclass(eq=False)
class Browser:
    """Attributes: ``lost`` where its last page was not answered."""

    chance: random.Random
    lineage: Lineage | None = None
    cookie: str = ""
    lost: bool = False
    sockets: list[Socket] = field(default_factory=list)

    def forget(self) -> None:
        self.lineage, self.cookie, self.lost = None, "", False


class Program:
    """A run.

    Args:
        seed: of all that is decided by chance. What becomes of it is a matter of time as well.
        outages: of the broker and the database.
        users: at a time. Each has two browsers.
        sessions: the engine.
    """

    def __init__(self, seed: int, outages: int, users: int, sessions: str) -> None:
        self.wrong: list[str] = []
        self._chance = random.Random(seed)
        self._outages = outages
        self._sessions = sessions
        self._users = list(range(1, users + 1))
        self._spare = count(users + 1)
        self._names = count(1)
        self._lineages: dict[str, Lineage] = {}
        self._sockets: list[Socket] = []
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._away: dict[str, float] = {}
        self._did: Counter[str] = Counter()
        self._found: Counter[str] = Counter()
        self._opening: set[asyncio.Task[None]] = set()

    def run(self, quiet: float, logs: str | None) -> None:
        """Run it.

        Args:
            quiet: seconds after which it is judged again.
            logs: a folder for the logs of the servers.
        """
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-"))
            self._broker, self._cache = (stack.enter_context(Valkey()) for _ in range(2))
            self._database = PostgresServer(binaries())
            stack.callback(self._database.remove)
            self._database.start()
            environment = {
                "DJANGO_SETTINGS_MODULE": SETTINGS,
                "LIVE_DATABASE": json.dumps(self._database.settings),
                "LIVE_SESSIONS": self._sessions,
                "LIVE_FOLDER": folder,
                "LIVE_CACHE": self._cache.url,
                "LIVE_BROKER": self._broker.url,
            }
            subprocess.run(
                [sys.executable, "-c", PREPARE],
                cwd=ROOT,
                env={**os.environ, **environment},
                check=True,
            )
            servers = [Server(settings=SETTINGS, environment=environment) for _ in range(2)]
            for server in servers:
                server.expected.append("")  # whatever it says of what is away
                server.start()
                stack.push(server.__exit__)
                server.wait_for_log(server.READY, deadline=START_DEADLINE)
            self._servers = servers
            try:
                asyncio.run(self._run(quiet))
            finally:
                for number, server in enumerate(servers if logs else ()):
                    Path(logs or "", f"server{number}.log").write_text(server.log)
            for server in servers:
                self.wrong += [line for line in server.lines if TROUBLE.search(line)]

    async def _run(self, quiet: float) -> None:
        browsers = [self._browser() for _ in self._users for _ in range(2)]
        going = asyncio.create_task(self._go_away())
        people = [asyncio.create_task(self._live(browser, going)) for browser in browsers]
        observing = asyncio.create_task(self._observe())
        async with AsyncExitStack() as stack:
            stack.callback(observing.cancel)
            await asyncio.gather(going, *people)
            await asyncio.gather(*self._opening)
            await self._come_to_rest()
            if quiet:
                await asyncio.sleep(quiet)
            await self._judge()
        for socket in self._sockets:
            socket.client.transport.abort()

    def _browser(self) -> Browser:
        return Browser(random.Random(self._chance.random()))

    # What goes away

    async def _go_away(self) -> None:
        broker, cache, database = self._broker, self._cache, self._database
        brokers = {
            "broker killed": (broker.kill, broker.start),
            "broker frozen": (broker.freeze, broker.thaw),
        }
        stores = {
            "database stopped": (database.stop, database.start),
            "database crashed": (lambda: database.stop(signal.SIGQUIT), database.start),
        }
        if "cache" in self._sessions:
            # What is killed has lost its sessions, which the database has only with cached_db.
            stores["cache frozen"] = (cache.freeze, cache.thaw)
        if self._sessions == "cached_db":
            stores["cache killed"] = (cache.kill, cache.start)
        await asyncio.gather(*(self._take_away(each) for each in (brokers, stores)))

    async def _take_away(
        self, ways: dict[str, tuple[Callable[[], None], Callable[[], None]]]
    ) -> None:
        chance = random.Random(self._chance.random())
        while self._outages > 0:
            self._outages -= 1
            await asyncio.sleep(chance.uniform(0, 2.5))
            name = chance.choice(list(ways))
            begin, end = ways[name]
            if self._away:
                self._did["outages while something else was away"] += 1
            self._away[name] = monotonic()
            await asyncio.to_thread(begin)
            # Some are so long that who listens to a frozen broker gives it up.
            long = chance.random() < 0.15
            await asyncio.sleep(chance.uniform(4, 7) if long else chance.uniform(0, 1.5))
            await asyncio.to_thread(end)
            del self._away[name]
            self._did[f"outages: {name}"] += 1

    # What people do

    async def _live(self, browser: Browser, going: asyncio.Task[None]) -> None:
        chance = browser.chance
        actions = {
            self._look: 2,
            self._login_again: 1,
            self._replace: 2,
            self._logout: 2,
            self._cycle: 4,
            self._change_password: 2,
            self._deactivate_somebody: 1,
            self._delete_somebody: 1,
        }
        while not going.done():
            lineage = browser.lineage
            if lineage is None or lineage.out:
                browser.forget()
                await self._login(browser)
            elif browser.lost:
                await self._look(browser)
            else:
                (action,) = chance.choices(list(actions), list(actions.values()))
                await action(browser)
            browser.sockets = [one for one in browser.sockets if one.client.close_code is None]
            if browser.lineage is not None and len(browser.sockets) < MOST_SOCKETS:
                task = asyncio.create_task(self._open(browser, browser.lineage))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            await asyncio.sleep(chance.uniform(0, 0.5))

    async def _login(self, browser: Browser) -> None:
        user = browser.chance.choice(self._users)
        lineage = Lineage(str(next(self._names)), user)
        async with self._locks[user]:
            if await self._page("login", browser, user=user, lineage=lineage.name) == 200:
                self._enter(browser, lineage)

    def _enter(self, browser: Browser, lineage: Lineage) -> None:
        self._lineages[lineage.name] = browser.lineage = lineage
        lineage.key = browser.cookie

    async def _look(self, browser: Browser) -> None:
        await self._do("look", browser)

    async def _login_again(self, browser: Browser) -> None:
        lineage = browser.lineage
        assert lineage is not None
        await self._do("login", browser, [lineage], user=lineage.user, lineage="")

    async def _replace(self, browser: Browser) -> None:
        old = browser.lineage
        assert old is not None
        user = browser.chance.choice([one for one in self._users if one != old.user])
        lineage = Lineage(str(next(self._names)), user)
        new = {"user": user, "lineage": lineage.name}
        if await self._do("login", browser, ends=[old], **new) == 200:
            self._enter(browser, lineage)

    async def _logout(self, browser: Browser) -> None:
        lineage = browser.lineage
        assert lineage is not None
        status = await self._do("logout", browser, ends=[lineage])
        lineage.leaving |= status not in (200, 409, 503)

    async def _cycle(self, browser: Browser) -> None:
        assert browser.lineage is not None
        await self._do("cycle", browser, [browser.lineage])

    async def _change_password(self, browser: Browser) -> None:
        lineage = browser.lineage
        assert lineage is not None
        async with self._locks[lineage.user]:
            others = [one for one in self._of(lineage.user) if one is not lineage]
            await self._do("password", browser, [lineage], others, locked=True)

    async def _deactivate_somebody(self, browser: Browser) -> None:
        user = browser.chance.choice(self._users)
        self._users[self._users.index(user)] = next(self._spare)
        async with self._locks[user]:
            await self._do("deactivate", None, ends=self._of(user), locked=True, user=user)

    async def _delete_somebody(self, browser: Browser) -> None:
        sure = [one for one in self._lineages.values() if not (one.out or one.doubts)]
        if sure:
            lineage = browser.chance.choice(sure)
            async with self._locks[lineage.user]:
                if not (lineage.out or lineage.doubts):  # then nobody knows its key
                    await self._do("delete", None, ends=[lineage], locked=True, key=lineage.key)

    def _of(self, user: int) -> list[Lineage]:
        return [one for one in self._lineages.values() if one.user == user and not one.out]

    async def _do(
        self,
        path: str,
        browser: Browser | None,
        keeps: Iterable[Lineage] = (),
        ends: Iterable[Lineage] = (),
        *,
        locked: bool = False,
        **query: object,
    ) -> int:
        """Do something on a page, and note what it means for sessions.

        Two people never do something to one user at once, so that what is answered is what is so.
        """
        lineage = browser.lineage if browser is not None else None
        users = {one.user for one in (*keeps, *ends)} | {int(str(query.get("user", 0)))}
        async with AsyncExitStack() as stack:
            for user in sorted(users) if not locked else ():
                await stack.enter_async_context(self._locks[user])
            if lineage is not None and lineage.out:
                return 409
            for one in (*keeps, *ends):
                one.doubts += 1
            if lineage is not None:
                query["expected"] = lineage.name
            status = await self._page(path, browser, **query)
            for one in (*keeps, *ends):
                one.history.append(f"{monotonic():.2f} {path} {status} while {list(self._away)}")
                one.doubts -= status in (409, 503) or (status == 200 and one in keeps)
            for one in ends:
                one.out |= status == 200
            if browser is not None and lineage is not None:
                lineage.key = browser.cookie or lineage.key
                browser.lost = status not in (200, 409, 503) or (browser.lost and status == 503)
                if status == 409:
                    browser.forget()
        return status

    async def _page(self, path: str, browser: Browser | None, **query: object) -> int:
        """Get a page from either process; return its status, 0 if there was no answer."""
        server = (browser.chance if browser else self._chance).choice(self._servers)
        cookie, status = browser.cookie if browser else "", 0
        try:
            async with asyncio.timeout(PAGE_DEADLINE):
                head, _ = await get(server, f"/{path}/?{urlencode(query)}", cookie)
            status = int(head.split()[1])
            found = re.search(r"set-cookie: sessionid=\"?(\w*)", head, re.IGNORECASE)
            if browser is not None and found:
                browser.cookie = found[1]
        except (OSError, IndexError):
            pass
        what = "done" if status == 200 else "refused" if status in (409, 503) else "not answered"
        self._did[f"pages: {path}, {what}"] += 1
        return status

    async def _open(self, browser: Browser, lineage: Lineage) -> None:
        server = browser.chance.choice(self._servers)
        headers = {"Cookie": f"sessionid={browser.cookie}"}
        try:
            client = await opened(
                f"{server.url}/ws/mine/", additional_headers=headers, open_timeout=PAGE_DEADLINE
            )
            async with asyncio.timeout(PAGE_DEADLINE):
                name = str(await client.recv())
        except (WebSocketException, OSError):
            self._did["sockets that were denied"] += 1
            return
        socket = Socket(client, self._lineages[name])
        self._sockets.append(socket)
        browser.sockets.append(socket)

    # What becomes of the sockets

    async def _observe(self) -> None:
        while True:
            for socket in self._sockets:
                if socket.client.close_code is not None and not socket.closed:
                    socket.closed = True
                    lineage = socket.lineage
                    lineage.history.append(f"{monotonic():.2f} closed {socket.client.close_code}")
                    if not (lineage.out or lineage.doubts):
                        self._accuse(socket, "closed, and nobody did anything")
            await asyncio.sleep(0.05)

    def _accuse(self, socket: Socket, what: str) -> None:
        one, code = socket.lineage, socket.client.close_code
        self.wrong.append(
            f"{what}: code {code}, opened {socket.opened:.2f}, session {one.name} of user "
            f"{one.user}, doubts {one.doubts}, out {one.out}: {'; '.join(one.history)}"
        )

    async def _truth(self) -> set[str]:
        async with asyncio.timeout(PAGE_DEADLINE):
            head, body = await get(self._servers[0], "/truth/")
        if " 200 " not in head:
            raise RuntimeError(f"The store can not be looked into: {head}")
        return set(json.loads(body)["in"])

    async def _come_to_rest(self) -> None:
        """Wait until nobody who is out has a socket, or until the deadline."""
        began = monotonic()
        while monotonic() < began + REST_DEADLINE:
            inside = await self._truth()
            if all(
                self._is_in(one.lineage, inside) or one.client.close_code is not None
                for one in self._sockets
            ):
                break
            await asyncio.sleep(0.2)
        self._found["seconds to rest"] = round(monotonic() - began)

    def _is_in(self, lineage: Lineage, inside: set[str]) -> bool:
        return lineage.name in inside and not lineage.out

    async def _judge(self) -> None:
        inside = await self._truth()
        self._found["sessions"] = len(self._lineages)
        self._found["sessions that are in"] = len(inside)
        for lineage in self._lineages.values():
            if (lineage.name in inside) == lineage.out and not (lineage.doubts and not lineage.out):
                self._found["sessions of which the store says otherwise than a page"] += 1
                self.wrong.append(
                    f"session {lineage.name} is {'in' if lineage.out else 'out'}: "
                    f"{'; '.join(lineage.history)}"
                )
        for socket in self._sockets:
            code = socket.client.close_code
            if self._is_in(socket.lineage, inside):
                if code is None:
                    self._found["sockets of who is in: open, and answer"] += 1
                    async with asyncio.timeout(PAGE_DEADLINE):
                        await socket.client.send("echo")
                        if await socket.client.recv() != "echo":
                            self._accuse(socket, "no echo")
                elif socket.lineage.leaving and code == LOGGED_OUT:
                    self._found["sockets of who is in: closed by a logout that failed"] += 1
                else:
                    self._found["sockets of who is in: CLOSED"] += 1
                    self._accuse(socket, "closed, and is in")
            elif code == LOGGED_OUT:
                self._found["sockets of who is out: closed, 4401"] += 1
            else:
                self._found["sockets of who is out: OPEN, or closed otherwise"] += 1
                self._accuse(socket, "is out")

    def report(self) -> str:
        lines = [f"{number:7} {what}" for what, number in sorted(self._did.items())]
        lines += [f"{number:7} {what}" for what, number in self._found.items()]
        return "\n".join([*lines, "", *self.wrong, f"{len(self.wrong)} wrong", ""])


async def get(server: Server, path: str, cookie: str | None = None) -> tuple[str, str]:
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
