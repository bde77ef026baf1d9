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
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

from tests.kit.postgres import PostgresServer, find_binaries
from tests.kit.server import ROOT, Server
from tests.kit.valkey import Valkey
from tests.live.chaos.people import PAGE_DEADLINE, People, Socket, get

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
# Seconds. A socket whose session is gone under a key that it was just given stays for 60 s.
START_DEADLINE, REST_DEADLINE = 120.0, 240.0
# What must not be in a log, whatever else is away.
TROUBLE = re.compile(r"Task was destroyed|never retrieved|was never awaited|Exception in callback")
LOGGED_OUT = 4401

Ways = dict[str, tuple[Callable[[], None], Callable[[], None]]]


class Program:
    """A run.

    Args:
        seed: of all that is decided by chance. What becomes of it is a matter of time as well.
        outages: of the broker and the database.
        users: at a time.
        sessions: the engine.
        calm: the broker stays. Its return has everybody verified, which hides what was missed.
    """

    def __init__(self, seed: int, outages: int, users: int, sessions: str, calm: bool) -> None:
        self.wrong: list[str] = []
        self._chance = random.Random(seed)
        self._left = outages
        self._users = users
        self._engine = sessions
        self._calm = calm
        self._away: dict[str, None] = {}
        self._outages: Counter[str] = Counter()
        self._found: Counter[str] = Counter()

    def run(self, quiet: float, logs: str | None) -> None:
        """Run it.

        Args:
            quiet: seconds after which sockets are judged, once all are at rest.
            logs: a folder for the logs of the servers.
        """
        with self._site() as servers:
            self._people = People(self._users, self._chance, servers, self._away)
            self._server = servers[0]
            try:
                asyncio.run(self._run(quiet))
            finally:
                for number, server in enumerate(servers if logs else ()):
                    Path(logs or "", f"server{number}.log").write_text(server.log)
            for server in servers:
                self.wrong += [line for line in server.lines if TROUBLE.search(line)]

    @contextmanager
    def _site(self) -> Iterator[list[Server]]:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-"))
            self._broker = stack.enter_context(Valkey())
            # What Django's cache does there is its own affair.
            self._cache = stack.enter_context(Valkey(inspected=False))
            if (programs := find_binaries()) is None:
                raise RuntimeError("PostgreSQL is not installed.")
            self._database = PostgresServer(programs)
            stack.callback(self._database.remove)
            self._database.start()
            environment = {
                "DJANGO_SETTINGS_MODULE": SETTINGS,
                "LIVE_DATABASE": json.dumps(self._database.settings),
                "LIVE_SESSIONS": self._engine,
                "LIVE_FOLDER": folder,
                "LIVE_CACHE": self._cache.url,
                "LIVE_BROKER": self._broker.url,
            }
            command = [sys.executable, "-c", PREPARE]
            subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=True)
            servers = [Server(settings=SETTINGS, environment=environment) for _ in range(2)]
            for server in servers:
                server.expected.append("")  # whatever it says of what is away
                server.start()
                stack.push(server.__exit__)
                server.wait_for_log(server.READY, deadline=START_DEADLINE)
            yield servers

    async def _run(self, quiet: float) -> None:
        observing = asyncio.create_task(self._observe())
        going = asyncio.create_task(self._go_away())
        await asyncio.gather(going, self._people.live(going.done))
        await self._come_to_rest()
        await asyncio.sleep(quiet)
        observing.cancel()
        await self._judge()
        for socket in self._people.sockets:
            socket.client.transport.abort()

    async def _go_away(self) -> None:
        broker, cache, database = self._broker, self._cache, self._database
        brokers: Ways = {
            "broker killed": (broker.kill, broker.start),
            "broker frozen": (broker.freeze, broker.thaw),
        }
        stores: Ways = {
            "database stopped": (database.stop, database.start),
            "database crashed": (lambda: database.stop(signal.SIGQUIT), database.start),
        }
        if "cache" in self._engine:
            stores["cache frozen"] = (cache.freeze, cache.thaw)
        if self._engine == "cached_db":  # otherwise all sessions would be gone
            stores["cache killed"] = (cache.kill, cache.start)
        every = [stores] if self._calm else [brokers, stores]
        await asyncio.gather(*map(self._take_away, every))

    async def _take_away(self, ways: Ways) -> None:
        chance = random.Random(self._chance.random())
        while self._left > 0:
            self._left -= 1
            await asyncio.sleep(chance.uniform(0, 3))
            name = chance.choice(list(ways))
            begin, end = ways[name]
            self._outages["while something else was away"] += bool(self._away)
            self._away[name] = None
            await asyncio.to_thread(begin)
            # Some are so long that who listens to a frozen broker gives it up.
            long = chance.random() < 0.15
            await asyncio.sleep(chance.uniform(4, 7) if long else chance.uniform(0, 1.5))
            await asyncio.to_thread(end)
            del self._away[name]
            self._outages[name] += 1

    async def _observe(self) -> None:
        while True:
            for socket in self._people.sockets:
                lineage, code = socket.lineage, socket.client.close_code
                if code is not None and not socket.closed:
                    socket.closed = True
                    lineage.history.append(f"{monotonic():.2f} closed {code}")
                    if not (lineage.out or lineage.doubts):
                        self._accuse(socket, "closed, and nobody did anything")
            await asyncio.sleep(0.05)

    def _accuse(self, socket: Socket, what: str) -> None:
        one = socket.lineage
        self.wrong.append(
            f"{what}: code {socket.client.close_code}, session {one.name} of user {one.user}, "
            f"doubts {one.doubts}, out {one.out}: {'; '.join(one.history)}"
        )

    async def _truth(self) -> set[str]:
        """Return what the store says who is in, but for those of whom a page has said otherwise."""
        async with asyncio.timeout(PAGE_DEADLINE):
            head, body = await get(self._server, "/truth/")
        if " 200 " not in head:
            raise RuntimeError(f"The store can not be looked into: {head}")
        inside, every = set(json.loads(body)["in"]), self._people.lineages.values()
        said_out = {one.name for one in every if one.out}
        said_in = {one.name for one in every if not (one.out or one.doubts)}
        otherwise = (said_out & inside) | (said_in - inside)
        self._found["sessions of which the store says otherwise than a page"] = len(otherwise)
        return inside ^ otherwise

    async def _come_to_rest(self) -> None:
        """Wait until nobody who is out has a socket, or until the deadline."""
        began = monotonic()
        sockets = self._people.sockets
        while monotonic() < began + REST_DEADLINE:
            inside = await self._truth()
            if all(one.lineage.name in inside or one.client.close_code for one in sockets):
                break
            await asyncio.sleep(0.2)
        self._found["seconds to rest"] = round(monotonic() - began)

    async def _judge(self) -> None:
        inside = await self._truth()
        self._found["sessions"] = len(self._people.lineages)
        for socket in self._people.sockets:
            lineage, code = socket.lineage, socket.client.close_code
            if lineage.name not in inside:
                self._found[f"sockets of who is out: {'open' if code is None else code}"] += 1
                if code != LOGGED_OUT:
                    self._accuse(socket, "is out")
            elif code is None:
                self._found["sockets of who is in: open"] += 1
                async with asyncio.timeout(PAGE_DEADLINE):
                    await socket.client.send("echo")
                    if await socket.client.recv() != "echo":
                        self._accuse(socket, "no echo")
            elif code == LOGGED_OUT and lineage.leaving:
                self._found["sockets of who is in: closed by a logout that failed"] += 1
            else:
                self._found[f"sockets of who is in: {code}"] += 1
                self._accuse(socket, "is in")
        if not self._found[f"sockets of who is out: {LOGGED_OUT}"]:
            self.wrong.append("nobody was out, so that nothing was seen")

    def report(self) -> str:
        counts = {"outages": self._outages, "pages and sockets": self._people.did}
        lines = []
        for what, counted in {**counts, "at the end": self._found}.items():
            lines += [what, *(f"{number:8} {name}" for name, number in sorted(counted.items()))]
        return "\n".join([*lines, *self.wrong, f"{len(self.wrong)} wrong", ""])
