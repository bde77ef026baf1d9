"""What the process itself remembers of channels: as a server would, but it never goes back."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from .history import FORGOTTEN, Entry, Keep, Page, Top, order_of

__all__ = ["Remembered", "now"]

DAY = 86_400
# Channels that are looked at for being over, whenever something is kept.
LOOKED_AT = 4
# Orders that a channel keeps.
MOST_ORDERS = 1000


def now() -> float:
    """Return the seconds since 1970."""
    return time.time()


class _Row(NamedTuple):
    entry: Entry
    order: bool


class _Channel:
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.last = (0, 0)
        self.orders = 0
        self.rows: deque[_Row] = deque()
        self.kept_orders = 0
        self.rows_end = 0.0
        self.end = 0.0

    @property
    def position(self) -> str:
        return f"{self.epoch}.{self.last[0]}-{self.last[1]}"

    @property
    def top(self) -> Top:
        return Top(self.position, self.orders)

    def clear(self) -> None:
        self.rows.clear()
        self.kept_orders = 0

    def drop_oldest(self) -> None:
        self.kept_orders -= self.rows.popleft().order


class Remembered:
    """The channels of one broker. Every method may be called in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channels: dict[str, _Channel] = {}
        self._turn: Iterator[str] = iter(())
        self._epoch = 0

    def _find(self, name: str, moment: float) -> _Channel | None:
        channel = self._channels.get(name)
        if channel is None:
            return None
        if channel.end <= moment:
            del self._channels[name]
            return None
        if channel.rows and channel.rows_end <= moment:
            channel.clear()
        return channel

    def _channel(self, name: str, keep: Keep, moment: float) -> _Channel:
        channel = self._find(name, moment)
        if channel is None:
            self._drop_some(moment)
            # Above every earlier one, also where the clock was set back.
            self._epoch = max(int(moment * 1_000_000), self._epoch + 1)
            channel = self._channels[name] = _Channel(self._epoch)
        channel.end = max(channel.end, moment + keep.ttl + DAY)
        return channel

    def _drop_some(self, moment: float) -> None:
        """Drop what is over of a few channels: by and by it is the turn of each."""
        for name in list(self._next_names()):
            self._find(name, moment)

    def _next_names(self) -> Iterator[str]:
        for _ in range(LOOKED_AT):
            name = next(self._turn, None)
            if name is None:
                self._turn = iter(list(self._channels))
                return
            yield name

    def keep(
        self, name: str, message: bytes, keep: Keep, order: bool, forget: bool = False
    ) -> Entry:
        """Keep a message; what came before is dropped if ``forget``."""
        moment = now()
        with self._lock:
            self._drop_some(moment)
            channel = self._channel(name, keep, moment)
            previous = channel.position
            ms = int(moment * 1000)
            last, seq = channel.last
            channel.last = (ms, 0) if ms > last else (last, seq + 1)
            if forget:
                channel.clear()
            entry = Entry(channel.position, previous, message)
            channel.rows.append(_Row(entry, order))
            channel.orders += order
            channel.kept_orders += order
            while (
                len(channel.rows) - channel.kept_orders > keep.messages
                or channel.kept_orders > MOST_ORDERS
            ):
                channel.drop_oldest()
            channel.rows_end = moment + keep.ttl
            channel.end = moment + keep.ttl + DAY
            return entry

    def top(self, name: str, keep: Keep) -> Top:
        """Return where a channel stands; one without messages begins."""
        with self._lock:
            return self._channel(name, keep, now()).top

    def tops(self, names: list[str]) -> list[Top | None]:
        """Return where channels stand, ``None`` of those of which nothing is known."""
        moment = now()
        with self._lock:
            found = [self._find(name, moment) for name in names]
            return [None if one is None else one.top for one in found]

    def read(self, name: str, since: str, keep: Keep, count: int, heard: bool) -> Page:
        """See ``BaseBroker.read()``."""
        with self._lock:
            channel = self._channel(name, keep, now())
            place = order_of(since)
            if since == channel.position:
                return Page([], channel.top, True)
            if place is None or place[0] != channel.epoch:
                return Page([], channel.top, False)
            # From the newest back: who reads has most often missed little.
            behind: list[Entry] = []
            for row in reversed(channel.rows):
                if row.entry.position == since:
                    return Page(behind[: -count - 1 : -1], channel.top, True)
                behind.append(row.entry)
            if not behind or behind[-1].previous != since:
                return Page([], channel.top, False)
            if behind[-1].message.startswith(FORGOTTEN) and not heard:
                return Page([], channel.top, False)
            return Page(behind[: -count - 1 : -1], channel.top, True)

    def newest(self, name: str, keep: Keep, count: int, before: str | None) -> Page:
        """See ``BaseBroker.newest()``."""
        with self._lock:
            channel = self._channel(name, keep, now())
            entries = (row.entry for row in reversed(channel.rows))
            if before is not None:
                end = order_of(before)
                if end is None or end[0] != channel.epoch:
                    return Page([], channel.top, True)
                entries = (one for one in entries if (order_of(one.position) or end) < end)
            return Page([*islice(entries, count)][::-1], channel.top, True)
