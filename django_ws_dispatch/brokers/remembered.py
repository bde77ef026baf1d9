"""What the memory broker remembers: the history of channels, in this process."""

from __future__ import annotations

import threading
import time
from collections import deque
from itertools import islice

from .history import FORGOTTEN, Entry, Keep, Page, Top, order_of

__all__ = ["Remembered", "now"]

DAY = 86_400.0
# Channels that are looked at for each message that is kept, whether their time is over.
LOOKED_AT = 2
# Orders that are kept of a channel: they are no messages, and no setting bounds them.
MOST_ORDERS = 1000


def now() -> float:
    """Return the time of the store, in seconds since 1970."""
    return time.time()


class _Channel:
    __slots__ = ("entries", "epoch", "expires", "ms", "orders", "orders_kept", "seq")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.ms = self.seq = 0
        self.orders = 0  # in this epoch
        self.orders_kept = 0
        self.entries: deque[Entry] = deque()
        self.expires = 0.0

    @property
    def top(self) -> Top:
        return Top(f"{self.epoch}.{self.ms}-{self.seq}", self.orders)


class Remembered:
    """The channels of one broker. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Whose turn it is to be looked at stands first.
        self._channels: dict[str, _Channel] = {}
        self._epoch = 0

    def keep(self, channel: str, message: bytes, keep: Keep, *, order: bool = False) -> Entry:
        """Keep a message."""
        with self._lock:
            return self._add(channel, message, keep, order=order)

    def forget(self, channel: str, keep: Keep) -> Entry:
        """Drop what is kept, and leave ``FORGOTTEN``."""
        with self._lock:
            found = self._find(channel, keep)
            found.entries.clear()
            found.orders_kept = 0
            return self._add(channel, FORGOTTEN, keep, order=True)

    def top(self, channel: str, keep: Keep) -> Top:
        """Return where a channel stands."""
        with self._lock:
            return self._find(channel, keep).top

    def tops(self, channels: list[str]) -> list[Top | None]:
        """Return where channels stand."""
        with self._lock:
            found = [self._channels.get(channel) for channel in channels]
            return [None if one is None else one.top for one in found]

    def read(self, channel: str, since: str, keep: Keep, count: int, *, heard: bool) -> Page:
        """See ``BaseBroker.read()``. This store never goes back in time."""
        with self._lock:
            found = self._find(channel, keep)
            entries: list[Entry] | None = [] if since == found.top.position else None
            order = order_of(since)
            if entries is None and order is not None and order[0] == found.epoch:
                entries = _behind(found.entries, since, heard=heard)
            if entries is None:
                return Page([], found.top, known=False)
            return Page(entries[:count], found.top, known=True)

    def newest(self, channel: str, keep: Keep, count: int, before: str | None) -> Page:
        """See ``BaseBroker.newest()``."""
        with self._lock:
            found = self._find(channel, keep)
            entries = reversed(found.entries)
            limit = None if before is None else order_of(before)
            if limit is not None:
                entries = (one for one in entries if (order_of(one.position) or limit) < limit)
            return Page([*islice(entries, count)][::-1], found.top, known=True)

    def _add(self, channel: str, message: bytes, keep: Keep, *, order: bool) -> Entry:
        self._drop_expired()
        found = self._find(channel, keep)
        previous, ms = found.top.position, int(now() * 1000)
        if ms > found.ms:
            found.ms, found.seq = ms, 0
        else:
            found.seq += 1
        found.orders += order
        found.orders_kept += order
        entry = Entry(found.top.position, previous, message)
        found.entries.append(entry)
        most = keep.messages + MOST_ORDERS
        while len(found.entries) - found.orders_kept > keep.messages or len(found.entries) > most:
            found.orders_kept -= _is_order(found.entries.popleft())
        found.expires = now() + keep.ttl
        return entry

    def _find(self, channel: str, keep: Keep) -> _Channel:
        found = self._channels.get(channel)
        if found is not None and found.expires < now():
            found.entries.clear()
            found.orders_kept = 0
            if found.expires + DAY < now():
                found = None
        if found is None:
            # Never one that was: what began in the same microsecond is another memory.
            self._epoch = max(int(now() * 1_000_000), self._epoch + 1)
            found = self._channels[channel] = _Channel(self._epoch)
            found.expires = now() + keep.ttl
        return found

    def _drop_expired(self) -> None:
        due = now()
        for name in list(islice(self._channels, LOOKED_AT)):
            one = self._channels.pop(name)
            if one.expires < due:
                one.entries.clear()
                one.orders_kept = 0
            if one.expires + DAY >= due:
                self._channels[name] = one


def _is_order(entry: Entry) -> bool:
    return entry.message[:1] in (b"c", b"f")


def _behind(entries: deque[Entry], since: str, *, heard: bool) -> list[Entry] | None:
    found: list[Entry] = []
    for entry in reversed(entries):
        if entry.position == since:
            return found[::-1]
        found.append(entry)
        if entry.previous == since and len(found) == len(entries):
            # To who has heard it all, what was forgotten is no loss; for others it is gone.
            return found[::-1] if heard or entry.message != FORGOTTEN else None
    return None
