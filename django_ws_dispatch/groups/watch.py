"""Who is here, as code sees it: ``Group.present()`` and ``Group.watch()``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from ..brokers.presence import Here
from ..exceptions import BrokerError

__all__ = ["TOLD_EVERY", "Audience", "Change", "Present", "View", "Watcher", "presents"]

TOLD_EVERY = 1.0
"""Seconds between two changes that are told."""


@dataclass(frozen=True, slots=True)
class Present:
    """Somebody who is in a group.

    Attributes:
        key: who it is, as ``join(key=)`` has said: the primary key of a user, by default.
        info: what ``join(info=)`` or ``Membership.update()`` told of it last.
        sockets: how many of its sockets are members; 0 while it lingers.
        here_since: when the first one came, by the broker's clock.
    """

    key: str
    info: Any
    sockets: int
    here_since: datetime


def presents(here: Iterable[Here]) -> list[Present]:
    """Return those who are here, as code sees them."""
    return [
        Present(key, json.loads(info), sockets, datetime.fromtimestamp(since / 1_000_000, UTC))
        for key, sockets, since, info in here
    ]


class View:
    """Who was here at some moment. Nothing changes it.

    Args:
        here: by key; ``None`` where there were more than are listed.
        count: how many.
    """

    def __init__(self, here: Mapping[str, Here] | None, count: int) -> None:
        self.here = here
        self.count = count

    def shows(self, other: View) -> bool:
        """Return whether somebody who was told of the other one would learn nothing new."""
        if self.count != other.count or self.here is None or other.here is None:
            return self.count == other.count and self.here is other.here
        return self.here.keys() == other.here.keys() and not _changed(other.here, self.here)

    @cached_property
    def present(self) -> list[Present] | None:
        """All of them, made once for all who look."""
        if self.here is None:
            return None
        return presents(sorted(self.here.values(), key=lambda one: one.since))


def _changed(old: Mapping[str, Here], new: Mapping[str, Here]) -> list[Here]:
    """Return who came, came again, or has other info."""
    return [
        one
        for key, one in new.items()
        if (had := old.get(key)) is None or (had.since, had.info) != (one.since, one.info)
    ]


@dataclass(frozen=True, slots=True)
class Change:
    """What has changed of who is in a group.

    Attributes:
        left: who left, to be applied first.
        joined: who came, or has new ``info``; at first everybody.
        count: how many are here now.
    """

    left: list[Present]
    joined: list[Present]
    count: int
    _view: View = field(repr=False, compare=False)

    @property
    def present(self) -> list[Present] | None:
        """Who is here now, longest first; ``None`` where they are more than are listed.

        ``left`` and ``joined`` are empty then, and follow from the last list once there is one.
        """
        return self._view.present


class Watcher:
    """Iterates over what changes of a group.

    Whoever is slow misses nothing: it gets what has changed since it looked last, in one.

    Args:
        group: for messages.
        view: who is here now.
    """

    def __init__(self, group: object, view: View) -> None:
        self._group = group
        self._listed: Mapping[str, Here] = {}  # as it was told last
        self._told: View | None = None
        self._view = view
        self._lost = self._ended = False
        self._wakeup: asyncio.Future[None] | None = None

    def tell(self, view: View) -> None:
        """Have it see this, once it looks."""
        self._view = view
        self._wake()

    def lose(self) -> None:
        """The broker has forgotten who is here."""
        self._lost = True
        self._wake()

    def end(self) -> None:
        """The block is left."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> Change:
        while self._told is not None and (self._lost or self._ended or self._knows()):
            if self._ended:
                raise StopAsyncIteration
            if self._lost:
                raise BrokerError(
                    f"The broker has forgotten who is in {self._group!r}: watch it again."
                )
            if self._wakeup is not None:
                raise RuntimeError("Two tasks can not iterate over one watch() at once.")
            self._wakeup = asyncio.get_running_loop().create_future()
            try:
                await self._wakeup
            finally:
                self._wakeup = None
        self._told = view = self._view
        if view.here is None:
            return Change([], [], view.count, view)
        listed, self._listed = self._listed, view.here
        joined = _changed(listed, view.here)
        # Who came again in between has left in between.
        left = [
            one
            for key, one in listed.items()
            if (now := view.here.get(key)) is None or now.since != one.since
        ]
        return Change(presents(left), presents(joined), view.count, view)

    def _knows(self) -> bool:
        return self._told is not None and (self._told is self._view or self._told.shows(self._view))


class Audience:
    """Those who watch a group in one event loop; they are told at most once a second.

    Args:
        view: returns who is here now.
    """

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view
        self._watchers: dict[Watcher, None] = {}
        self._told: View | None = None
        self._ahead = False  # one of them knows more than they were told
        self._pause: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return bool(self._watchers)

    def add(self, group: object) -> Watcher:
        """Return one more, for ``group``."""
        view = self._view()
        if not self._watchers:
            self._told = view
        elif self._told is not None and not view.shows(self._told):
            self._ahead = True
        watcher = Watcher(group, view)
        self._watchers[watcher] = None
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """Tell one nothing more."""
        self._watchers.pop(watcher, None)
        watcher.end()

    def tell(self) -> None:
        """Something may have changed: tell it now, or as soon as it is time."""
        if self._watchers and self._pause is None:
            self._tell_now()

    def _tell_now(self) -> None:
        self._pause = None
        if not self._watchers or self._told is None:
            return
        view = self._view()
        if view.shows(self._told) and not self._ahead:
            return
        self._told, self._ahead = view, False
        self._pause = asyncio.get_running_loop().call_later(TOLD_EVERY, self._tell_now)
        for watcher in list(self._watchers):
            watcher.tell(view)

    def lose(self) -> None:
        """The broker has forgotten who was here: each has to watch again."""
        watchers, self._watchers = self._watchers, {}
        for watcher in watchers:
            watcher.lose()

    def close(self) -> None:
        """There is nobody any more, and nothing to be told of."""
        for watcher in self._watchers:
            watcher.end()
        if self._pause is not None:
            self._pause.cancel()
