"""A channel in which a test has people come and go, for the tests of brokers that know of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection

from ..brokers.base import BaseBroker
from ..brokers.presence import PRESENCE, Changes, Entry, Listed, Tracked, changes_of

__all__ = ["DEADLINE", "Room"]

# Seconds after which what has not come counts as lost.
DEADLINE = 10.0

# Longer than a test takes.
LONG = Listed(10, 300.0)


class Room:
    """A channel of which nothing is known: who speaks of it, and what is told of it."""

    def __init__(self, broker: BaseBroker) -> None:
        self.broker = broker
        self.channel = f"presence {os.urandom(8).hex()}"
        self.told: list[Changes] = []
        self._trackers: dict[str, str] = {}
        self._ended = asyncio.Event()

    async def say(
        self,
        *entries: Entry,
        by: str = "one",
        listed: Listed = LONG,
        roll: bool = False,
        away: bool = False,
        ends: bool = False,
        replaces: str = "",
        replaced: bool = False,
    ) -> Tracked:
        """Speak as one of the trackers."""
        return await self.broker.atrack(
            self.channel,
            self._tracker(by),
            entries,
            listed,
            roll=roll,
            away=away,
            ends=ends,
            replaces=self._tracker(replaces) if replaces else "",
            replaced=replaced,
        )

    def _tracker(self, name: str) -> str:
        return self._trackers.setdefault(name, os.urandom(8).hex())

    async def look(self, most: int = 10) -> list[tuple[str, int, str]]:
        """Return who is here, each with sockets and info."""
        here = (await self.broker.asnapshot(self.channel, most)).here
        return [(one.key, one.sockets, one.info) for one in here]

    async def hear(self, broker: BaseBroker | None = None) -> None:
        """Keep what is told from now on, to a process."""
        ready = (broker or self.broker).subscriber(self).subscribe(self.channel)
        if ready is not None:
            await ready

    async def heard(self) -> list[Changes]:
        """Return all that was told."""
        await self.broker.apublish(self.channel, b"end")
        async with asyncio.timeout(DEADLINE):
            await self._ended.wait()
        self._ended.clear()
        return self.told

    # Its receiver

    def on_message(self, channel: str, message: bytes) -> None:
        if message == b"end":
            self._ended.set()
        elif message.startswith(PRESENCE):
            self.told.append(changes_of(message[len(PRESENCE) :]))

    def on_lost(self, channels: Collection[str] | None = None) -> None: ...

    def on_reconnect(self, channels: Collection[str] | None = None) -> None: ...
