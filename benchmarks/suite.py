"""The tables over real servers: which target does which work, how often, within which budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from . import workloads
from .measure import AGAIN, Sample, interleave
from .places import (
    BARE,
    BARE_CLASS,
    BOTH_CLASSES,
    BROADCASTER,
    CHANNELS,
    DAPHNE,
    DEFLATE,
    FAR,
    FROZEN,
    NEAR,
    OURS,
    OURS_CLASS,
    PLACES,
    RAW_CLASS,
    STARLETTE,
    Place,
    installed,
    places,
)
from .report import Table
from .servers import Broker, Process, Server

Work = Callable[[], Coroutine[Any, Any, Sample]]
Source = Callable[[], AsyncIterator[Sample]]
Budgets = Mapping[str, float]


class NoSuchRowError(Exception):
    """A table has none of the rows that are wanted."""


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
    crowd: int
    """idle sockets where there are many"""
    window: float
    """seconds in which each of them is pinged once"""


TABLES = (
    "echo",
    "echo_peers",
    "latency",
    "connects",
    "connects_peers",
    "denials",
    "pages",
    "memory",
    "memory_deflate",
    "idle",
    "fan_out",
    "in_flight",
    "fan_out_peers",
    "fan_out_broker",
    "fan_out_broker_peers",
    "deflate",
    "deflate_in_flight",
    "stalled",
)

# What is done in a short turn: one part in so many.
SHORT = 10
# Broadcasts at the same time.
FLIGHT = 8

FULL_SIZE = Size(9, 3, 400, 6_000, 300, 2_000, 1_000, 10, 10_000, 5)
QUICK_SIZE = Size(2, 1, 30, 1_500, 60, 300, 250, 5, 500, 2)


class Suite:
    """The workloads over servers that are started when they are first needed.

    Args:
        stack: ends the servers.
        runner: the loop of the clients.
        directory: where servers have their database, their log and the broker's socket.
        session: the key of a session of a user in that database.
        size: how much is done.
        rows: which rows of a table are made, beside its first and A/A; all if there are none.
    """

    def __init__(
        self,
        stack: ExitStack,
        runner: asyncio.Runner,
        directory: Path,
        session: str,
        size: Size,
        rows: Iterable[str] = (),
    ) -> None:
        self._stack = stack
        self._runner = runner
        self._directory = directory
        self._cookie = {"Cookie": f"sessionid={session}"}
        self.size = size
        self._rows = set(rows)
        self._servers: dict[Place, Server] = {}
        self._brokers: list[Broker] = []

    def tables(self) -> Iterator[tuple[str, Callable[[], Table]]]:
        """Return each table's name, and what makes it."""
        for name in TABLES:
            yield name, getattr(self, name)

    def _server(self, place: Place) -> Server:
        """Return the running server of a place; whoever is there in the same way shares it."""
        key = place._replace(path="", cookie=False, deflate=False)
        if key not in self._servers:
            self._servers[key] = self._stack.enter_context(self._make(place))
        return self._servers[key]

    def _make(self, place: Place, **options: Any) -> Server:
        return Server(
            place.target,
            self._directory,
            "daphne" if place.variant == "daphne" else "uvicorn",
            ws=place.ws,
            freeze=place.variant == "freeze",
            **options,
        )

    def _headers(self, place: Place) -> Mapping[str, str]:
        return self._cookie if place.cookie else {}

    def _wanted(self, title: str, works: Mapping[str, Any]) -> dict[str, Any]:
        """Return the rows that are made.

        Raises:
            NoSuchRowError: none of those that were asked for is in this table.
        """
        if self._rows and not self._rows & works.keys():
            raise NoSuchRowError(f"{title} has no such row. Its rows: {', '.join(works)}.")
        baseline = next(iter(works))
        names = {baseline, AGAIN, *(self._rows or works)}
        return {name: work for name, work in works.items() if name in names}

    def _table(
        self,
        title: str,
        works: Mapping[str, Work],
        *,
        unit: str = "us",
        turns: int | None = None,
        warm_up: int = 1,
        **budgets: Budgets,
    ) -> Table:
        measures = {
            name: partial(self._run, work) for name, work in self._wanted(title, works).items()
        }
        rows = interleave(measures, turns or self.size.turns, warm_up=warm_up)
        return Table(title, unit, rows, **budgets)

    def _run(self, work: Work) -> Sample:
        return self._runner.run(work())

    def _sampled(
        self, title: str, sources: Mapping[str, Source], turns: int, **budgets: Budgets
    ) -> Table:
        """As ``_table()``, where the sockets stay open from one turn to the next."""
        begun = {name: begin() for name, begin in self._wanted(title, sources).items()}

        async def one(name: str) -> Sample:
            return await anext(begun[name])

        try:
            works = {name: partial(one, name) for name in begun}
            return self._table(title, works, turns=turns, **budgets)
        finally:
            for source in begun.values():
                self._runner.run(source.aclose())

    def echo(self) -> Table:
        size = self.size
        return self._echo(
            "Echo over 64 sockets, server CPU per message",
            NEAR,
            size.many_turns,
            messages=size.messages // SHORT,
            ratios={OURS: 1.03, OURS_CLASS: 0.45, RAW_CLASS: 0.5},
        )

    def echo_peers(self) -> Table:
        title = "Echo over 64 sockets, beside the peers"
        return self._echo(title, FAR, self.size.turns, messages=self.size.messages)

    def latency(self) -> Table:
        title = "Echo over one socket, server CPU per message"
        size = self.size
        names = dict.fromkeys((*NEAR, *FAR))
        return self._echo(title, names, size.turns, sockets=1, messages=size.messages // 5)

    def _echo(
        self,
        title: str,
        names: Iterable[str],
        turns: int,
        *,
        sockets: int = 64,
        messages: int,
        **budgets: Budgets,
    ) -> Table:
        def begin(place: Place) -> AsyncIterator[Sample]:
            return workloads.echo(
                self._server(place),
                place.path,
                sockets=sockets,
                messages=messages,
                headers=self._headers(place),
            )

        sources = {name: partial(begin, place) for name, place in places(names).items()}
        return self._sampled(title, sources, turns, **budgets)

    def connects(self) -> Table:
        title = "Connect and close, server CPU per connect, with a browser's Origin"
        works = self._connects(NEAR, self.size.connects // SHORT)
        ratios = {OURS: 1.05, OURS_CLASS: 0.7}
        return self._table(title, works, turns=self.size.many_turns, ratios=ratios)

    def connects_peers(self) -> Table:
        works = self._connects(FAR, self.size.connects)
        return self._table("Connect and close, beside the peers", works)

    def _connects(self, names: Iterable[str], count: int) -> dict[str, Work]:
        async def work(place: Place) -> Sample:
            headers = self._headers(place)
            return await workloads.connects(
                self._server(place), place.path, count=count, headers=headers
            )

        return {name: partial(work, place) for name, place in places(names).items()}

    def denials(self) -> Table:
        async def work(name: str, path: str, origin: str) -> Sample:
            server = self._server(PLACES[name])
            return await workloads.denials(server, path, count=self.size.connects, origin=origin)

        works: dict[str, Work] = {}
        for name in places((BARE, BARE_CLASS, OURS, OURS_CLASS, CHANNELS)):
            if name in (BARE, BARE_CLASS):
                works[f"{name}, close"] = partial(work, name, "/ws/nothing/", "")
            elif name != CHANNELS:
                works[f"{name}, unknown path"] = partial(work, name, "/ws/nothing/", "")
            if name not in (BARE, BARE_CLASS):
                foreign = "https://evil.example"
                works[f"{name}, foreign Origin"] = partial(work, name, "/ws/echo/", foreign)
        return self._table("A handshake that is refused, server CPU", works)

    def pages(self) -> Table:
        async def work(place: Place) -> Sample:
            return await workloads.pages(self._server(place), count=self.size.messages // 5)

        works: dict[str, Work] = {
            "Django": partial(work, Place("django")),
            AGAIN: partial(work, Place("django", variant="again")),
            "Django behind the package": partial(work, PLACES[OURS]),
        }
        return self._table("A page over HTTP, server CPU per request", works)

    def memory(self) -> Table:
        names = [name for name in dict.fromkeys((*NEAR, *FAR)) if name != FROZEN]
        return self._memory(
            f"An idle socket, KiB of the server's memory (PSS) for each of {self.size.idle:,}",
            names,
            ratios={OURS: 1.08, OURS_CLASS: 0.35},
        )

    def memory_deflate(self) -> Table:
        names = (OURS_CLASS, *(name + DEFLATE for name in BOTH_CLASSES if name != AGAIN))
        title = f"An idle socket with permessage-deflate, KiB (PSS) for each of {self.size.idle:,}"
        return self._memory(title, names, ratios={OURS_CLASS + DEFLATE: 1.1})

    def idle(self) -> Table:
        size = self.size
        names = [name + end for end in ("", DEFLATE) for name in BOTH_CLASSES]
        return self._memory(
            f"{size.crowd:,} idle sockets: KiB (PSS) for each, and CPU of all while each is "
            f"pinged once in {size.window:g} s",
            [name for name in names if name != AGAIN + DEFLATE],
            sockets=size.crowd,
            window=size.window,
            turns=1,
            ratios={OURS_CLASS: 0.35, OURS_CLASS + DEFLATE: 0.385},
        )

    def _memory(
        self,
        title: str,
        names: Iterable[str],
        *,
        sockets: int | None = None,
        window: float = 0,
        turns: int | None = None,
        ratios: Budgets,
    ) -> Table:
        async def fresh(place: Place) -> Sample:
            with self._make(place, ping_interval=window or 20) as server:
                return await workloads.memory(
                    server,
                    place.path,
                    sockets=sockets or self.size.idle,
                    headers=self._headers(place),
                    deflate=place.deflate,
                    window=window,
                )

        works: dict[str, Work] = {
            name: partial(fresh, place) for name, place in places(names).items()
        }
        turns = turns or self.size.few_turns
        return self._table(title, works, unit="KiB", turns=turns, warm_up=0, ratios=ratios)

    def fan_out(self) -> Table:
        return self._fan_outs(
            f"Fan-out to {self.size.members:,} sockets, one process, server CPU per delivery",
            BOTH_CLASSES,
            self.size.many_turns,
            max(1, self.size.fan_outs // SHORT),
            ratios={OURS: 1.05, OURS_CLASS: 0.52},
        )

    def in_flight(self) -> Table:
        return self._fan_outs(
            f"Fan-out to {self.size.members:,} sockets, {FLIGHT} messages at the same time",
            BOTH_CLASSES,
            self.size.many_turns // FLIGHT,
            FLIGHT,
            flight=FLIGHT,
            ratios={OURS_CLASS: 0.14},
        )

    def fan_out_peers(self) -> Table:
        return self._fan_outs(
            f"Fan-out to {self.size.members:,} sockets, one process, beside the peers",
            (BARE, OURS, OURS_CLASS, STARLETTE, CHANNELS),
            self.size.turns,
            self.size.fan_outs,
        )

    def fan_out_broker(self) -> Table:
        return self._fan_outs(
            f"Fan-out to {self.size.members:,} sockets, two processes and Valkey, CPU of all three "
            "per delivery, beside one bare process",
            BOTH_CLASSES,
            self.size.many_turns // 4,
            2,
            pairs=(OURS, OURS_CLASS),
            ratios={OURS_CLASS: 0.55},
        )

    def fan_out_broker_peers(self) -> Table:
        names = (OURS, OURS_CLASS, STARLETTE, CHANNELS)
        return self._fan_outs(
            f"Fan-out to {self.size.members:,} sockets, two processes and Valkey, beside the peers",
            [name for name in names if name != CHANNELS or installed("channels_redis")],
            self.size.turns,
            self.size.fan_outs,
            pairs=names,
        )

    def deflate(self) -> Table:
        return self._fan_outs(
            f"1 KiB of JSON to {self.size.members:,} sockets with permessage-deflate, CPU per "
            "delivery",
            BOTH_CLASSES,
            self.size.many_turns // 8,
            1,
            deflate=True,
            ratios={OURS_CLASS: 0.17},
        )

    def deflate_in_flight(self) -> Table:
        return self._fan_outs(
            f"1 KiB of JSON to {self.size.members:,} sockets with permessage-deflate, {FLIGHT} "
            "messages at the same time",
            BOTH_CLASSES,
            max(3, self.size.many_turns // 20),
            FLIGHT,
            flight=FLIGHT,
            deflate=True,
            ratios={OURS_CLASS: 0.04},
        )

    def _fan_outs(
        self,
        title: str,
        names: Iterable[str],
        turns: int,
        messages: int,
        *,
        pairs: Iterable[str] = (),
        flight: int = 1,
        deflate: bool = False,
        **budgets: Budgets,
    ) -> Table:
        def begin(place: Place, is_pair: bool) -> AsyncIterator[Sample]:
            servers, brokers = self._pair(place) if is_pair else ([self._server(place)], [])
            return workloads.fan_out(
                servers,
                members=self.size.members,
                messages=messages,
                flight=flight,
                deflate=deflate,
                brokers=brokers,
            )

        sources: dict[str, Source] = {}
        for name, place in places(names).items():
            source = partial(begin, place, name in pairs)
            sources[BROADCASTER if name == STARLETTE else name] = source
        return self._sampled(title, sources, turns, **budgets)

    def _pair(self, place: Place) -> tuple[list[Server], list[Process]]:
        """Return two processes of a site, and its broker."""
        name = f"broker-{len(self._brokers)}"
        broker = self._stack.enter_context(Broker(self._directory, name))
        self._brokers.append(broker)
        servers = [
            self._stack.enter_context(self._make(place, broker=broker.path)) for _ in range(2)
        ]
        return servers, [broker]

    def stalled(self) -> Table:
        async def work(place: Place, blockers: int) -> Sample:
            return await workloads.stalled(self._server(place), blockers=blockers)

        names = (OURS, OURS_CLASS, BARE, BARE_CLASS, CHANNELS, DAPHNE)
        works: dict[str, Work] = {
            f"{name}, {blockers} block": partial(work, place, blockers)
            for name, place in places(names).items()
            for blockers in (0, 3)
        }
        return self._table(
            "p99 of an echo while handlers block for a second in sync code",
            works,
            unit="ms",
            turns=self.size.few_turns,
            warm_up=0,
        )
