"""Who is here, as the broker tells all processes: each coming has its going, told once.

What is published of a group is read as it travels, so that nothing that a process makes of it hides
what another one has said. Each change says from which version to which it leads. So:

- versions are a chain: nothing is told twice, and by two processes;
- who leaves was here; who comes was not, and has asked to join since it was told to have left;
- the number that is told is that of those who are here;
- in the end nobody is here.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque

from redis.asyncio import Redis

from django_ws_dispatch.brokers.presence import PRESENCE, Changes, changes_of
from tests.soak.ledger import Ledger
from tests.soak.rooms import HERE, find

__all__ = ["Rolls"]


class Rolls:
    """The lists of all groups that know who is here.

    Args:
        ledger: for what is violated.
        url: of the broker.
    """

    def __init__(self, ledger: Ledger, url: str) -> None:
        self.here: dict[str, dict[str, int]] = {name: {} for name in HERE}
        self.joined = self.left = 0
        self._ledger = ledger
        self._client = Redis.from_url(url)
        self._listener = self._client.pubsub(ignore_subscribe_messages=True)
        self._versions: dict[str, str] = {}
        self._asked: Counter[tuple[str, str]] = Counter()
        self._came: Counter[tuple[str, str]] = Counter()
        self._fences: deque[asyncio.Future[None]] = deque()
        self._task: asyncio.Task[None] | None = None

    def ask(self, group: str, key: str) -> None:
        """A client is about to join."""
        self._asked[group, key] += 1

    async def start(self) -> None:
        names = {f"wsd:{find(name).channel}": name for name in HERE}
        await self._listener.subscribe(*names)
        self._task = asyncio.create_task(self._listen(names))

    async def _listen(self, names: dict[str, str]) -> None:
        while True:
            message = await self._listener.get_message(timeout=None)
            if message is None:
                continue
            if message["type"] == "pong":
                self._fences.popleft().set_result(None)
            elif message["data"].startswith(PRESENCE):
                name = names[message["channel"].decode()]
                self.apply(name, changes_of(message["data"][len(PRESENCE) :]))

    async def fence(self) -> None:
        """Return once all is known that was published before this was called."""
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._fences.append(reached)
        await self._listener.ping()
        waiting = [reached] if self._task is None else [reached, self._task]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not reached.done() and self._task is not None:
            self._task.result()

    def apply(self, group: str, changes: Changes) -> None:
        here, before = self.here[group], self._versions.get(group, changes.previous)
        if changes.previous != before:
            self._ledger.violated(f"{group}: a change of {changes.previous} after {before}")
        self._versions[group] = changes.version
        for key in changes.left:
            self.left += 1
            if here.pop(key, None) is None:
                self._ledger.violated(f"{group}: {key} left at {changes.version}, and was not here")
        for one in changes.here or ():
            if one.key not in here:
                self.joined += 1
                self._came[group, one.key] += 1
                if self._came[group, one.key] > self._asked[group, one.key]:
                    self._ledger.violated(
                        f"{group}: {one.key} came at {changes.version}, and did not ask to"
                    )
            here[one.key] = one.sockets
        if len(here) != changes.total:
            self._ledger.violated(f"{group}: {changes.total} are here, and not {sorted(here)}")

    async def stop(self) -> None:
        """It is over: nobody is here."""
        await self.fence()
        for group, here in self.here.items():
            if here:
                self._ledger.violated(f"{group}: {here} joined, and never left")
        await self.close()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._listener.aclose()
        await self._client.aclose()
