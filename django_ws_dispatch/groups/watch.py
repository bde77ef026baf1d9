"""Who is told of who is here: code, by ``Group.watch()``, and the clients of members."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..brokers.presence import Here
from ..exceptions import BrokerError
from .crowd import Crowd
from .fanout import FanOut, Member
from .messages import Place
from .view import Present, View, presents

__all__ = ["TOLD_EVERY", "Audience", "Change", "Watcher"]

TOLD_EVERY = 1.0
"""Seconds between two changes that are told."""


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
        left, joined = view.left(listed), view.joined(listed)
        return Change(presents(left), presents(joined), view.count, view)

    def _knows(self) -> bool:
        return self._told is not None and (self._told is self._view or self._told.shows(self._view))


class Audience:
    """Those who watch a group in one event loop; they are told at most once a second.

    Args:
        view: returns who is here now.
        fan_out: of the event loop.
        place: of the group.
    """

    def __init__(self, view: Callable[[], View], fan_out: FanOut, place: Place) -> None:
        self._view = view
        self._crowd = Crowd(fan_out, place)
        self._watchers: dict[Watcher, None] = {}
        self._told: View | None = None
        self._ahead = False  # one of them knows more than they were told
        self._pause: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return bool(self._watchers or self._crowd)

    def add(self, group: object) -> Watcher:
        """Return one more, for ``group``."""
        watcher = Watcher(group, self._newest_view())
        self._watchers[watcher] = None
        return watcher

    def introduce(self, member: Member) -> str:
        """Have the client of a member be told who is here; return what it is told first."""
        view = self._newest_view()
        self._crowd.remove(member)
        self._crowd.add(member, view)
        return view.payload

    def dismiss(self, member: Member) -> None:
        """Tell the client of a member nothing more."""
        self._crowd.remove(member)

    def _newest_view(self) -> View:
        view = self._view()
        if not self:
            self._told = view
        elif self._told is not None and not view.shows(self._told):
            self._ahead = True
        return view

    def remove(self, watcher: Watcher) -> None:
        """Tell one nothing more."""
        self._watchers.pop(watcher, None)
        watcher.end()

    def tell(self) -> None:
        """Something may have changed: tell it now, or as soon as it is time."""
        if self and self._pause is None:
            self._tell_now()

    def _tell_now(self) -> None:
        self._pause = None
        if not self or self._told is None:
            return
        view = self._view()
        if view.shows(self._told) and not self._ahead:
            return
        self._told, self._ahead = view, False
        self._pause = asyncio.get_running_loop().call_later(TOLD_EVERY, self._tell_now)
        for watcher in list(self._watchers):
            watcher.tell(view)
        self._crowd.tell(view)

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
