"""The fan-out of a message to the members of a group: a loop over ``member.deliver(message)``.

Whoever is slow waits in an outbox of its own, so that nobody waits for it here. What takes longer
than ``TURN`` goes on when the event loop has been round once, behind whatever came before.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Iterator
from itertools import islice
from operator import length_hint
from typing import Protocol

from .messages import CLOSE, GAP, Message

__all__ = ["Channel", "FanOut", "Member"]

logger = logging.getLogger("django_ws_dispatch.groups")

# A fan-out gives the loop back after this many seconds, and looks at the clock after this many
# members. The promise is 10 ms; the difference is for the last members of a slow chunk.
TURN = 0.005
CHUNK = 32


class Member(Protocol):
    """Somebody in a group. Its methods are called in its own event loop."""

    @property
    def id(self) -> str:
        """Unguessable and unique across nodes; read only where a message excludes somebody."""

    @property
    def former_ids(self) -> Collection[str]:
        """Of sockets that its page had before; what excludes one of them excludes this."""

    def deliver(self, message: Message, /) -> None:
        """Take one message, which all members share. Never raises, never suspends."""

    def notice(self, message: Message, /) -> None:
        """Take what only clients are told that know of it. Never raises, never suspends."""

    def kick(self, code: int, reason: str, /) -> None:
        """Close, after what was delivered before. Never raises, never suspends."""


class Channel:
    """The members of a group in one event loop."""

    __slots__ = ("jobs", "members")

    def __init__(self) -> None:
        # A dict as an ordered set that counts: walking a set costs more per member.
        self.members: dict[Member, int] = {}
        self.jobs: list[_Job] = []

    def remove(self, member: Member) -> None:
        """Take a member out, also of what is on its way."""
        del self.members[member]
        for job in self.jobs:
            job.left.add(member)


class _Job:
    """A message on its way to the members that were there when its turn came."""

    __slots__ = ("channel", "done", "left", "message", "rest")

    def __init__(self, channel: Channel, message: Message) -> None:
        self.channel = channel
        self.message = message
        self.done: asyncio.Future[None] | None = None
        self.rest: Iterator[Member] | None = None
        self.left: set[Member] = set()  # since then

    def deliver(self, count: int) -> bool:
        """Deliver to so many more members. Return whether all have it."""
        if self.rest is None:
            self.rest = iter(list(self.channel.members))
            self.channel.jobs.append(self)
        message, left = self.message, self.left
        exclude, special = message.exclude, message.kind in (CLOSE, GAP)
        for member in islice(self.rest, count):
            if left and member in left:
                continue
            try:
                if exclude is not None and (member.id == exclude or exclude in member.former_ids):
                    continue
                if not special:
                    member.deliver(message)
                elif message.kind == CLOSE:
                    member.kick(message.code, message.reason)
                else:
                    member.notice(message)
            except Exception:  # The others must not pay for it.
                what = "close" if message.kind == CLOSE else "take a message"
                logger.exception("A member of a group failed to %s.", what)
        if length_hint(self.rest):
            return False
        self.channel.jobs.remove(self)
        return True


class FanOut:
    """The messages on their way in one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # Messages that wait for their turn, the first one perhaps delivered to some.
        self._jobs: deque[_Job] = deque()
        self._turn: asyncio.Handle | None = None
        self._turn_ends = 0.0

    def deliver(self, channel: Channel, message: Message) -> asyncio.Future[None] | None:
        """Deliver to the members of a channel, after every message that came before.

        Return ``None`` if that is done, else a future that is done when it is.
        """
        job = _Job(channel, message)
        if not self._jobs:
            if self._turn is None:
                self._begin_turn()
            if self._run(job):
                return None
        job.done = self._loop.create_future()
        self._jobs.append(job)
        return job.done

    def spare(self, channel: Channel, member: Member) -> None:
        """Leave one who comes now out of what waits for its turn."""
        for job in self._jobs:
            if job.channel is channel:
                job.left.add(member)

    def close(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        while self._jobs:
            self._finish(self._jobs.popleft())

    def _begin_turn(self) -> None:
        # The turn lasts until the loop has been round once, however many messages come in it.
        self._turn_ends = self._loop.time() + TURN
        self._turn = self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        if not self._jobs:
            return
        self._begin_turn()
        while self._jobs and self._run(self._jobs[0]):
            self._finish(self._jobs.popleft())

    def _run(self, job: _Job) -> bool:
        """Deliver until all have it or the turn is over; ``True`` if all have it."""
        while self._loop.time() < self._turn_ends:
            if job.deliver(CHUNK):
                return True
        return False

    @staticmethod
    def _finish(job: _Job) -> None:
        if job.done is not None and not job.done.done():
            job.done.set_result(None)
