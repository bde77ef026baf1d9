"""Who is in which group, per event loop, and the walk that delivers a message to them.

A member is anything that satisfies ``Member``: a WebSocket, or somebody who reads a group's
messages in code. The registry of a loop is a plain object in a module dict; all that happens in it
happens in that loop, so it has no locks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterator
from itertools import islice
from operator import length_hint
from typing import Any, Protocol, cast

from .brokers import BaseBroker, get_broker, opened_brokers
from .messages import CLOSE, CONTROL_CHANNEL, Message, decode
from .typing import Event

__all__ = ["Member", "Registry", "aclose", "local"]

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

    def deliver(self, event: Event, size: int) -> Awaitable[None] | None:
        """Take one ``websocket.send`` event of ``size`` bytes, which all members share.

        Never raises, never suspends. A ``Sender`` may return a server's ``send()``, which the
        caller awaits at once.
        """

    def kick(self, code: int, reason: str) -> None:
        """Close, after what was delivered before. Never raises, never suspends."""


class Sender(Member, Protocol):
    """A member with a server's ``send()``: a WebSocket."""

    def go_on(self, steps: Generator[Any, Any, None], yielded: Any, size: int) -> None:
        """See through in a task what ``deliver()`` has returned: it has suspended.

        Args:
            steps: what is left of it.
            yielded: what it waits for.
            size: of the event in bytes.
        """

    def failed(self, exc: Exception) -> None:
        """Hear that what ``deliver()`` has returned raised ``exc``. Never raises."""


class Place(Protocol):
    """What one can join: a ``Group``."""

    channel: str
    broker: str


class _Channel:
    __slots__ = ("garbage_seen", "members")

    def __init__(self) -> None:
        # A dict as an ordered set that counts: walking a set costs more per member.
        self.members: dict[Member, int] = {}
        self.garbage_seen = False


class _Job:
    """A message on its way to the members that were there when its turn came."""

    __slots__ = ("channel", "done", "message", "rest", "sender", "walks")

    def __init__(self, channel: _Channel, message: Message) -> None:
        self.channel = channel
        self.message = message
        self.rest: Iterator[Member] | None = None
        self.walks = 0
        # Whose send() was started last.
        self.sender: Any = None
        self.done: asyncio.Future[None] | None = None


class _Link:
    """One broker as this loop uses it: its subscriber, and the channels that have members here."""

    def __init__(self, registry: Registry, broker: BaseBroker) -> None:
        self.registry = registry
        self.broker = broker
        self.channels: dict[str, _Channel] = {}
        self.subscriber = broker.subscriber(self)

    def on_message(self, name: str, message: bytes) -> asyncio.Future[None] | None:
        channel = self.channels.get(name)
        if channel is None:
            return None
        try:
            decoded = decode(message)
        except ValueError as exc:
            if not channel.garbage_seen:
                channel.garbage_seen = True
                logger.warning(
                    "Ignored a message on the broker %r that is not one of ours (%s): something "
                    "else publishes on the channels of this site. Logged once for a group.",
                    self.broker.alias,
                    exc,
                )
            return None
        return self.registry.fan_out(channel, decoded)

    def on_reconnect(self) -> None:
        if self.broker.alias == "default" and self.registry.on_reconnect is not None:
            try:
                self.registry.on_reconnect()
            except Exception:  # A bug there must not cost the broker its connection.
                logger.exception("What follows a broker's return failed.")

    def join(self, member: Member, name: str) -> asyncio.Future[None] | None:
        channel = self.channels.get(name)
        if channel is None:
            channel = self.channels[name] = _Channel()
        channel.members[member] = channel.members.get(member, 0) + 1
        return self.subscriber.subscribe(name)

    def leave(self, member: Member, name: str) -> bool:
        """Take back one ``join()``; ``False`` if there was none."""
        channel = self.channels.get(name)
        count = 0 if channel is None else channel.members.get(member, 0)
        if channel is None or not count:
            return False
        if count > 1:
            channel.members[member] = count - 1
            return True
        del channel.members[member]
        if not channel.members:
            del self.channels[name]
            self.subscriber.unsubscribe(name)
        return True


class _Control:
    """The member that hears what the processes of a site tell each other."""

    id = ""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def deliver(self, event: Event, size: int) -> None:
        if self.registry.control is not None:
            self.registry.control(event["bytes"])

    def kick(self, code: int, reason: str) -> None:
        pass


class Registry:
    """The members of groups in one event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.control: Callable[[bytes], None] | None = None
        """Called with every control message, once ``listen_control()`` was."""
        self.on_reconnect: Callable[[], None] | None = None
        """Called after an outage of the default broker, when everything is subscribed to again."""
        self._links: dict[BaseBroker, _Link] = {}
        self._control_member = _Control(self)
        # Messages that wait for their turn, the first one perhaps in the middle of its walk.
        self._jobs: deque[_Job] = deque()
        self._turn: asyncio.Handle | None = None
        self._turn_ends = 0.0

    async def join(self, member: Member, group: Place) -> None:
        """Add ``member``; once this returns it gets every message.

        Joining twice counts twice: each ``join()`` that returned wants its own ``leave()``. It does
        not suspend where the process is subscribed already, as always with the memory broker.
        Cancelled or failed, it leaves nothing behind.

        Raises:
            BrokerError: the broker did not acknowledge the subscription in time.
            ImproperlyConfigured: there is no such broker.
        """
        link = self._link(group.broker)
        ready = link.join(member, group.channel)
        if ready is not None:
            try:
                await asyncio.shield(ready)
            except BaseException:
                link.leave(member, group.channel)
                raise

    def leave(self, member: Member, group: Place) -> None:
        """Take back one ``join()``: nothing that is sent later is delivered. Never raises."""
        for link in self._links.values():
            if link.broker.alias == group.broker and link.leave(member, group.channel):
                return

    async def listen_control(self) -> None:
        """Hear the control messages of the default broker; returns once that is so.

        Cheap when it is so already. After a failure or a cancellation the subscription is still
        wanted: it is made once the broker is there, and ``on_reconnect`` called.

        Raises:
            BrokerError: the broker did not acknowledge the subscription in time.
        """
        link = self._link("default")
        control = link.channels.get(CONTROL_CHANNEL)
        if control is None:
            ready = link.join(self._control_member, CONTROL_CHANNEL)
        else:
            ready = link.subscriber.subscribe(CONTROL_CHANNEL)
        if ready is not None:
            await asyncio.shield(ready)

    def _link(self, alias: str) -> _Link:
        broker = get_broker(alias)
        link = self._links.get(broker)
        if link is None:
            link = self._links[broker] = _Link(self, broker)
        return link

    def fan_out(self, channel: _Channel, message: Message) -> asyncio.Future[None] | None:
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
        job.done = self.loop.create_future()
        self._jobs.append(job)
        return job.done

    def _begin_turn(self) -> None:
        # The turn lasts until the loop has been round once, however many messages come in it.
        self._turn_ends = self.loop.time() + TURN
        self._turn = self.loop.call_soon(self._next_turn)

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
            job.rest = iter(list(job.channel.members))
        while True:
            steps: Any = self._deliver(job, job.rest).__await__()
            for yielded in steps:
                # The walk waits in the send() of a slow member, and goes on as that member's: a new
                # one is for the others.
                job.walks += 1
                job.sender.go_on(steps, yielded, job.message.size)
                break
            else:
                return not length_hint(job.rest)

    async def _deliver(self, job: _Job, rest: Iterator[Member]) -> None:
        """Started by hand: where no ``send()`` suspends, this does not, and costs no more."""
        clock, ends, walk = self.loop.time, self._turn_ends, job.walks
        members, message = job.channel.members, job.message
        event, size, exclude = message.event, message.size, message.exclude
        plain = message.kind != CLOSE
        while clock() < ends and length_hint(rest):
            for member in islice(rest, CHUNK):
                # It may have left since the walk began.
                if member not in members or (exclude is not None and member.id == exclude):
                    continue
                try:
                    if plain:
                        sending = member.deliver(event, size)
                        if sending is not None:
                            job.sender = member
                            await sending
                            if job.walks != walk:
                                return
                    else:
                        member.kick(message.code, message.reason)
                except Exception as exc:
                    if job.walks != walk:
                        raise
                    # The others must not pay for it.
                    if member is job.sender:
                        cast("Sender", member).failed(exc)
                    else:
                        logger.exception("A member of a group failed to take a message.")

    def close(self) -> None:
        """Forget all members."""
        self._links.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        while self._jobs:
            self._finish(self._jobs.popleft())


_registries: dict[asyncio.AbstractEventLoop, Registry] = {}


def local() -> Registry:
    """Return the registry of the running event loop."""
    loop = asyncio.get_running_loop()
    registry = _registries.get(loop)
    if registry is None:
        for one in list(_registries):
            if one.is_closed():
                _registries.pop(one, None)
        registry = _registries[loop] = Registry()
    return registry


async def aclose() -> None:
    """Release all that groups and brokers hold in the running event loop."""
    registry = _registries.pop(asyncio.get_running_loop(), None)
    if registry is not None:
        registry.close()
    for broker in opened_brokers():
        await broker.aclose()
