"""The tables over real servers: which target does which work, how often, within which budget."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Callable, Container, Coroutine, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from . import workloads
from .measure import AGAIN, Sample, interleave
from .report import Table
from .servers import Broker, Server

BARE = "bare ASGI"
RAW = "ours, raw handler"
OURS = "ours, WebSocket"
FROZEN = "ours, WebSocket, gc.freeze()"
BARE_DJANGO = "bare ASGI, Django loaded"
FULL = "ours, session, user, all limits"
STARLETTE = "Starlette"
BROADCASTER = "Starlette, broadcaster"
CHANNELS = "Channels"
CHANNELS_USER = "Channels, session and user"
DAPHNE = "Channels on daphne"

Work = Callable[[], Coroutine[Any, Any, Sample]]


class Size(NamedTuple):
    """How much is done: ``turns``, and units of work in each."""

    turns: int
    few_turns: int
    """where a turn is slow"""
    many_turns: int
    """where a few percent count; each is ``SHORT``"""
    messages: int
    connects: int
    idle: int
    members: int
    fan_outs: int


TABLES = (
    "echo",
    "echo_peers",
    "latency",
    "connects",
    "connects_peers",
    "denials",
    "pages",
    "memory",
    "fan_out",
    "fan_out_peers",
    "fan_out_broker",
    "stalled",
)
# A few percent are told apart by many short turns: a machine that others use changes its speed
# several times a second. The peers have tables of their own, in which the differences are larger.
NEAR = {BARE, AGAIN, BARE_DJANGO, RAW, OURS, FROZEN}
FAR = {BARE, OURS, FULL, STARLETTE, CHANNELS, CHANNELS_USER, DAPHNE}

# What is done in a short turn: one part in so many.
SHORT = 10

FULL_SIZE = Size(9, 3, 400, 6_000, 300, 2_000, 1_000, 10)
QUICK_SIZE = Size(2, 1, 30, 1_500, 60, 300, 250, 5)


def installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


class Suite:
    """The workloads over servers that are started when they are first needed.

    Args:
        stack: ends the servers.
        runner: the loop of the clients.
        directory: where servers have their database, their log and the broker's socket.
        session: the key of a session of a user in that database.
        size: how much is done.
    """

    def __init__(
        self, stack: ExitStack, runner: asyncio.Runner, directory: Path, session: str, size: Size
    ) -> None:
        self._stack = stack
        self._runner = runner
        self._directory = directory
        self._cookie = {"Cookie": f"sessionid={session}"}
        self.size = size
        self._servers: dict[tuple[str, str], Server] = {}

    def tables(self) -> Iterator[tuple[str, Callable[[], Table]]]:
        """Return each table's name, and what makes it."""
        for name in TABLES:
            yield name, getattr(self, name)

    def _server(self, target: str, variant: str = "") -> Server:
        """Return the running server of a target; another one for each ``variant``."""
        key = (target, variant)
        if key not in self._servers:
            self._servers[key] = self._start(target, variant)
        return self._servers[key]

    def _start(self, target: str, variant: str = "", broker: str = "") -> Server:
        kind = "daphne" if variant == "daphne" else "uvicorn"
        freeze = variant == "freeze"
        return self._stack.enter_context(
            Server(target, self._directory, kind, broker=broker, freeze=freeze)
        )

    def _places(self, path: str) -> dict[str, tuple[Server, str, Mapping[str, str]]]:
        """Return who echoes where, and with which headers. A/A is a process of its own."""
        places: dict[str, tuple[Server, str, Mapping[str, str]]] = {
            BARE: (self._server("bare"), path, {}),
            AGAIN: (self._server("bare", "again"), path, {}),
            BARE_DJANGO: (self._server("bare_django"), path, {}),
            RAW: (self._server("ours"), "/ws/raw/", {}),
            OURS: (self._server("ours"), path, {}),
            FROZEN: (self._server("ours", "freeze"), path, {}),
            FULL: (self._server("ours"), "/ws/full/", self._cookie),
        }
        if installed("starlette", "broadcaster"):
            places[STARLETTE] = (self._server("starlette"), path, {})
        if installed("channels"):
            places[CHANNELS] = (self._server("channels"), path, {})
            places[CHANNELS_USER] = (self._server("channels"), "/ws/full/", self._cookie)
        if installed("channels", "daphne"):
            places[DAPHNE] = (self._server("channels", "daphne"), path, {})
        return places

    def _table(
        self,
        title: str,
        works: Mapping[str, Work],
        *,
        unit: str = "us",
        turns: int | None = None,
        warm_up: int = 1,
        **budgets: Mapping[str, float],
    ) -> Table:
        measures = {name: partial(self._run, work) for name, work in works.items()}
        rows = interleave(measures, turns or self.size.turns, warm_up=warm_up)
        return Table(title, unit, rows, **budgets)

    def _run(self, work: Work) -> Sample:
        return self._runner.run(work())

    def _sampled(
        self,
        title: str,
        sources: Mapping[str, AsyncIterator[Sample]],
        turns: int,
        **budgets: Mapping[str, float],
    ) -> Table:
        """As ``_table()``, where the sockets stay open from one turn to the next."""

        async def one(name: str) -> Sample:
            return await anext(sources[name])

        try:
            works = {name: partial(one, name) for name in sources}
            return self._table(title, works, turns=turns, **budgets)
        finally:
            for source in sources.values():
                self._runner.run(source.aclose())

    def echo(self) -> Table:
        size = self.size
        return self._echo(
            "Echo over 64 sockets, server CPU per message",
            NEAR,
            size.many_turns,
            messages=size.messages // SHORT,
            ratios={OURS: 1.03},
        )

    def echo_peers(self) -> Table:
        title = "Echo over 64 sockets, beside the peers"
        return self._echo(title, FAR, self.size.turns, messages=self.size.messages)

    def latency(self) -> Table:
        title = "Echo over one socket, server CPU per message"
        size = self.size
        return self._echo(title, NEAR | FAR, size.turns, sockets=1, messages=size.messages // 5)

    def _echo(
        self,
        title: str,
        names: Container[str],
        turns: int,
        *,
        sockets: int = 64,
        messages: int,
        **budgets: Mapping[str, float],
    ) -> Table:
        sources = {
            name: workloads.echo(server, path, sockets=sockets, messages=messages, headers=headers)
            for name, (server, path, headers) in self._places("/ws/echo/").items()
            if name in names
        }
        return self._sampled(title, sources, turns, **budgets)

    def connects(self) -> Table:
        works = self._connects(NEAR, self.size.connects // SHORT)
        title = "Connect and close, server CPU per connect, with a browser's Origin"
        return self._table(title, works, turns=self.size.many_turns, ratios={OURS: 1.05})

    def connects_peers(self) -> Table:
        works = self._connects(FAR, self.size.connects)
        return self._table("Connect and close, beside the peers", works)

    def _connects(self, names: Container[str], count: int) -> dict[str, Work]:
        return {
            name: partial(workloads.connects, server, path, count=count, headers=headers)
            for name, (server, path, headers) in self._places("/ws/echo/").items()
            if name in names
        }

    def denials(self) -> Table:
        count = self.size.connects
        ours = self._server("ours")
        works: dict[str, Work] = {
            "bare ASGI, close": partial(
                workloads.denials, self._server("bare"), "/ws/nothing/", count=count
            ),
            "ours, unknown path": partial(workloads.denials, ours, "/ws/nothing/", count=count),
            "ours, foreign Origin": partial(
                workloads.denials, ours, "/ws/echo/", count=count, origin="https://evil.example"
            ),
        }
        if installed("channels"):
            works["Channels, foreign Origin"] = partial(
                workloads.denials,
                self._server("channels"),
                "/ws/echo/",
                count=count,
                origin="https://evil.example",
            )
        return self._table("A handshake that is refused, server CPU", works)

    def pages(self) -> Table:
        count = self.size.messages // 5
        works: dict[str, Work] = {
            "Django": partial(workloads.pages, self._server("django"), count=count),
            AGAIN: partial(workloads.pages, self._server("django", "again"), count=count),
            "Django behind ours": partial(workloads.pages, self._server("ours"), count=count),
        }
        return self._table("A page over HTTP, server CPU per request", works)

    def memory(self) -> Table:
        async def fresh(target: str, path: str, headers: Mapping[str, str], kind: str) -> Sample:
            with Server(target, self._directory, kind) as server:
                return await workloads.memory(server, path, sockets=self.size.idle, headers=headers)

        works: dict[str, Work] = {
            name: partial(
                fresh,
                server.target,
                path,
                headers,
                "daphne" if name == DAPHNE else "uvicorn",
            )
            for name, (server, path, headers) in self._places("/ws/echo/").items()
            if name != FROZEN
        }
        return self._table(
            f"An idle socket, KiB of the server's memory (PSS) for each of {self.size.idle:,}",
            works,
            unit="KiB",
            turns=self.size.few_turns,
            warm_up=0,
            ratios={OURS: 1.08},
        )

    def fan_out(self) -> Table:
        servers = {BARE: ["bare"], AGAIN: ["bare", "again"], OURS: ["ours"]}
        return self._fan_outs(
            f"Fan-out to {self.size.members:,} sockets, one process, server CPU per delivery",
            {name: [self._server(*key)] for name, key in servers.items()},
            self.size.many_turns,
            max(1, self.size.fan_outs // SHORT),
            ratios={OURS: 1.05},
        )

    def fan_out_peers(self) -> Table:
        servers = {BARE: "bare", OURS: "ours"}
        if installed("starlette", "broadcaster"):
            servers[BROADCASTER] = "starlette"
        if installed("channels"):
            servers[CHANNELS] = "channels"
        return self._fan_outs(
            f"Fan-out to {self.size.members:,} sockets, one process, beside the peers",
            {name: [self._server(target)] for name, target in servers.items()},
            self.size.turns,
            self.size.fan_outs,
        )

    def fan_out_broker(self) -> Table:
        broker = self._stack.enter_context(Broker(self._directory)).path
        targets = {OURS: "ours"}
        if installed("starlette", "broadcaster", "redis"):
            targets[BROADCASTER] = "starlette"
        if installed("channels", "channels_redis"):
            targets[CHANNELS] = "channels"
        pairs = {
            name: [self._start(target, broker=broker) for _ in range(2)]
            for name, target in targets.items()
        }
        return self._fan_outs(
            f"Fan-out to {self.size.members:,} sockets, two processes and Valkey, CPU of both "
            "per delivery",
            pairs,
            self.size.turns,
            self.size.fan_outs,
            values={OURS: 20.0},
        )

    def _fan_outs(
        self,
        title: str,
        servers: Mapping[str, list[Server]],
        turns: int,
        messages: int,
        **budgets: Mapping[str, float],
    ) -> Table:
        sources = {
            name: workloads.fan_out(several, members=self.size.members, messages=messages)
            for name, several in servers.items()
        }
        return self._sampled(title, sources, turns, **budgets)

    def stalled(self) -> Table:
        places = {
            f"{name}, {blockers} block": (server, blockers)
            for name, (server, _, _) in self._places("").items()
            if name in (OURS, BARE, CHANNELS, DAPHNE)
            for blockers in (0, 3)
        }
        works: dict[str, Work] = {
            name: partial(workloads.stalled, server, blockers=blockers)
            for name, (server, blockers) in sorted(places.items(), key=lambda item: item[0] != OURS)
        }
        return self._table(
            "p99 of an echo while handlers block for a second in sync code",
            works,
            unit="ms",
            turns=self.size.few_turns,
            warm_up=0,
        )
