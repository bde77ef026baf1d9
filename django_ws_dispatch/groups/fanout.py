"""The walk that delivers a message to the members of a group.

It is one coroutine, stepped by hand, that awaits each member's server's ``send()``. Where none
suspends there is no task, no queue and no call of ours for a delivery. Where one does, the walk
goes on as that member's, in a task, and a new walk takes the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Generator, Iterator
from itertools import islice
from operator import length_hint
from typing import Any, Protocol

from ..typing import Event, Send
from .messages import CLOSE, Message

__all__ = ["Channel", "Member", "Sender", "Walks"]

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
    def wire(self) -> int:
        """What of a ``Sender`` is 0 while its ``server_send`` is free; of others never."""

    def deliver(self, event: Event, size: int) -> None:
        """Take one ``websocket.send`` event of ``size`` bytes, which all members share.

        Never raises, never suspends.
        """

    def kick(self, code: int, reason: str) -> None:
        """Close, after what was delivered before. Never raises, never suspends."""


class Sender(Member, Protocol):
    """A member with a server's ``send()``, which a walk awaits without a call of the member's."""

    @property
    def server_send(self) -> Send:
        """The server's."""

    def go_on(self, steps: Generator[Any, Any, None], yielded: Any, size: int) -> None:
        """See through in a task what was started by hand, and has suspended.

        Args:
            steps: what is left of it.
            yielded: what it waits for.
            size: of the event in bytes.
        """

    def failed(self, exc: BaseException) -> None:
        """Hear that ``server_send`` raised ``exc``. Never raises."""


class _Gone:
    """Stands for a member that has left since the walk began."""

    id = ""
    wire = -1

    def deliver(self, event: Event, size: int) -> None:
        pass

    def kick(self, code: int, reason: str) -> None:
        pass


GONE = _Gone()


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
            job.drop(member)


class _Job:
    """A message on its way to the members that were there when its turn came."""

    __slots__ = ("channel", "chunk", "done", "left", "message", "rest", "stale")

    def __init__(self, channel: Channel, message: Message) -> None:
        self.channel = channel
        self.message = message
        self.done: asyncio.Future[None] | None = None
        # A few of the members, those of them that are left, and who comes after them.
        self.chunk: list[Any] = []
        self.left = iter(self.chunk)
        self.rest: Iterator[Member] | None = None
        self.stale = False

    def begin(self) -> None:
        """Take down who is there."""
        self.rest = iter(list(self.channel.members))
        self.channel.jobs.append(self)

    def drop(self, member: Member) -> None:
        """A member has left."""
        self.stale = True
        for position, one in enumerate(self.chunk):
            if one is member:
                self.chunk[position] = GONE

    def take(self, chunk: list[Any]) -> None:
        self.chunk = chunk
        self.left = iter(chunk)

    def chunks(self) -> Iterator[Iterator[Any]]:
        """The members that are left, a few at a time."""
        # Nothing here may hold a member: a walk that waits for a slow one keeps this as it is.
        members, exclude = self.channel.members, self.message.exclude
        while True:
            if not length_hint(self.left):
                self.take(list(islice(self.rest or (), CHUNK)))
                if not self.chunk:
                    return
                if self.stale:
                    self.take([one for one in self.chunk if one in members])
                if exclude is not None:
                    self.take([one for one in self.chunk if one.id != exclude])
            yield self.left

    def is_over(self) -> bool:
        if length_hint(self.left) or length_hint(self.rest):
            return False
        self.take([])
        self.rest = None
        self.channel.jobs.remove(self)
        return True


class Walks:
    """The messages on their way in one event loop.

    Args:
        loop: which.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # Messages that wait for their turn, the first one perhaps in the middle of its walk.
        self._jobs: deque[_Job] = deque()
        self._turn: asyncio.Handle | None = None
        self._turn_ends = 0.0

    def fan_out(self, channel: Channel, message: Message) -> asyncio.Future[None] | None:
        """Deliver ``message`` to the members of ``channel``, after every message that came before.

        Returns:
            ``None`` if that is done, else a future that is done when it is.
        """
        job = _Job(channel, message)
        if not self._jobs:
            if self._turn is None:
                self._begin_turn()
            if self._walk(job):
                return None
        job.done = self._loop.create_future()
        self._jobs.append(job)
        return job.done

    def close(self) -> None:
        """Give up what is on its way."""
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
        while self._jobs and self._walk(self._jobs[0]):
            self._finish(self._jobs.popleft())

    @staticmethod
    def _finish(job: _Job) -> None:
        if job.done is not None and not job.done.done():
            job.done.set_result(None)

    def _walk(self, job: _Job) -> bool:
        """Deliver until all have it or the turn is over; ``True`` if all have it."""
        if job.rest is None:
            job.begin()
        if job.message.kind == CLOSE:
            self._kick(job)
            return job.is_over()
        while True:
            steps: Any = self._deliver(job).__await__()
            # Unlike send(None) this makes no StopIteration.
            for yielded in steps:
                member: Sender = job.chunk[-1 - length_hint(job.left)]
                # The walk finds nobody left when its send() is done.
                job.take(list(job.left))
                member.go_on(steps, yielded, job.message.size)
                break
            else:
                return job.is_over()

    async def _deliver(self, job: _Job) -> None:
        event, size = job.message.event, job.message.size
        clock, ends = self._loop.time, self._turn_ends
        for left in job.chunks():
            if clock() >= ends:
                return
            for member in left:
                try:
                    if member.wire:  # not free
                        member.deliver(event, size)
                    else:
                        await member.server_send(event)
                except (Exception, asyncio.CancelledError) as exc:
                    if job.left is not left:
                        raise  # in the task of that member
                    self._failed(member, exc)
            if job.left is not left:
                return

    @staticmethod
    def _failed(member: Any, exc: BaseException) -> None:
        """The others must not pay for it."""
        try:
            if hasattr(member, "failed"):
                member.failed(exc)
                return
        except Exception as another:
            exc = another
        logger.error("A member of a group failed to take a message.", exc_info=exc)

    def _kick(self, job: _Job) -> None:
        message = job.message
        for left in job.chunks():
            if self._loop.time() >= self._turn_ends:
                return
            for member in left:
                try:
                    member.kick(message.code, message.reason)
                except Exception:
                    logger.exception("A member of a group failed to close.")
