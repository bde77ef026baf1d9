"""``python -m tests.soak.restarts [--restarts 20] [--seed 1]``

A broker that is killed again and again, under 50 messages a second to one group: with its data,
without, and with an older state. Of the clients some stay, and some come and go with their
positions. The ledger knows what each of them has to get. Beside that stands when those who stayed
were told of lost messages, in seconds from the broker's first answer.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import defaultdict
from functools import partial
from typing import Any

from tests.soak.clients import Client
from tests.soak.program import Options, Soak, soak
from tests.soak.store import KINDS

ROOM = "kept-0"
SITTERS, GOERS, PUBLISHERS = 20, 20, 5
# Seconds between two messages of a publisher: all of them together send 50 a second.
PAUSE = PUBLISHERS / 50


class Sitter(Client):
    """Stays, and comes back when it was closed."""

    def choose_kind(self) -> str:
        return "plain"

    async def act(self) -> None:
        await self.visits.join((ROOM,))
        while not self.closed and not self.site.over:
            self.changed.clear()
            await self.changed.wait()
        await self.visits.fence()

    def be_closed(self, code: int, reason: str) -> None:
        super().be_closed(code, reason)
        if code == 1012 and type(self) is Sitter and isinstance(self.site, Restarts):
            self.site.told.setdefault(self.page, time.monotonic())

    async def end(self) -> None:
        self.allowed |= {1000, 1005, 1006}
        if self.socket is not None:
            await self.socket.close()


class Goer(Sitter):
    """Comes back all the time, with its position."""

    async def act(self) -> None:
        await self.visits.join((ROOM,))
        await asyncio.sleep(self.random.uniform(0, 0.6))

    async def end(self) -> None:
        self.allowed |= {1006}
        if self.socket is not None and self.random.random() < 0.5:
            self.socket.transport.abort()
        await super().end()


class Publisher(Sitter):
    """Sends one message after the other, each once."""

    async def act(self) -> None:
        begins = time.monotonic()
        while not self.site.over:
            await self.visits.publish(ROOM)
            begins += PAUSE
            await asyncio.sleep(max(begins - time.monotonic(), 0))


class Restarts(Soak):
    """One run."""

    def __init__(self, *args: Any, restarts: int) -> None:
        super().__init__(*args)
        self.told: dict[str, float] = {}
        """page -> when, since the last kill"""
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._restarts = restarts

    async def run(self) -> None:
        began = time.monotonic()
        await self.rolls.start()
        async with asyncio.TaskGroup() as tasks:
            for kind, count in ((Sitter, SITTERS), (Goer, GOERS), (Publisher, PUBLISHERS)):
                for number in range(count):
                    tasks.create_task(self._stay(kind, f"{kind.__name__} {number}"))
            await asyncio.sleep(1)
            for kind in dict.fromkeys(KINDS):
                for _ in range(self._restarts):
                    self.told.clear()
                    await self.kill_broker(kind)
                    answers = time.monotonic()
                    await asyncio.sleep(1 + self._choices.random())
                    self.seconds[kind] += [at - answers for at in self.told.values()]
            self.over = True
            for client in self._here:
                client.changed.set()
        await self.rolls.stop()
        self.options = self.options._replace(seconds=round(time.monotonic() - began))

    async def _stay(self, kind: type[Client], page: str) -> None:
        since = {}
        while not self.over:
            number, self._next = self._next, self._next + 1
            client = kind(self, number, since, page)
            self._here.add(client)
            await client.run()
            self._here.remove(client)
            since = client.visits.since

    def report(self) -> str:
        lines = [super().report()]
        for kind, seconds in sorted(self.seconds.items()):
            told = f"{len(seconds)} of {self._restarts * SITTERS} told with 1012"
            if seconds:
                told += f", {min(seconds):.2f} to {max(seconds):.2f} s after its first answer"
            lines.append(f"{self._restarts} restarts {kind}: of those who stay {told}\n")
        return "".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.soak.restarts", description=__doc__)
    parser.add_argument("--restarts", type=int, default=20, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    kind = partial(Restarts, restarts=arguments.restarts)
    program = soak(Options(clients=SITTERS + GOERS, seed=arguments.seed), kind)
    sys.stdout.write(program.report())
    sys.exit(bool(program.ledger.violations))
