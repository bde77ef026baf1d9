"""Who takes the messages of which channel, per event loop.

A member of a group is anything that satisfies ``Member``: a WebSocket, or somebody who reads a
group's messages in code.

A registry is for one loop; all that happens in it happens in that loop, so it has no locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from ..brokers import BaseBroker, get_broker, opened_brokers
from ..exceptions import BrokerError
from ..loops import PerLoop
from .fanout import FanOut, Member
from .kept import KeptGroup
from .link import Link, Receiver
from .messages import Place
from .options import GroupOptions
from .present import PresentGroup
from .seats import Seat
from .watch import Watcher

__all__ = ["Member", "Place", "Receiver", "Registry", "Stay", "aclose", "local"]

Stay: TypeAlias = tuple[Place | None, Seat | None]
"""One place of a socket: in a group, or among those who are here in one."""


class Registry:
    """The members of groups, and the other receivers, in one event loop."""

    def __init__(self) -> None:
        self._links: dict[BaseBroker, Link] = {}
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
        seats: Mapping[Place, tuple[Seat, GroupOptions]] | None = None,
    ) -> dict[Place, KeptGroup]:
        """Add ``member``; once this returns it gets every message of all the groups.

        Of those in ``kept`` that remember, these are returned; in those that come ``later`` it gets
        nothing before it is let in with ``follow()`` and ``enter()``. In those with a seat it is
        here once this returns, and until ``Seat.leave()``.

        All are asked for at once, so that it takes one round trip. Joining twice counts twice: each
        group that was joined wants its own ``leave()``. It does not suspend where the process is
        subscribed already, as always with the memory broker. Cancelled or failed, it leaves nothing
        behind.

        Raises:
            BrokerError: the broker did not acknowledge a subscription in time, or did not take who
                is here.
            ImproperlyConfigured: there is no such broker.
        """
        kept, seats = kept or {}, seats or {}
        asked: list[tuple[Link, str]] = []
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
            if not groups and not seats:
                return groups
            # All of it is under way at once.
            taken = [
                self._link(place.broker).attend(place.channel, options).enter(seat)
                for place, (seat, options) in seats.items()
            ]
            for group in groups.values():
                group.begin()
            for group in groups.values():
                await group.level()
            for place, each in zip(seats, taken, strict=True):
                await _taken(each, self._link(place.broker).broker)
            for place, group in groups.items():
                if place not in later:
                    group.enter(member)
            return groups
        except BaseException:
            for link, channel in asked:
                link.leave(member, channel)
            for seat, _ in seats.values():
                # The broker may have it, and a page whose socket lingers tries again.
                seat.leave(lingers=True)
            raise

    async def watch(
        self, place: Place, options: GroupOptions, group: object
    ) -> tuple[PresentGroup, Watcher]:
        """Return who is in a group, and one who is told of it until ``unwatch()``.

        Raises:
            BrokerError: the broker did not acknowledge the subscription, or answer, in time.
            ImproperlyConfigured: there is no such broker.
        """
        link = self._link(place.broker)
        ready = link.subscriber.subscribe(place.channel)
        if ready is not None:
            ready.add_done_callback(_mark_retrieved)
        present = link.attend(place.channel, options)
        return present, await present.watch(group, ready)

    def leave(self, member: Member, place: Place) -> None:
        """Take back one ``join()``: nothing that is sent later is delivered. Never raises."""
        for link in self._links.values():
            if link.broker.alias == place.broker and link.leave(member, place.channel):
                return

    def _link(self, alias: str) -> Link:
        broker = get_broker(alias)
        link = self._links.get(broker)
        if link is None:
            link = self._links[broker] = Link(broker, self._fan_out)
        return link

    def _present(self) -> list[PresentGroup]:
        return [group for link in self._links.values() for group in link.present.values()]

    async def flush(self) -> None:
        """Tell the brokers who has left, as far as they take it in time."""
        await asyncio.gather(*(group.flush() for group in self._present()))

    async def sweep(self) -> None:
        """Have the brokers told now what they are told in a while, and see who has left."""
        groups = self._present()
        for group in groups:
            group.refresh()
        while tasks := [task for group in groups for task in group.tasks()]:
            await asyncio.wait(tasks)

    def close(self) -> list[asyncio.Task[Any]]:
        """Release everything. Return what is under way, and was cancelled."""
        tasks = [task for link in self._links.values() for task in link.tasks()]
        for task in tasks:
            task.cancel()
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._fan_out.close()
        return tasks


async def _taken(done: asyncio.Future[None], broker: BaseBroker) -> None:
    try:
        async with asyncio.timeout(broker.timeout):
            await done
    except TimeoutError:
        raise BrokerError(
            f"The broker {broker.alias!r} did not take within {broker.timeout:g} s who is here."
        ) from None


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
        await registry.flush()
        tasks = registry.close()
        if tasks:
            await asyncio.wait(tasks)
    for broker in opened_brokers():
        await broker.aclose()
