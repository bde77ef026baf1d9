"""One broker as one event loop uses it: its subscriber, and who receives which channel.

A channel has receivers. The members of a group are one; what keeps a group that remembers, or knows
who is here, is one; what the processes of a site tell each other has another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Mapping
from functools import partial
from typing import Any, Protocol

from .. import lanes
from ..brokers import BaseBroker
from .fanout import Channel, FanOut, Member
from .kept import KeptGroup
from .messages import OF_GROUPS_WITH_OPTIONS, LaterVersion, Message, Place, decode
from .options import GroupOptions
from .patrol import beat, patrol
from .present import PresentGroup
from .turns import Turns

__all__ = ["Link", "Receiver"]

logger = logging.getLogger("django_ws_dispatch.groups")

# What is remembered of what the log has told of a broker's messages.
MOST_TOLD = 1000
# Groups that tell a broker at once who is here.
MAX_CALLS = 8


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

    __slots__ = ("_deliver", "_place", "channel")

    def __init__(self, fan_out: FanOut, place: Place) -> None:
        self.channel = Channel()
        self._place = place
        self._deliver = partial(fan_out.deliver, self.channel)

    def receive(self, message: Message) -> asyncio.Future[None] | None:
        if message.kind in OF_GROUPS_WITH_OPTIONS:
            return None  # another process has the setting already
        message.place = self._place
        return self._deliver(message)

    def catch_up(self) -> None:
        """What was lost is lost."""


class Link:
    """One broker as this loop uses it: its subscriber, and who receives here."""

    def __init__(self, broker: BaseBroker, fan_out: FanOut) -> None:
        self.broker = broker
        # By channel. Tuples, since a receiver may come or go while all of them are called.
        self.receivers: dict[str, tuple[Receiver, ...]] = {}
        self.groups: dict[str, _Group | KeptGroup] = {}
        self.kept: dict[str, KeptGroup] = {}
        self.present: dict[str, PresentGroup] = {}
        self.subscriber = broker.subscriber(self)
        self._fan_out = fan_out
        self._told: set[str] = set()
        # What looks after those two now and then, as long as there are any.
        self._patrol: asyncio.Task[None] | None = None
        self._beat: asyncio.Task[None] | None = None
        # There may be thousands of groups: who waits for a connection is timed by its broker.
        self._turns = Turns(MAX_CALLS)

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

    def on_lost(self, channels: Collection[str] | None = None) -> None:
        groups: tuple[Mapping[str, KeptGroup | PresentGroup], ...] = (self.kept, self.present)
        for held in groups:
            for name in held if channels is None else held.keys() & channels:
                held[name].lose_touch()

    def on_reconnect(self, channels: Collection[str] | None = None) -> None:
        for name in list(self.receivers if channels is None else channels):
            for receiver in self.receivers.get(name, ()):
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
                self._patrol = _make_task(patrol(self.broker, self.kept))
        group.hold(member)
        return group

    def attend(self, name: str, options: GroupOptions) -> PresentGroup:
        """Return who is in a group that knows it. It stays as long as it is needed.

        The channel has to be subscribed to already, or right after this.
        """
        group = self.present.get(name)
        if group is None:
            end = partial(self._end_presence, name)
            group = PresentGroup(
                self.broker, name, options, end, self._fan_out, self._is_ending, self._turns
            )
            self.present[name] = group
            self.receivers[name] = (*self.receivers.get(name, ()), group)
            if self._beat is None:
                self._beat = _make_task(beat(self.present))
        return group

    def _is_ending(self) -> bool:
        # All tasks are cancelled before any of them goes on.
        return self._beat is not None and self._beat.cancelling() > 0

    def _end_presence(self, name: str) -> None:
        self.remove(self.present.pop(name), name)
        if not self.present and self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def join(self, member: Member, name: str) -> asyncio.Future[None] | None:
        group = self.groups.get(name)
        if group is None:
            place = Place(name, self.broker.alias)
            group = self.groups[name] = _Group(self._fan_out, place)
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
        found: list[asyncio.Task[Any]] = [
            *(task for group in self.kept.values() for task in group.tasks()),
            *(task for group in self.present.values() for task in group.tasks()),
        ]
        return found + [task for task in (self._patrol, self._beat) if task is not None]

    def close(self) -> None:
        """Release what is no task."""
        for group in self.present.values():
            group.close()


def _make_task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work, context=lanes.background().copy())
