"""Keep-alive (RFC 6455 section 5.5.2) with one timer for all connections of a loop."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Iterable
from time import monotonic
from typing import Protocol

__all__ = ["Keeper", "Kept"]

# Those that are due so soon after another are due with it: one timer for many.
SLACK = 0.02


class Kept(Protocol):
    """A connection that is kept alive."""

    reading_is_paused: bool
    ping_sent_at: float
    latency: float | None

    def ping(self, payload: bytes, /) -> bool:
        """Send a ping; ``False`` where nothing may be sent any more."""

    def ping_timed_out(self) -> None:
        """Close, since the client has not answered."""


class Keeper:
    """Who is to be pinged when, and whose pong is waited for.

    All have the same interval and the same time-out, so that the order in which they came is the
    order in which they are due.

    Args:
        loop: in which they are.
        interval: seconds between two pings of a connection; ``None`` for no pings.
        timeout: seconds for a pong; ``None`` for ever.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, interval: float | None, timeout: float | None
    ) -> None:
        self._loop = loop
        self._interval = interval or 0.0
        self._timeout = timeout
        self._due: dict[Kept, float] = {}
        self._waiting: dict[Kept, tuple[float, bytes]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due.keys() | self._waiting.keys())

    def add(self, kept: Kept) -> None:
        """Begin with a connection that has just opened."""
        if self._interval:
            self._due[kept] = self._loop.time() + self._interval
            if self._timer is None:
                self._set_timer()

    def remove(self, kept: Kept) -> None:
        """End with it, if there is anything to end."""
        self._due.pop(kept, None)
        self._waiting.pop(kept, None)
        if self._timer is not None and not self._due and not self._waiting:
            self._timer.cancel()
            self._timer = None

    def pong(self, kept: Kept, payload: bytes) -> None:
        """A pong has come. One that answers no ping of ours is ignored."""
        waiting = self._waiting.get(kept)
        if waiting is None or waiting[1] != payload:
            return
        del self._waiting[kept]
        kept.latency = monotonic() - kept.ping_sent_at

    def resumed(self, kept: Kept) -> None:
        """Reading goes on: a pong could not be seen before, so that its time begins anew."""
        if self._timeout is None:
            return
        waiting = self._waiting.pop(kept, None)
        if waiting is not None:
            self._waiting[kept] = (self._loop.time() + self._timeout, waiting[1])

    def _set_timer(self) -> None:
        first = [next(iter(self._due.values()), None)]
        if self._timeout is not None:
            first.append(next((ends for ends, _ in self._waiting.values()), None))
        times = [one for one in first if one is not None]
        self._timer = self._loop.call_at(min(times) + SLACK, self._tick) if times else None

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        for kept in _until(self._due.items(), now):
            self._ping(kept, now)
        if self._timeout is not None:
            late = ((kept, ends) for kept, (ends, _) in self._waiting.items())
            for kept in _until(late, now):
                if kept.reading_is_paused:
                    # Behind those that are in time: the order stays that of the ends.
                    self._waiting[kept] = (now + self._timeout, self._waiting.pop(kept)[1])
                else:
                    self.remove(kept)
                    kept.ping_timed_out()
        if self._timer is None:
            self._set_timer()

    def _ping(self, kept: Kept, now: float) -> None:
        del self._due[kept]
        self._due[kept] = now + self._interval
        if kept in self._waiting and self._timeout is not None:
            return
        payload = struct.pack("!I", random.getrandbits(32))
        if not kept.ping(payload):
            self.remove(kept)
            return
        kept.ping_sent_at = monotonic()  # uvloop's own clock has milliseconds
        self._waiting[kept] = (now + (self._timeout or 0), payload)


def _until(pairs: Iterable[tuple[Kept, float]], now: float) -> list[Kept]:
    """Return those whose time has come; they stand in the order of their times."""
    found: list[Kept] = []
    for kept, when in pairs:
        if when > now:
            break
        found.append(kept)
    return found
