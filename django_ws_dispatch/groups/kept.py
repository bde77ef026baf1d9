"""The members of a group that remembers, in one event loop: nothing is lost in silence.

It knows the position of the last message that its members have. A message whose position before it
is that one goes on to them. Any other tells of a hole, as does a broker that was away: what is
missing is read from the store (a *sync*), and goes on in order; what comes live meanwhile waits for
that, as far as there is room: the store has it as well. What the store has no more is a *gap*, of
which all are told.

A member that begins further back follows by itself until it is level, and enters then, with nothing
awaited in between: nothing twice, nothing missing. The newest messages stay here for a while, so
that sockets that come back together share what was read once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from .. import lanes
from ..brokers import BaseBroker
from ..brokers.history import Page, Top, is_before
from ..codes import CloseCode
from ..exceptions import BrokerError
from ..loops import back_off
from .fanout import Channel, FanOut, Member
from .history import Pager, decode_entry, lacks
from .messages import CLOSE, FORGOT, GAP, PRESENCE, RESET, Message, Place
from .options import GroupOptions
from .tail import Tail

__all__ = ["KeptGroup"]

logger = logging.getLogger("django_ws_dispatch.groups")

# Seconds before the store is asked again, at first and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
# Seconds between two lines about losses in groups of one pattern: there may be thousands.
WARNED_EVERY = 60.0
_warned_at: dict[tuple[str, str, bool], float] = {}

_T = TypeVar("_T")


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
        self.broker = broker
        self.name = name
        self._place = Place(name, broker.alias)
        self._fan_out = fan_out
        self._loop = asyncio.get_running_loop()
        self._last: Top | None = None  # None until the store was asked
        self._heard: str | None = None  # the newest that came while a sync is under way
        self._ends: list[str] = []  # heard before that, each the end of a chain that broke off
        self._touch = True  # the broker is not away, as far as is known
        self._away = False  # it was since the last message: orders may have been missed
        self._again = False  # what is read now may have been read too early
        self._sync: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._early = Tail(options)  # what came meanwhile, as much as a page: it goes on there
        self.tail = Tail(options)
        self.reads: dict[str, asyncio.Task[Page]] = {}
        self._warned = False

    @property
    def position(self) -> str:
        """Of the last message that the members have, where the group is level."""
        return "" if self._last is None else self._last.position

    # What the channel tells

    def receive(self, message: Message) -> asyncio.Future[None] | None:
        """See ``Receiver``."""
        if message.kind == RESET:
            self.sync(again=True)
            return None
        if message.kind == PRESENCE:
            return None
        if message.position is None:
            self._warn_of_plain()
            message.place = self._place
            return self._fan_out.deliver(self.channel, message)
        if self._sync is not None or self._last is None:
            if message.previous != self._heard:
                self._early.clear()
                if self._heard is not None:
                    self._ends.append(self._heard)  # the store may have gone back in between
            self._early.add(message)
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
        if self._sync is None or not self.broker.in_process:
            return None
        return asyncio.shield(self._sync)  # a sender that is cancelled must not end it

    def lose_touch(self) -> None:
        """The broker is away: until it is back an order may be missed."""
        self._touch = False

    def catch_up(self) -> None:
        """The broker was away, and is back."""
        self._touch, self._away = True, True
        self.sync(again=True)

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
            self.tail.clear()
            return None
        message.place = self._place
        self.tail.add(message)
        return self._fan_out.deliver(self.channel, message)

    # Reading what is missing

    def sync(self, *, again: bool = False) -> None:
        """Read what came behind the last message, as soon as the store can be asked.

        Args:
            again: what is being read does not do.
        """
        self._again = self._again or again
        self._wake.set()
        if self._sync is None:
            self._sync = self.make_task(self._run())
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
            self._last = await self.broker.atop(self.name, keep)
            if self._heard is None and not self._again:
                return  # nothing came meanwhile
        pager = Pager()
        while True:
            self._again, heard = False, self._heard
            last, ends = self._last.position, self._ends[:]
            if heard is not None:
                ends.append(heard)
            page = await self.broker.aread(
                self.name, self._last.position, keep, pager.count, heard=True
            )
            lacking = next((one for one in ends if lacks(page, last, one)), None)
            if page.known and lacking is not None:
                # It went back in time behind what was heard, and nobody else may know.
                page = await self.broker.aread(self.name, lacking, keep, 1, heard=True)
                page = Page([], page.top, known=False)
                self._away = True  # what was heard may have been an order
            if not page.known:
                self._lose(page.top)
                self._ends = [one for one in self._ends if one not in ends]
                if self._heard == heard:
                    self._heard = None
            await self._go_through(decode_entry(entry) for entry in page.entries)
            # Else there would be no end of reading, where messages come all the time.
            await self._go_through(self._early.behind(self._last.position) or ())
            heard = self._heard
            self._ends = [one for one in self._ends if is_before(self._last.position, one)]
            if (
                not pager.is_over(page)
                or self._again
                or self._ends
                or (heard and is_before(self._last.position, heard))
            ):
                continue
            self._heard, self._away = None, False
            self._early.clear()
            return

    async def _go_through(self, messages: Iterable[Message]) -> None:
        for message in messages:
            busy = self._go_on(message)
            if busy is not None:
                await busy

    def _lose(self, top: Top) -> None:
        """What came in between can not be had any more."""
        last, self._last = self._last, top
        self.tail.clear()
        self._early.clear()
        if last is None:
            return
        missed_orders = top.orders != last.orders
        if _epoch(top.position) != _epoch(last.position):
            # Whoever has listened all the time has heard every order.
            # What the new epoch has up to here is not carried out any more.
            missed_orders = self._away or not self._touch or top.orders > 0
        self._warn_of_loss(missed_orders)
        for tell in list(self.on_gap):
            tell()
        gap = Message(GAP, {}, 0, None, position=top.position, place=self._place)
        self._fan_out.deliver(self.channel, gap)
        if missed_orders:
            for member in list(self.channel.members):
                member.kick(CloseCode.RESTART, "messages were lost")

    def _warn_of_loss(self, missed_orders: bool) -> None:
        about, now = (self.broker.alias, self.options.pattern, missed_orders), self._loop.time()
        if _warned_at.get(about, -WARNED_EVERY) + WARNED_EVERY > now:
            return
        _warned_at[about] = now
        logger.warning(
            "The broker %r has not all messages any more of a group of WEBSOCKET_GROUPS[%r]; its "
            "sockets %s. Others of them may have lost some, too: logged once a minute.",
            *about[:2],
            "are closed with 1012, since it may be an order to close" if missed_orders else "stay",
        )

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
            async with asyncio.timeout(self.broker.timeout):
                while self._sync is not None:
                    await asyncio.wait([self._sync])
        except TimeoutError:
            raise BrokerError(
                f"The broker {self.broker.alias!r} did not say within "
                f"{self.broker.timeout:g} s what a group has missed."
            ) from None

    # Who joins

    def share(self, messages: list[Message]) -> None:
        """Remember what was read for one who joins."""
        if self._sync is None:
            self.tail.prepend(messages, self.position)

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

    def make_task(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Start what is the work of no socket, in nobody's context."""
        return self._loop.create_task(work, context=lanes.background().copy())

    def tasks(self) -> list[asyncio.Task[Any]]:
        """What is under way."""
        return [task for task in (self._sync, *self.reads.values()) if task is not None]

    def close(self) -> None:
        """Nobody is here any more."""
        for task in self.tasks():
            task.cancel()


def _epoch(position: str) -> str:
    return position.partition(".")[0]
