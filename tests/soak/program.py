"""The soak: two server processes of one site, a broker, clients that come and go, and the count."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

from tests.kit.server import OURS, TROUBLE, Server
from tests.kit.valkey import Valkey
from tests.soak.clients import DEADLINE, GROUPS, SIZES, Client
from tests.soak.ledger import Ledger, pack

__all__ = ["Soak", "soak"]

# Seconds in which clients come before the first count.
WARM_UP = 10.0
SAMPLE_INTERVAL = 2.0
MEBIBYTE = 1024 * 1024
COUNTED = [
    "sockets",
    "members",
    "subscriptions",
    "watched",
    "verified",
    "database connections",
    "tasks",
    "threads",
    "lanes too many",
    "files",
]
# Nothing of this is held where nobody is.
EMPTY = [
    "sockets",
    "members",
    "watched",
    "verified",
    "database connections",
    "lanes too many",
]


class OurServer(Server):
    """uvicorn with this package's class for sockets."""

    WS = OURS


def soak(seconds: float, seed: int, clients: int) -> Soak:
    """Run it. Return what it found."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, Valkey() as valkey:
        environment = {
            "DJANGO_SETTINGS_MODULE": "tests.soak.settings",
            "SOAK_BROKER": valkey.url,
            "SOAK_DATABASE": str(Path(folder, "db.sqlite3")),
        }
        os.environ.update(environment)
        make_database()
        servers = [
            OurServer(settings="tests.soak.settings", environment=environment) for _ in range(2)
        ]
        with servers[0], servers[1]:
            program = Soak(servers, valkey, seconds, seed, clients)
            asyncio.run(program.run())
            for server in servers:
                if (status := server.stop(DEADLINE)) not in (0, -signal.SIGTERM):
                    program.ledger.violated(f"a server stopped with {status}")
                for number, line in enumerate(server.lines):
                    if TROUBLE.search(line):
                        around = "\n".join(server.lines[max(number - 3, 0) : number + 30])
                        program.ledger.violated(f"in a server's log:\n{around}")
                        break
                server.expected.append("")  # reported above
        program.counts["warnings in the logs"] = sum(
            line.startswith("WARNING") for server in servers for line in server.lines
        )
    return program


def make_database() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    from django.contrib.auth.models import User
    from django.db import connection

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode=wal")
    User.objects.bulk_create([User(username=f"user-{number}") for number in range(20)])
    connection.close()


class Soak:
    """One run.

    Args:
        servers: they run.
        valkey: it runs.
        seconds: for which clients come.
        seed: of all choices.
        clients: at a time.
    """

    def __init__(
        self, servers: list[Server], valkey: Valkey, seconds: float, seed: int, clients: int
    ) -> None:
        self.servers = servers
        self.valkey = valkey
        self.seconds = seconds
        self.seed = seed
        self.clients = clients
        self.urls = [server.url for server in servers]
        self.ledger = Ledger()
        self.counts: Counter[str] = Counter()
        self.over = False
        self.memory: list[list[tuple[float, int, int]]] = [[] for _ in servers]
        self.baseline: list[dict[str, Any]] = []
        self._next = 1

    async def run(self) -> None:
        await self._churn(WARM_UP)
        self.baseline = await self._settle()
        await self._churn(self.seconds)
        await self._settle(self.baseline)
        self._ask_broker()

    async def _churn(self, seconds: float) -> None:
        self.over = False
        ends = time.monotonic() + seconds
        stop = threading.Event()
        thread = threading.Thread(target=self._publish_from_thread, args=(stop,))
        thread.start()
        sampler = asyncio.create_task(self._sample())
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self.clients):
                    tasks.create_task(self._come_and_go(ends))
                await asyncio.sleep(seconds)
                self.over = True
        finally:
            stop.set()
            await asyncio.to_thread(thread.join)
            sampler.cancel()

    async def _come_and_go(self, ends: float) -> None:
        while time.monotonic() < ends:
            number, self._next = self._next, self._next + 1
            try:
                await Client(self, number).run()
            except Exception as exc:
                self.ledger.violated(f"client {number} failed: {exc!r}")

    def _publish_from_thread(self, stop: threading.Event) -> None:
        from django_ws_dispatch.groups import Group

        choices = random.Random(f"{self.seed} thread")
        while not stop.wait(0.02):
            name = choices.choice([*GROUPS, "pushed"])
            messages = self.ledger.begin(name, 0)
            data = pack(name, messages[0].id, 0, choices.choice(SIZES))
            try:
                Group(name).send(data)
            except Exception as exc:
                self.ledger.violated(f"the thread could not publish: {exc!r}")
            else:
                self.ledger.acknowledge(messages)

    # Sessions

    async def login(self, number: int, user: str) -> str:
        headers = await asyncio.to_thread(self._get, number, f"/login/?user={user}")
        return SimpleCookie(headers["Set-Cookie"])["sessionid"].value

    async def logout(self, number: int, session: str) -> None:
        # At the other process than the socket's.
        await asyncio.to_thread(self._get, number + 1, "/logout/", f"sessionid={session}")

    def _get(self, number: int, path: str, cookie: str = "") -> Any:
        server = self.servers[number % len(self.servers)]
        request = urllib.request.Request(f"{server.http_url}{path}", headers={"Cookie": cookie})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=DEADLINE) as response:
            body = response.read()
            return json.loads(body) if path == "/state/" else response.headers

    # What the servers hold

    async def _settle(self, baseline: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
        """Wait until nobody is there, and no more is held than at first."""
        ends = time.monotonic() + DEADLINE
        before: list[dict[str, Any]] = []
        while True:
            states = [
                await asyncio.to_thread(self._get, number, "/state/")
                for number in range(len(self.servers))
            ]
            empty = all(not state[what] for state in states for what in EMPTY)
            counted = [{what: state[what] for what in COUNTED} for state in states]
            if empty and counted == (baseline or before):
                return counted
            if time.monotonic() > ends:
                self.ledger.violated(
                    f"does not come to rest:\n{json.dumps(states)}\nafter\n{json.dumps(baseline)}"
                )
                return counted
            before = counted
            await asyncio.sleep(2)

    def _ask_broker(self) -> None:
        import redis

        with redis.Redis.from_url(self.valkey.url) as client:
            channels = [name for name in client.pubsub_channels() if b"control" not in name]
            if channels:
                self.ledger.violated(f"the broker still has {channels}")

    async def _sample(self) -> None:
        while True:
            for server, samples in zip(self.servers, self.memory, strict=True):
                sizes = dict.fromkeys(("Rss", "Pss"), 0)
                for line in _smaps(server.pid):
                    name, _, rest = line.partition(":")
                    if name in sizes:
                        sizes[name] = int(rest.split()[0]) * 1024
                samples.append((time.monotonic(), sizes["Rss"], sizes["Pss"]))
            self.ledger.forget()
            await asyncio.sleep(SAMPLE_INTERVAL)

    # The report

    def report(self) -> str:
        lines = [
            f"seed {self.seed}, {self.seconds:g} s, {self.clients} clients at a time, "
            f"{self._next - 1} in all",
            f"{self.ledger.published} messages published, {self.ledger.received} received, "
            f"{self.ledger.required} receipts required and checked",
            ", ".join(f"{name}: {count}" for name, count in sorted(self.counts.items())),
        ]
        for number, samples in enumerate(self.memory):
            rss, pss = (_slope(samples, column) for column in (1, 2))
            lines.append(
                f"process {number + 1}: RSS {samples[0][1] / MEBIBYTE:.1f} to "
                f"{samples[-1][1] / MEBIBYTE:.1f} MiB; slope in the second half: RSS {rss:+.2f}, "
                f"PSS {pss:+.2f} MiB/h"
            )
        for number, state in enumerate(self.baseline):
            held = ", ".join(f"{state[what]} {what}" for what in COUNTED)
            lines.append(f"process {number + 1} at rest: {held}")
        lines += [f"VIOLATED: {what}" for what in self.ledger.violations[:50]]
        lines.append(f"{len(self.ledger.violations)} violations")
        return "\n".join(lines) + "\n"


def _smaps(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()


def _slope(samples: list[tuple[float, int, int]], column: int) -> float:
    """Return the least-squares slope of the second half, in MiB an hour."""
    points = [(one[0], float(one[column])) for one in samples[len(samples) // 2 :]]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points) or 1.0
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread * 3600 / MEBIBYTE
