"""The soak: two server processes of one site, a broker, clients that come and go, and the count."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import re
import signal
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, NamedTuple

from tests.kit.server import OURS, TROUBLE, Server
from tests.kit.valkey import Valkey
from tests.soak.clients import DEADLINE, Client
from tests.soak.ledger import pack
from tests.soak.rolls import Rolls
from tests.soak.rooms import BACK, GROUPS, KEPT, SHORT_SIZES, SIZES, STORE, find, remembers
from tests.soak.stays import HistoryLedger, Since
from tests.soak.store import KINDS, Kill, Store

__all__ = ["Soak", "soak"]

# Seconds in which clients come before the first count.
WARM_UP = 10.0
SAMPLE_INTERVAL = 2.0
# How a group is called in what is violated: one that remembers nothing, and one that does.
PLAIN, KEEPING = re.compile("in room-"), re.compile("in (kept|short)-")
# What the log says, and may say, of a broker that is killed.
LOST = f"Lost the broker '{STORE}'"
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


class Options(NamedTuple):
    """What a run is like.

    Attributes:
        seconds: for which clients come.
        seed: of all choices.
        clients: at a time.
        kills: seconds between two kills of the broker of the groups that remember, on average; 0
            for none.
        leave_out: clients overlook one message out of so many, on purpose; the run ends once that
            is found. 0 for none.
    """

    seconds: float = 60.0
    seed: int = 1
    clients: int = 300
    kills: float = 8.0
    leave_out: int = 0


class OurServer(Server):
    """uvicorn with this package's class for sockets."""

    WS = OURS


@contextmanager
def site() -> Iterator[tuple[list[Server], Valkey, Store]]:
    """Two servers, the broker, and that of the groups that remember."""
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        Valkey() as valkey,
        Store() as store,
    ):
        environment = {
            "DJANGO_SETTINGS_MODULE": "tests.soak.settings",
            "SOAK_BROKER": valkey.url,
            "SOAK_STORE": store.url,
            "SOAK_DATABASE": str(Path(folder, "db.sqlite3")),
        }
        os.environ.update(environment)
        make_database()
        servers: list[Server] = [
            OurServer(settings="tests.soak.settings", environment=environment) for _ in range(2)
        ]
        with servers[0], servers[1]:
            yield servers, valkey, store
            for server in servers:
                server.expected.append("")  # the program has reported it


def soak(options: Options, kind: Callable[..., Soak] | None = None) -> Soak:
    """Run it. Return what it found."""
    with site() as (servers, valkey, store):
        program = (kind or Soak)(servers, valkey, store, options)
        asyncio.run(program.run())
        for server in servers:
            if (status := server.stop(DEADLINE)) not in (0, -signal.SIGTERM):
                program.ledger.violated(f"a server stopped with {status}")
            for number, line in enumerate(server.lines):
                if TROUBLE.search(line) and LOST not in line:
                    around = "\n".join(server.lines[max(number - 3, 0) : number + 30])
                    program.ledger.violated(f"in a server's log:\n{around}")
                    break
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
        store: it runs, too: the broker of the groups that remember.
        options: what the run is like.
    """

    def __init__(
        self, servers: list[Server], valkey: Valkey, store: Store, options: Options
    ) -> None:
        self.servers = servers
        self.valkey = valkey
        self.store = store
        self.options = options
        self.seed = options.seed
        self.urls = [server.url for server in servers]
        self.ledger = HistoryLedger()
        self.rolls = Rolls(self.ledger, valkey.url)
        self.counts: Counter[str] = Counter()
        self.over = False
        self.memory: list[list[tuple[float, int, int]]] = [[] for _ in servers]
        self.baseline: list[dict[str, Any]] = []
        self.found_after: float | None = None
        self._here: set[Client] = set()
        self._next = 1
        self._kinds = itertools.cycle(KINDS)
        self._choices = random.Random(f"{options.seed} program")

    async def run(self) -> None:
        await self.rolls.start()
        await self._churn(WARM_UP)
        if self.found_after is not None:
            await self.rolls.close()
            return
        self.baseline = await self._settle()
        await self._churn(self.options.seconds)
        await self._settle(self.baseline)
        await self.rolls.stop()
        await self._await_emptiness()
        self._ask_brokers()

    def left_out(self, number: int) -> bool:
        """Return whether a client shall overlook what has just come to it."""
        one_of = self.options.leave_out
        return bool(one_of) and self._choices.randrange(one_of) == 0

    async def _churn(self, seconds: float) -> None:
        self.over = False
        # Clients come for as long as it takes to find what is left out.
        ends = time.monotonic() + (DEADLINE if self.options.leave_out else seconds)
        stop = threading.Event()
        thread = threading.Thread(target=self._publish_from_thread, args=(stop,))
        thread.start()
        sampler = asyncio.create_task(self._sample())
        enough = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                clients = [
                    tasks.create_task(self._come_and_go(ends)) for _ in range(self.options.clients)
                ]
                tasks.create_task(self._kill_brokers(enough))
                if self.options.leave_out:
                    await self._find()
                    for client in clients:
                        client.cancel()
                else:
                    await asyncio.sleep(seconds)
                enough.set()
                self.over = True
        finally:
            stop.set()
            await asyncio.to_thread(thread.join)
            sampler.cancel()

    async def _find(self) -> None:
        """Wait until what is left out is found, in groups of both kinds. It is an end."""
        start = time.monotonic()
        violations = self.ledger.violations
        while not all(any(map(kind.search, violations)) for kind in (PLAIN, KEEPING)):
            if time.monotonic() > start + DEADLINE:
                violations.clear()
                break
            await asyncio.sleep(0.1)
        self.found_after, self.over = time.monotonic() - start, True
        for client in list(self._here):
            client.give_up()

    async def _kill_brokers(self, enough: asyncio.Event) -> None:
        """Kill the broker of the groups that remember, again and again."""
        every = self.options.kills
        while every:
            with suppress(TimeoutError):
                async with asyncio.timeout(every * self._choices.uniform(0.5, 1.5)):
                    await enough.wait()
            if enough.is_set():
                return
            await self.kill_broker(next(self._kinds))

    async def kill_broker(self, kind: str) -> None:
        """Kill the broker of the groups that remember; return once it answers again."""
        kill = Kill(kind, begun=0)
        if kind == "with an older state":
            kill.until = self.ledger.now()
            await asyncio.to_thread(self.store.save)
            await asyncio.sleep(self._choices.uniform(0.2, 2))
        kill.begun = self.ledger.now()
        self.ledger.kills.append(kill)
        await asyncio.to_thread(self.store.come_back, kind)
        kill.done = self.ledger.now()
        self.counts[f"the broker came back {kind}"] += 1

    async def _come_and_go(self, ends: float) -> None:
        since: dict[str, Since] = {}
        page = f"page-{self._next}"
        choices = random.Random(f"{self.seed} {page}")
        while time.monotonic() < ends and not self.found_after:
            number, self._next = self._next, self._next + 1
            client = Client(self, number, since, page)
            self._here.add(client)
            try:
                await client.run()
            except Exception as exc:
                self.ledger.violated(f"client {number} failed: {exc!r}")
            finally:
                self._here.remove(client)
            # The next one is the same page, or somebody else.
            since = client.visits.since if choices.random() < 0.8 else {}
            if since:
                await asyncio.sleep(choices.choice([0, 0.1, 1]))

    def _publish_from_thread(self, stop: threading.Event) -> None:
        from django_ws_dispatch.exceptions import BrokerError

        choices = random.Random(f"{self.seed} thread")
        while not stop.wait(0.02):
            name = choices.choice([*GROUPS, "pushed", *KEPT])
            messages = self.ledger.begin(name, 0)
            sizes = SHORT_SIZES if remembers(name) else SIZES
            data = pack(name, messages[0].id, 0, choices.choice(sizes))
            try:
                position = find(name).send(data)
            except Exception as exc:
                if remembers(name) and isinstance(exc, BrokerError):
                    self.counts["messages, refused"] += 1
                    continue
                self.ledger.violated(f"the thread could not publish: {exc!r}")
            else:
                self.ledger.acknowledge(messages, [position] if position else None)

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

    async def _await_emptiness(self) -> None:
        """Wait until the broker that was killed knows of nobody any more."""
        ends = time.monotonic() + DEADLINE
        for name in BACK:
            while present := await find(name).apresent():
                if time.monotonic() > ends:
                    self.ledger.violated(f"{name} still has {present}")
                    break
                await asyncio.sleep(0.5)

    def _ask_brokers(self) -> None:
        import redis

        for broker in (self.valkey, self.store):
            with redis.Redis.from_url(broker.url) as client:
                channels = [name for name in client.pubsub_channels() if b"control" not in name]
                if channels:
                    self.ledger.violated(f"a broker still has {channels}")

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
            f"seed {self.seed}, {self.options.seconds:g} s, {self.options.clients} clients at a "
            f"time, {self._next - 1} in all",
            f"{self.ledger.published} messages published, {self.ledger.received} received, "
            f"{self.ledger.required} receipts required and checked",
            f"{self.ledger.recovered} returns to a group with all that was missed, "
            f"{self.ledger.lost} with the word that some is lost; {self.ledger.replayed} messages "
            f"replayed, {self.ledger.gaps} gaps told, {len(self.ledger.kills)} kills",
            f"{self.rolls.joined} came to a group that knows who is here, and "
            f"{self.rolls.left} left",
            ", ".join(f"{name}: {count}" for name, count in sorted(self.counts.items())),
        ]
        for number, samples in enumerate(self.memory):
            if not samples:
                continue
            rss, pss = (_slope(samples, column) for column in (1, 2))
            lines.append(
                f"process {number + 1}: RSS {samples[0][1] / MEBIBYTE:.1f} to "
                f"{samples[-1][1] / MEBIBYTE:.1f} MiB; slope in the second half: RSS {rss:+.2f}, "
                f"PSS {pss:+.2f} MiB/h"
            )
        for number, state in enumerate(self.baseline):
            held = ", ".join(f"{state[what]} {what}" for what in COUNTED)
            lines.append(f"process {number + 1} at rest: {held}")
        if self.options.leave_out:
            lines.append(f"what was left out on purpose was found after {self.found_after:.1f} s")
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
