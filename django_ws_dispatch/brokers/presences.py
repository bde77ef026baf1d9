"""Who is here by what the process itself knows: as a server would have it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from . import remembered
from .presence import Changes, Entry, Here, Listed, Roll, Tracked

__all__ = ["Presences"]

# Channels beyond which those are looked for that are over.
MANY = 100

_Gone = Callable[[], bool]


class _Channel:
    """Who is here, as the keys of a Redis server have it."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.number = 0
        self.since: dict[str, int] = {}
        self.sockets: dict[str, int] = {}
        self.infos: dict[str, str] = {}
        self.lingers: dict[str, float] = {}  # key -> when that is over
        self.trackers: dict[str, tuple[_Gone, dict[str, int]]] = {}
        self.left: list[str] = []  # by the call that is under way
        self.changed: dict[str, None] = {}

    @property
    def version(self) -> str:
        return f"{self.epoch}.{self.number}"

    def here(self, keys: Iterable[str]) -> list[Here]:
        return [
            Here(key, self.sockets.get(key, 0), self.since[key], self.infos[key]) for key in keys
        ]

    def enter(self, tracked: dict[str, int], entry: Entry, linger: float, moment: float) -> None:
        key = entry.key
        had, total = tracked.pop(key, 0), self.sockets.pop(key, 0)
        rest = total + entry.sockets - had
        if entry.sockets:
            tracked[key] = entry.sockets
        if rest > 0:
            self.sockets[key] = rest
            if key not in self.since:
                self.since[key], self.infos[key] = int(moment * 1_000_000), "null"
                self.changed[key] = None
            self.lingers.pop(key, None)
            info = self.infos[key]
            if entry.info and entry.instead_of in ("", info) and entry.info != info:
                self.infos[key] = entry.info
                self.changed[key] = None
            if entry.sockets != had:
                self.changed[key] = None
        elif had:
            if entry.lingers and linger:
                self.lingers[key] = moment + linger
                self.changed[key] = None
            else:
                self.remove(key)

    def remove(self, key: str) -> None:
        del self.since[key], self.infos[key]
        self.sockets.pop(key, None)
        self.lingers.pop(key, None)
        self.changed.pop(key, None)
        self.left.append(key)

    def due(self, moment: float) -> list[str]:
        return [key for key, end in self.lingers.items() if end <= moment]

    def drop(self, tracker: str, moment: float) -> None:
        _, tracked = self.trackers.pop(tracker, (None, {}))
        for key in list(tracked):
            self.enter(tracked, Entry(key, 0), 0, moment)

    def sweep(self, moment: float) -> None:
        for name, (gone, _) in list(self.trackers.items()):
            if gone():
                self.drop(name, moment)
        for key in self.due(moment):
            self.remove(key)

    def end_call(self, listed: Listed) -> Changes | None:
        left, changed = self.left, self.changed
        self.left, self.changed = [], {}
        if not left and not changed:
            return None
        previous = self.version
        self.number += 1
        count = len(self.since)
        if count > listed.most:
            return Changes(previous, self.version, count, [], None)
        return Changes(previous, self.version, count, left, self.here(changed))


class Presences:
    """Who is here in the channels of one broker. Every method may be called in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channels: dict[str, _Channel] = {}
        self._epoch = 0
        self._many = MANY

    def track(
        self,
        name: str,
        tracker: str,
        gone: _Gone,
        entries: Sequence[Entry],
        listed: Listed,
        roll: bool,
        ends: bool,
        replaces: str,
        replaced: bool,
    ) -> Tracked:
        """See ``BaseBroker.atrack()``; ``gone`` tells whether the tracker is no more."""
        moment = remembered.now()
        with self._lock:
            channel = self._channels.get(name)
            if channel is None:
                self._drop_those_over(moment)
                # Above every earlier one, also where the clock was set back.
                self._epoch = max(int(moment * 1_000_000), self._epoch + 1)
                channel = self._channels[name] = _Channel(self._epoch)
            known = tracker in channel.trackers
            _, tracked = channel.trackers.setdefault(tracker, (gone, {}))
            former = channel.trackers.get(replaces, (gone, {}))[1]
            for entry in entries:
                if taken := former.pop(entry.key, 0):
                    tracked[entry.key] = tracked.get(entry.key, 0) + taken
                channel.enter(tracked, entry, listed.linger, moment)
            if ends and not tracked:
                del channel.trackers[tracker]
            if replaced:
                channel.drop(replaces, moment)
            channel.sweep(moment)
            changes = channel.end_call(listed)
            found = None
            if roll:
                count = len(channel.since)
                here = channel.here(channel.since) if count <= listed.most else []
                found = Roll(channel.version, count, here)
            if not channel.since and not channel.trackers:
                del self._channels[name]
            return Tracked(known, False, len(tracked), changes, found)

    def snapshot(self, name: str, most: int) -> Roll:
        """See ``BaseBroker.snapshot()``."""
        moment = remembered.now()
        with self._lock:
            channel = self._channels.get(name)
            if channel is None:
                return Roll("0.0", 0, [])
            over = set(channel.due(moment))
            over.update(self._expired(channel))
            here = [key for key in channel.since if key not in over]
            return Roll(channel.version, len(here), channel.here(here[:most]))

    @staticmethod
    def _expired(channel: _Channel) -> Iterable[str]:
        left = dict(channel.sockets)
        for gone, tracked in channel.trackers.values():
            if gone():
                for key, count in tracked.items():
                    left[key] -= count
        return [key for key, count in left.items() if count <= 0]

    def _drop_those_over(self, moment: float) -> None:
        if len(self._channels) < self._many:
            return
        for name, channel in list(self._channels.items()):
            if not channel.trackers and len(channel.due(moment)) == len(channel.since):
                del self._channels[name]
        self._many = max(MANY, 2 * len(self._channels))
