"""Who takes the messages of which channel, per event loop.

A channel of a broker has receivers. The members of a group are one: a member is anything that
satisfies ``Member``, a WebSocket or somebody who reads a group's messages in code. What the
processes of a site tell each other has another one.

A registry is for one loop; all that happens in it happens in that loop, so it has no locks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

from .. import lanes
from ..brokers import BaseBroker, get_broker, opened_brokers
from ..loops import PerLoop
from .fanout import Channel, FanOut, Member
from .kept import KeptGroup
from .messages import FORGOT, RESET, LaterVersion, Message, decode
from .options import GroupOptions
from .patrol import patrol

__all__ = ["Member", "Place", "Receiver", "Registry", "aclose", "local"]

logger = logging.getLogger("django_ws_dispatch.groups")

# What is remembered of what the log has told of a broker's messages.
MOST_TOLD = 1000


class Place(NamedTuple):
    """A channel of a broker."""

    channel: str
    broker: str


class Receiver(Protocol):
    """What takes the messages of a channel. Its methods are called in its own event loop."""

    def receive(self, message: Message, /) -> asyncio.Future[None] | None:
        """Take one message.

        Returns:
            ``None``, or a future that is done once there is room for more.

        Raises:
            LaterVersion: it says what only a later version of this package can know.
        """

    def catch_up(self) -> None:
        """The broker was away, and is back: messages may have been lost."""


class _Group:
    """The members of a group: the receiver that fans out to them."""

    __slots__ = ("_deliver", "channel")

    def __init__(self, fan_out: FanOut) -> None:
        self.channel = Channel()
        self._deliver = partial(fan_out.deliver, self.channel)

    def receive(self, message: Message) -> asyncio.Future[None] | None:
        # Another process has the setting already that makes it a group with history.
        return None if message.kind in (FORGOT, RESET) else self._deliver(message)

    def catch_up(self) -> None:
        """What was lost is lost."""


class _Link:
    """One broker as this loop uses it: its subscriber, and who receives here."""

    def __init__(self, broker: BaseBroker, fan_out: FanOut) -> None:
        self.broker = broker
        # By channel. Tuples, since a receiver may come or go while all of them are called.
        self.receivers: dict[str, tuple[Receiver, ...]] = {}
        self.groups: dict[str, _Group | KeptGroup] = {}
        self.kept: dict[str, KeptGroup] = {}
        self.subscriber = broker.subscriber(self)
        self._fan_out = fan_out
        self._told: set[str] = set()
        self._patrol: asyncio.Task[None] | None = None

    # What the subscriber tells

    def on_message(self, name: str, message: bytes) -> asyncio.Future[None] | None:
        receivers = self.receivers.get(name)
        if receivers is None:
            return None
        try:
            decoded = decode(message)
        except LaterVersion as exc:
            self._warn_of_later_version(exc)
            return None
        except ValueError as exc:
            self._warn_once(
                name,
                "Ignored a message on the broker %r that is not one of ours (%s): something "
                "else publishes on the channels of this site. Logged once for a group.",
                self.broker.alias,
                exc,
            )
            return None
        busy = None
        for receiver in receivers:
            try:
                # Whatever waits does so in one fan-out: what comes last is done last.
                busy = receiver.receive(decoded) or busy
            except LaterVersion as exc:
                self._warn_of_later_version(exc)
            except Exception:  # A bug there must not cost the broker its connection.
                logger.exception("What takes the messages of a channel failed.")
        return busy

    def on_lost(self) -> None:
        for group in self.kept.values():
            group.lose_touch()

    def on_reconnect(self) -> None:
        for receivers in list(self.receivers.values()):
            for receiver in receivers:
                try:
                    receiver.catch_up()
                except Exception:
                    logger.exception("What follows a broker's return failed.")

    def _warn_of_later_version(self, exc: LaterVersion) -> None:
        self._warn_once(
            str(exc),
            "Ignored a message on the broker %r (%s): a later version of django-ws-dispatch "
            "publishes on the channels of this site, and this process does not know what it "
            "says. Logged once for each kind.",
            self.broker.alias,
            exc,
        )

    def _warn_once(self, about: str, text: str, *args: object) -> None:
        if about not in self._told:
            if len(self._told) >= MOST_TOLD:
                self._told.clear()
            self._told.add(about)
            logger.warning(text, *args)

    # Who receives

    def add(self, receiver: Receiver, name: str) -> asyncio.Future[None] | None:
        receivers = self.receivers.get(name, ())
        if receiver not in receivers:
            self.receivers[name] = (*receivers, receiver)
        return self.subscriber.subscribe(name)

    def remove(self, receiver: Receiver, name: str) -> None:
        left = tuple(one for one in self.receivers.get(name, ()) if one is not receiver)
        if left:
            self.receivers[name] = left
        elif self.receivers.pop(name, None) is not None:
            self.subscriber.unsubscribe(name)

    def hold(self, member: Member, name: str, options: GroupOptions) -> KeptGroup:
        """Keep a group that remembers for a member that is about to enter."""
        group = self.kept.get(name)
        if group is None:
            group = KeptGroup(self.broker, name, options, self._fan_out)
            self.groups[name] = self.kept[name] = group
            self.receivers[name] = (*self.receivers.get(name, ()), group)
            if self._patrol is None:
                self._patrol = asyncio.get_running_loop().create_task(
                    patrol(self.broker, self.kept), context=lanes.background().copy()
                )
        group.hold(member)
        return group

    def join(self, member: Member, name: str) -> asyncio.Future[None] | None:
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = _Group(self._fan_out)
            self.receivers[name] = (*self.receivers.get(name, ()), group)
        members = group.channel.members
        members[member] = members.get(member, 0) + 1
        return self.subscriber.subscribe(name)

    def leave(self, member: Member, name: str) -> bool:
        """Take back one ``join()``; ``False`` if there was none."""
        group = self.groups.get(name)
        if group is None:
            return False
        members = group.channel.members
        # A join that is under way first: one that fails must not cost an earlier one its place.
        if isinstance(group, KeptGroup) and group.release(member):
            pass
        elif member not in members:
            return False
        elif members[member] > 1:
            members[member] -= 1
        else:
            group.channel.remove(member)
        if not members and not (isinstance(group, KeptGroup) and group.held):
            del self.groups[name]
            self.remove(group, name)
            if isinstance(group, KeptGroup):
                del self.kept[name]
                group.close()
                if not self.kept and self._patrol is not None:
                    self._patrol.cancel()
                    self._patrol = None
        return True

    def tasks(self) -> list[asyncio.Task[Any]]:
        found = [task for group in self.kept.values() for task in group.tasks()]
        return found if self._patrol is None else [*found, self._patrol]


class Registry:
    """The members of groups, and the other receivers, in one event loop."""

    def __init__(self) -> None:
        self._links: dict[BaseBroker, _Link] = {}
        self._fan_out = FanOut(asyncio.get_running_loop())

    def add(self, receiver: Receiver, place: Place) -> asyncio.Future[None] | None:
        """Have ``receiver`` take the messages of a channel, once however often it is added.

        Returns:
            ``None`` if it gets all that is published from now on. Otherwise a future that is done
            once it does, or has a ``BrokerError`` when the broker did not acknowledge that in time.
            It is wanted all the same: once the broker is there, ``catch_up()`` is called. Others
            may wait for the same future.

        Raises:
            ImproperlyConfigured: there is no such broker.
        """
        return self._link(place.broker).add(receiver, place.channel)

    async def join(
        self,
        member: Member,
        *places: Place,
        kept: Mapping[Place, GroupOptions] | None = None,
        later: Collection[Place] = (),
    ) -> dict[Place, KeptGroup]:
        """Add ``member``; once this returns it gets every message of all the groups.

        Of those in ``kept`` that remember, these are returned; in those that come ``later`` it gets
        nothing before it is let in with ``follow()`` and ``enter()``.

        All are asked for at once, so that it takes one round trip. Joining twice counts twice: each
        group that was joined wants its own ``leave()``. It does not suspend where the process is
        subscribed already, as always with the memory broker. Cancelled or failed, it leaves nothing
        behind.

        Raises:
            BrokerError: the broker did not acknowledge a subscription in time.
            ImproperlyConfigured: there is no such broker.
        """
        kept = kept or {}
        asked: list[tuple[_Link, str]] = []
        groups: dict[Place, KeptGroup] = {}
        to_come: list[asyncio.Future[None]] = []
        try:
            for place in places:
                link = self._link(place.broker)
                asked.append((link, place.channel))
                if (options := kept.get(place)) is not None:
                    groups[place] = link.hold(member, place.channel, options)
                    ready = link.subscriber.subscribe(place.channel)
                else:
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
            for group in groups.values():
                group.begin()
            for group in groups.values():
                await group.level()
            for place, group in groups.items():
                if place not in later:
                    group.enter(member)
            return groups
        except BaseException:
            for link, channel in asked:
                link.leave(member, channel)
            raise

    def leave(self, member: Member, place: Place) -> None:
        """Take back one ``join()``: nothing that is sent later is delivered. Never raises."""
        for link in self._links.values():
            if link.broker.alias == place.broker and link.leave(member, place.channel):
                return

    def _link(self, alias: str) -> _Link:
        broker = get_broker(alias)
        link = self._links.get(broker)
        if link is None:
            link = self._links[broker] = _Link(broker, self._fan_out)
        return link

    def close(self) -> list[asyncio.Task[Any]]:
        """Release everything. Return what is under way, and was cancelled."""
        tasks = [task for link in self._links.values() for task in link.tasks()]
        for task in tasks:
            task.cancel()
        self._links.clear()
        self._fan_out.close()
        return tasks


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
        tasks = registry.close()
        if tasks:
            await asyncio.wait(tasks)
    for broker in opened_brokers():
        await broker.aclose()
