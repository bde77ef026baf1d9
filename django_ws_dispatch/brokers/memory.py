"""The broker of a single process: between its threads and its event loops."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..exceptions import BrokerError
from ..limits import entry_size
from .base import BaseBroker, BaseSubscriber, Receiver
from .history import FORGOTTEN, Keep, Page, Top, kept
from .presence import Entry, Listed, Roll, Tracked, published
from .presences import Presences
from .remembered import Remembered

__all__ = ["MemoryBroker"]

# Bytes of memory that may wait for one event loop to take them from other threads.
MAX_WAITING = 16 * 1024 * 1024


class MemoryBroker(BaseBroker):
    """Reaches this process only: right for development, tests and a site of one process.

    A message for a member in the publisher's own event loop is delivered before ``apublish()``
    returns, behind what other threads handed over before; other loops take theirs in turn.
    """

    in_process = True
    has_history = True
    has_presence = True

    def __init__(self, alias: str, location: object, options: Mapping[str, Any]) -> None:
        super().__init__(alias, location, options)
        # Copied on change, so that publishers read it without a lock.
        self._subscribers: tuple[MemorySubscriber, ...] = ()
        self._lock = threading.Lock()
        self._history = Remembered()
        self._presences = Presences()

    def publish(self, channel: str, message: bytes) -> None:
        running = _running_loop()
        for subscriber in self._subscribers:
            if channel not in subscriber.channels:
                continue
            if subscriber.loop is running and not subscriber.behind:
                subscriber.take(channel, message)
            elif not subscriber.hand_over(channel, message, self.timeout if running is None else 0):
                raise self._full()

    async def apublish(self, channel: str, message: bytes) -> None:
        own: asyncio.Future[None] | None = None
        loop = asyncio.get_running_loop()
        for subscriber in self._subscribers:
            if channel not in subscriber.channels:
                continue
            delivered: asyncio.Future[None] | None = None
            if subscriber.loop is loop:
                if not subscriber.behind:
                    own = subscriber.take(channel, message)
                    continue
                own = delivered = loop.create_future()
            deadline = time.monotonic() + self.timeout
            while not subscriber.hand_over(channel, message, 0, delivered):
                if time.monotonic() > deadline:
                    raise self._full()
                await asyncio.sleep(0.005)
        if own is not None:
            await own

    def keep(self, channel: str, message: bytes, keep: Keep, *, order: bool = False) -> str:
        entry = self._history.keep(channel, message, keep, order)
        self.publish(channel, kept(entry.previous, entry.position, message))
        return entry.position

    async def akeep(self, channel: str, message: bytes, keep: Keep, *, order: bool = False) -> str:
        entry = self._history.keep(channel, message, keep, order)
        await self.apublish(channel, kept(entry.previous, entry.position, message))
        return entry.position

    def read(
        self, channel: str, since: str, keep: Keep, count: int, *, heard: bool = False
    ) -> Page:
        return self._history.read(channel, since, keep, count, heard)

    async def aread(
        self, channel: str, since: str, keep: Keep, count: int, *, heard: bool = False
    ) -> Page:
        return self._history.read(channel, since, keep, count, heard)

    def newest(self, channel: str, keep: Keep, count: int, before: str | None = None) -> Page:
        return self._history.newest(channel, keep, count, before)

    async def anewest(
        self, channel: str, keep: Keep, count: int, before: str | None = None
    ) -> Page:
        return self._history.newest(channel, keep, count, before)

    async def atops(self, channels: Sequence[str]) -> list[Top | None]:
        return self._history.tops(list(channels))

    def top(self, channel: str, keep: Keep) -> Top:
        return self._history.top(channel, keep)

    async def atop(self, channel: str, keep: Keep) -> Top:
        return self._history.top(channel, keep)

    def forget(self, channel: str, keep: Keep) -> None:
        entry = self._history.keep(channel, FORGOTTEN, keep, order=True, forget=True)
        self.publish(channel, kept(entry.previous, entry.position, FORGOTTEN))

    async def aforget(self, channel: str, keep: Keep) -> None:
        entry = self._history.keep(channel, FORGOTTEN, keep, order=True, forget=True)
        await self.apublish(channel, kept(entry.previous, entry.position, FORGOTTEN))

    async def atrack(
        self,
        channel: str,
        tracker: str,
        entries: Sequence[Entry],
        listed: Listed,
        *,
        roll: bool = False,
        away: bool = False,
        ends: bool = False,
        replaces: str = "",
        replaced: bool = False,
    ) -> Tracked:
        # Nothing but the end of its loop can keep a tracker from saying that it is gone.
        gone = asyncio.get_running_loop().is_closed
        tracked = self._presences.track(
            channel, tracker, gone, entries, listed, roll, ends, replaces, replaced
        )
        if tracked.changes is not None:
            await self.apublish(channel, published(tracked.changes))
        return tracked

    def snapshot(self, channel: str, most: int) -> Roll:
        return self._presences.snapshot(channel, most)

    async def asnapshot(self, channel: str, most: int) -> Roll:
        return self._presences.snapshot(channel, most)

    def subscriber(self, receiver: Receiver) -> MemorySubscriber:
        subscriber = MemorySubscriber(receiver)
        with self._lock:
            self._subscribers = (
                *(one for one in self._subscribers if not one.loop.is_closed()),
                subscriber,
            )
        return subscriber

    async def aclose(self) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            self._subscribers = tuple(one for one in self._subscribers if one.loop is not loop)

    def _full(self) -> BrokerError:
        return BrokerError(
            f"The broker {self.alias!r} could not hand the message over within {self.timeout:g} s: "
            f"{MAX_WAITING} bytes wait for an event loop that does not take them."
        )


class MemorySubscriber(BaseSubscriber):
    def __init__(self, receiver: Receiver) -> None:
        self.loop = asyncio.get_running_loop()
        self.channels: set[str] = set()
        self.take: Callable[[str, bytes], asyncio.Future[None] | None] = receiver.on_message
        """Delivers in this loop; a future is done once that has happened."""
        # What this loop has not taken yet: from other threads, and from itself behind theirs. With
        # its size, and the future that tells the sender of its own that it was delivered.
        self._waiting: deque[tuple[str, bytes, int, asyncio.Future[None] | None]] = deque()
        self._bytes = 0
        self._room = threading.Condition()
        # Something waits, or is being delivered. This loop may look without the lock: nobody else
        # makes it false, and what was handed over before has made it true.
        self.behind = False

    def subscribe(self, channel: str) -> None:
        self.channels.add(channel)

    def unsubscribe(self, channel: str) -> None:
        self.channels.discard(channel)

    def hand_over(
        self,
        channel: str,
        message: bytes,
        timeout: float,
        delivered: asyncio.Future[None] | None = None,
    ) -> bool:
        """Leave a message for this loop, behind what waits; ``False`` if there is no room.

        ``timeout`` is in seconds, 0 where a loop runs; ``delivered`` is of this loop.
        """
        size = entry_size(message) + sys.getsizeof(channel)
        with self._room:
            if not self._room.wait_for(lambda: self._has_room(size), timeout):
                return False
            if self.loop.is_closed():
                return True
            self._waiting.append((channel, message, size, delivered))
            self._bytes += size
            if not self.behind:
                try:
                    self.loop.call_soon_threadsafe(self._drain)
                except RuntimeError:  # It was closed since we looked.
                    self._waiting.clear()
                    self._bytes = 0
                else:
                    self.behind = True
        return True

    def _has_room(self, size: int) -> bool:
        return not self._waiting or self._bytes + size <= MAX_WAITING or self.loop.is_closed()

    def _drain(self, delivered: asyncio.Future[None] | None = None, _: object = None) -> None:
        while True:
            if delivered is not None and not delivered.done():  # Its sender may be cancelled.
                delivered.set_result(None)
            with self._room:
                if not self._waiting:
                    self.behind = False
                    return
                channel, message, size, delivered = self._waiting.popleft()
                self._bytes -= size
                self._room.notify_all()
            busy = self.take(channel, message)
            if busy is not None:
                busy.add_done_callback(partial(self._drain, delivered))
                return


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
