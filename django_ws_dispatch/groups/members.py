"""Who is in which group, per event loop.

A member is anything that satisfies ``Member``: a WebSocket, or somebody who reads a group's
messages in code. The registry of a loop is a plain object in a module dict; all that happens in it
happens in that loop, so it has no locks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from ..brokers import BaseBroker, get_broker, opened_brokers
from ..loops import PerLoop
from .fanout import Channel, FanOut, Member
from .messages import CONTROL_CHANNEL, LaterKind, Message, decode

__all__ = ["Member", "Place", "Registry", "aclose", "local"]

logger = logging.getLogger("django_ws_dispatch.groups")


# Channels of which it is remembered that the log has told of garbage on them.
GARBAGE = 1000


class Place(NamedTuple):
    """What one can join."""

    channel: str
    broker: str


class _Link:
    """One broker as this loop uses it: its subscriber, and the channels that have members here."""

    def __init__(self, registry: Registry, broker: BaseBroker) -> None:
        self.registry = registry
        self.broker = broker
        self.channels: dict[str, Channel] = {}
        self.subscriber = broker.subscriber(self)
        self._garbage: set[str] = set()  # channels on which something else publishes

    def on_message(self, name: str, message: bytes) -> asyncio.Future[None] | None:
        channel = self.channels.get(name)
        if channel is None:
            return None
        try:
            decoded = decode(message)
        except LaterKind as exc:
            logger.debug("Ignored a message of a later version (%s)", exc)
            return None
        except ValueError as exc:
            if name not in self._garbage:
                if len(self._garbage) >= GARBAGE:
                    self._garbage.clear()
                self._garbage.add(name)
                logger.warning(
                    "Ignored a message on the broker %r that is not one of ours (%s): something "
                    "else publishes on the channels of this site. Logged once for a group.",
                    self.broker.alias,
                    exc,
                )
            return None
        return self.registry.fan_out.deliver(channel, decoded)

    def on_reconnect(self) -> None:
        if self.broker.alias == "default" and self.registry.on_reconnect is not None:
            try:
                self.registry.on_reconnect()
            except Exception:  # A bug there must not cost the broker its connection.
                logger.exception("What follows a broker's return failed.")

    def join(self, member: Member, name: str) -> asyncio.Future[None] | None:
        channel = self.channels.get(name)
        if channel is None:
            channel = self.channels[name] = Channel()
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
        channel.remove(member)
        if not channel.members:
            del self.channels[name]
            self.subscriber.unsubscribe(name)
        return True


class _Control:
    """The member that hears what the processes of a site tell each other."""

    id = ""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def deliver(self, message: Message) -> None:
        if self.registry.control is not None:
            # Ours are bytes: a text is nobody's, and is told of as what can not be read.
            self.registry.control(message.event.get("bytes", b""))

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
        self.fan_out = FanOut(self.loop)

    async def join(self, member: Member, *places: Place) -> None:
        """Add ``member``; once this returns it gets every message of all the groups.

        All are asked for at once, so that it takes one round trip. Joining twice counts twice: each
        group that was joined wants its own ``leave()``. It does not suspend where the process is
        subscribed already, as always with the memory broker. Cancelled or failed, it leaves nothing
        behind.

        Raises:
            BrokerError: the broker did not acknowledge a subscription in time.
            ImproperlyConfigured: there is no such broker.
        """
        asked: list[tuple[_Link, str]] = []
        to_come: list[asyncio.Future[None]] = []
        try:
            for place in places:
                link = self._link(place.broker)
                asked.append((link, place.channel))
                ready = link.join(member, place.channel)
                if ready is not None:
                    ready.add_done_callback(_mark_retrieved)
                    to_come.append(ready)
            if to_come:
                # Others may wait for the same: unlike await this cancels nothing.
                await asyncio.wait(to_come, return_when=asyncio.FIRST_EXCEPTION)
                for ready in to_come:
                    if ready.done():
                        ready.result()
        except BaseException:
            for link, channel in asked:
                link.leave(member, channel)
            raise

    def leave(self, member: Member, place: Place) -> None:
        """Take back one ``join()``: nothing that is sent later is delivered. Never raises."""
        for link in self._links.values():
            if link.broker.alias == place.broker and link.leave(member, place.channel):
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

    def close(self) -> None:
        """Forget all members."""
        self._links.clear()
        self.fan_out.close()


def _mark_retrieved(ready: asyncio.Future[None]) -> None:
    # Whoever waited may be gone: cancelled, or told by another one that failed first.
    if not ready.cancelled():
        ready.exception()


local = PerLoop(Registry)
"""The registry of the running event loop."""


async def aclose() -> None:
    """Release all that groups and brokers hold in the running event loop."""
    registry = local.pop()
    if registry is not None:
        registry.close()
    for broker in opened_brokers():
        await broker.aclose()
