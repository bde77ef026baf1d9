"""A broker that knows who is here, and answers as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.brokers.presence import Entry, Listed, Tracked
from django_ws_dispatch.brokers.presences import Presences
from django_ws_dispatch.groups.messages import decode

__all__ = ["TrackingBroker"]


class TrackingBroker(MemoryBroker):
    """As a server would have it: trackers of other processes are silent, or say something.

    Attributes:
        calls: that came, in order; each with what it was given.
        receivers: that hear what is published, in this process.
        deaf: they do not.
        error: raised by every call, if anything.
        more: how many calls are answered that there is more to sweep.
    """

    def __init__(self) -> None:
        super().__init__("default", None, {"timeout": 0.05})
        self.calls: list[Any] = []
        self.receivers: list[Any] = []
        self.deaf = False
        self.error: BaseException | None = None
        self.more = 0
        self._open = asyncio.Event()
        self._open.set()

    @property
    def presences(self) -> Presences:
        """What it knows."""
        return self._presences

    def block(self) -> None:
        """Let calls wait for an answer."""
        self._open.clear()

    def unblock(self) -> None:
        """Answer them, and all that come."""
        self._open.set()

    async def atrack(
        self,
        channel: str,
        tracker: str,
        entries: Sequence[Entry],
        listed: Listed,
        **said: Any,
    ) -> Tracked:
        self.calls.append(SimpleNamespace(tracker=tracker, entries=list(entries), **said))
        await self._open.wait()
        if self.error is not None:
            raise self.error
        self.more, more = max(self.more - 1, 0), self.more > 0
        tracked = await super().atrack(channel, tracker, entries, listed, **said)
        return tracked._replace(more=more)

    async def apublish(self, channel: str, message: bytes) -> None:
        for receiver in () if self.deaf else list(self.receivers):
            receiver.receive(decode(message))

    def elsewhere(
        self, channel: str, *entries: Entry, tracker: str = "elsewhere", heard: bool = True
    ) -> None:
        """Another process says something of its own.

        Args:
            channel: of the group.
            entries: what it says.
            tracker: in whose name.
            heard: this process hears what that has changed.
        """
        self.deaf = not heard
        call = super().atrack(channel, tracker, entries, Listed(200, 0.0))
        try:
            call.send(None)
        except StopIteration:
            self.deaf = False
        else:
            raise AssertionError("it waits for something")

    def forget(self) -> None:
        """Lose everything, as a server without persistence that was restarted."""
        self._presences = Presences()
