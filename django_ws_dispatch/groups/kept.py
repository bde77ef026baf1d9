"""The members of a group that remembers, in one event loop: nothing is lost in silence.

It knows the position of the last message that its members have. A message whose position before it
is that one goes on to them. Any other tells of a hole, as does a broker that was away: what is
missing is read from the store (a *sync*), and goes on in order; what comes live meanwhile is only
noted, since the store has it as well. What the store has no more is a *gap*, of which all are told.

A member that begins further back follows by itself until it is level, and enters then, with nothing
awaited in between: nothing twice, nothing missing. The newest messages stay here for a while, so
that sockets that come back together share what was read once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from .. import lanes
from ..brokers import BaseBroker
from ..brokers.history import Page, Top, is_before
from ..codes import CloseCode
from ..exceptions import BrokerError
from ..loops import back_off
from .fanout import Channel, FanOut, Member
from .history import Pager, decode_entry
from .messages import BYTES, CLOSE, FORGOT, RESET, TEXT, Message
from .options import GroupOptions
from .tail import Tail

__all__ = ["KeptGroup"]

logger = logging.getLogger("django_ws_dispatch.groups")

# Seconds before the store is asked again, at first and at most.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.5

_T = TypeVar("_T")

Send = Callable[[Message], Awaitable[None]]


class KeptGroup:
    """The receiver that fans out to the members of a group with history.

    Args:
        broker: keeps it.
        name: of its channel.
        options: as ``WEBSOCKET_GROUPS`` has them.
        fan_out: of the event loop.
    """

    def __init__(
        self, broker: BaseBroker, name: str, options: GroupOptions, fan_out: FanOut
    ) -> None:
        self.channel = Channel()
        self.held: dict[Member, int] = {}
        """Who is about to enter, as often as it is: the group stays for them."""
        self.on_gap: dict[Callable[[], None], None] = {}
        """Whom to tell of a gap; an ordered set."""
        self.options = options
        self._broker = broker
        self._name = name
        self._fan_out = fan_out
        self._loop = asyncio.get_running_loop()
        self._last: Top | None = None  # None until the store was asked
        self._heard: str | None = None  # the newest that came while a sync is under way
        self._away = False  # the connection was lost since then: orders may have been missed
        self._sync: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._tail = Tail(options)
        self._reads: dict[str, asyncio.Task[Page]] = {}
        self._warned = False

    @property
    def position(self) -> str:
        """Of the last message that the members have, where the group is level."""
        return "" if self._last is None else self._last.position

    # What the channel tells

    def receive(self, message: Message) -> asyncio.Future[None] | None:
        """See ``Receiver``."""
        if message.kind == RESET:
            self.sync()
            return None
        if message.position is None:
            self._warn_of_plain()
            return self._fan_out.deliver(self.channel, message)
        if self._sync is not None or self._last is None:
            self._heard = message.position
            self.sync()
        elif message.previous == self._last.position:
            return self._go_on(message)
        elif is_before(self._last.position, message.position):
            self._heard = message.position
            self.sync()
        else:
            return None  # the store had it before it came
        # In one process the sender waits for it.
        return self._sync if self._broker.in_process else None

    def catch_up(self) -> None:
        """The broker was away, and is back."""
        self._away = True
        self.sync()

    def compare(self, top: Top | None) -> None:
        """Look whether the store is elsewhere than what came here: this process may be deaf."""
        if self._sync is not None or self._last is None:
            return
        if top is None:
            self.sync()
        elif top.position != self._last.position:
            self.catch_up()

    def _warn_of_plain(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "A message without a position came in a group of WEBSOCKET_GROUPS[%r]: another "
                "process has not the setting, or an earlier version. It was delivered, and is not "
                "kept. Logged once.",
                self.options.pattern,
            )

    def _go_on(self, message: Message) -> asyncio.Future[None] | None:
        """Deliver the next message, or do what it orders."""
        position = message.position
        if position is None or self._last is None:
            return None
        is_order = message.kind in (CLOSE, FORGOT)
        self._last = Top(position, self._last.orders + is_order)
        if message.kind == FORGOT:
            self._tail.clear()
            return None
        self._tail.add(message)
        return self._fan_out.deliver(self.channel, message)

    # Reading what is missing

    def sync(self) -> None:
        """Read what came behind the last message, as soon as the store can be asked."""
        self._wake.set()
        if self._sync is None:
            self._sync = self._make_task(self._run())
            self._sync.add_done_callback(self._synced)

    def _synced(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (exc := task.exception()) is not None:
            logger.error("A group could not be brought up to date.", exc_info=exc)

    async def _run(self) -> None:
        pauses = back_off(FIRST_PAUSE, LONGEST_PAUSE)
        try:
            while True:
                self._wake.clear()
                try:
                    await self._read_on()
                    return
                except BrokerError as exc:
                    logger.debug("A group waits for its broker: %s", exc)
                try:
                    async with asyncio.timeout(next(pauses)):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            self._sync = None

    async def _read_on(self) -> None:
        keep = self.options.keep
        if self._last is None:
            self._last = await self._broker.atop(self._name, keep)
        pager = Pager()
        while True:
            page = await self._broker.aread(
                self._name, self._last.position, keep, pager.count, heard=True
            )
            if not page.known:
                self._lose(page.top)
            for entry in page.entries:
                busy = self._go_on(decode_entry(entry))
                if busy is not None:
                    await busy
            heard = self._heard
            if not pager.is_over(page) or (heard and is_before(self._last.position, heard)):
                continue
            self._heard, self._away = None, False
            return

    def _lose(self, top: Top) -> None:
        """What came in between can not be had any more."""
        last, self._last = self._last, top
        self._tail.clear()
        if last is None:
            return
        missed_orders = top.orders != last.orders
        if _epoch(top.position) != _epoch(last.position):
            # Whoever has listened all the time has heard every order.
            missed_orders = self._away
        logger.warning(
            "The broker %r has not all messages any more of a group of WEBSOCKET_GROUPS[%r]; its "
            "sockets %s.",
            self._broker.alias,
            self.options.pattern,
            "are closed with 1012, since it may be an order to close" if missed_orders else "stay",
        )
        for tell in list(self.on_gap):
            tell()
        if missed_orders:
            for member in list(self.channel.members):
                member.kick(CloseCode.RESTART, "messages were lost")

    def begin(self) -> None:
        """The channel is subscribed to: find out where the group stands."""
        if self._last is None:
            self.sync()

    async def level(self) -> None:
        """Wait until the members have all that was sent when this was called.

        Raises:
            BrokerError: the store does not answer in time.
        """
        self.begin()
        try:
            async with asyncio.timeout(self._broker.timeout):
                while self._sync is not None:
                    await asyncio.wait([self._sync])
        except TimeoutError:
            raise BrokerError(
                f"The broker {self._broker.alias!r} did not say within "
                f"{self._broker.timeout:g} s what a group has missed."
            ) from None

    # Who joins

    async def latest(self, count: int, not_before: str | None) -> str:
        """Return the position behind which the ``count`` newest messages are, as far as kept."""
        keep, before, found = self.options.keep, None, 0
        position = self.position
        pager = Pager()
        while found < count:
            page = await self._broker.anewest(self._name, keep, pager.count, before)
            messages = [decode_entry(entry) for entry in page.entries]
            if before is None:
                position = messages[-1].position or "" if messages else page.top.position
                self._share(messages)
            for message in reversed(messages):
                if not_before is not None and not is_before(not_before, message.position or ""):
                    return position
                if message.kind == FORGOT or found == count:
                    return position
                found += message.kind in (TEXT, BYTES)
                position = before = message.previous or ""
                before = message.position
            if pager.is_over(page):
                break
        return position

    async def follow(self, position: str, send: Send, reader: str) -> Top | None:
        """Send one who joins what is behind a position, until it is level with the members.

        Nothing may be awaited between this and ``enter()``.

        Args:
            position: what it has; anything that a client may bring.
            send: sends one message, and waits where the client is slow.
            reader: its id: what excludes it is left out.

        Returns:
            ``None``, or where the store stands: the position is not known there any more.
        """
        pager = Pager()
        while True:
            await self.level()
            if position == self.position:
                return None
            messages = self._tail.behind(position)
            if messages is None:
                page = await self._read(position, pager.count)
                if not page.known:
                    return page.top
                messages = [decode_entry(entry) for entry in page.entries]
                pager.is_over(page)
                self._share(messages)
                if not messages:
                    self.sync()  # this process is behind its client
            for message in messages:
                if message.kind in (TEXT, BYTES) and (
                    message.exclude is None or message.exclude != reader
                ):
                    await send(message)
                position = message.position or ""

    async def _read(self, position: str, count: int) -> Page:
        """Read a page, together with all that want the same one now."""
        task = self._reads.get(position)
        if task is None:
            task = self._make_task(
                self._broker.aread(self._name, position, self.options.keep, count)
            )
            self._reads[position] = task
            task.add_done_callback(lambda _: self._reads.pop(position, None))
        await asyncio.wait([task])
        return task.result()

    def _share(self, messages: list[Message]) -> None:
        if self._sync is None:
            self._tail.prepend(messages, self.position)

    def hold(self, member: Member) -> None:
        """Keep the group for who is about to enter."""
        self.held[member] = self.held.get(member, 0) + 1

    def release(self, member: Member) -> bool:
        """Take back a ``hold()``; ``False`` if there was none."""
        if (count := self.held.pop(member, 0)) > 1:
            self.held[member] = count - 1
        return count > 0

    def enter(self, member: Member) -> None:
        """Be a member from here on: of what comes behind ``position``. It was held before."""
        if not self.release(member):
            return  # it has left meanwhile
        if member not in self.channel.members:
            self._fan_out.spare(self.channel, member)
        self.channel.members[member] = self.channel.members.get(member, 0) + 1

    # The end

    def _make_task(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Start what is the work of no socket, in nobody's context."""
        return self._loop.create_task(work, context=lanes.background().copy())

    def tasks(self) -> list[asyncio.Task[Any]]:
        """What is under way."""
        return [task for task in (self._sync, *self._reads.values()) if task is not None]

    def close(self) -> None:
        """Nobody is here any more."""
        for task in self.tasks():
            task.cancel()


def _epoch(position: str) -> str:
    return position.partition(".")[0]
