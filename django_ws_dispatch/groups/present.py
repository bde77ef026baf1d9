"""Who is in a group that knows it, in one event loop: what it tells its broker, and what it hears.

Sockets come and go in batches: one call is under way at a time, and takes all that has changed. It
says how many sockets of each key there are *here*, not who came or went: to say it twice changes
nothing. What the broker makes of it comes to all processes as changes, from which each keeps its
own list (``mirror.py``). What may have got lost is told anew, by a tracker of another name.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from .. import lanes
from ..brokers import BaseBroker
from ..brokers.presence import GRACE, Changes, Tracked
from ..exceptions import BrokerError
from .fanout import FanOut
from .lingers import Lingers
from .messages import Message, Place
from .mirror import Mirror
from .options import GroupOptions
from .seats import News, Seat, Seats, fail, finish
from .turns import Turns
from .watch import TOLD_EVERY, Audience, Watcher

__all__ = ["PresentGroup"]

logger = logging.getLogger("django_ws_dispatch.groups")


class PresentGroup:
    """The receiver that keeps the list of a group, and says who is here in this event loop.

    Args:
        broker: knows of all processes.
        name: of its channel.
        options: as ``WEBSOCKET_GROUPS`` has them.
        on_end: called once nobody here needs it any more.
        fan_out: of the event loop.
        is_ending: whether the event loop ends, and no task may begin.
        turns: of the groups that may call the broker at once.
    """

    def __init__(
        self,
        broker: BaseBroker,
        name: str,
        options: GroupOptions,
        on_end: Callable[[], None],
        fan_out: FanOut,
        is_ending: Callable[[], bool] = bool,
        turns: Turns | None = None,
    ) -> None:
        self._broker = broker
        self._name = name
        self._listed = options.listed
        self._on_end = on_end
        self._is_ending = is_ending
        self._turns = turns or Turns()
        self._place: asyncio.Future[bool] | None = None  # among those who wait for a turn
        self._loop = asyncio.get_running_loop()
        self._tracker = secrets.token_hex(8)
        self._former: list[str] = []  # trackers that this one replaces, once it has told all
        self._seats = Seats()
        self._mirror = Mirror(options.presence)
        self.audience = Audience(self._mirror.view, fan_out, Place(name, broker.alias))
        self._known = False  # the broker has heard of this tracker
        self._away = False  # it was, and has not been told so
        self._heard = asyncio.Event()  # something on the channel
        self._beat = self._closed = False
        self._compares = False  # with what the broker has of this tracker
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []  # for the first list
        self._lingers = Lingers(options.linger, self.refresh)  # of those whose last socket was here
        self._held_until = 0.0  # nobody has left whom the broker does not name
        self._hold_timer: asyncio.TimerHandle | None = None

    # What the channel tells

    def receive(self, message: Message) -> None:
        """See ``Receiver``."""
        if message.changes is not None:
            self._mirror.apply(message.changes)
            self._heard.set()
            self._follow_mirror()

    def lose_touch(self) -> None:
        """The broker is away: others can not tell it that they are there either."""
        self._away = True

    def catch_up(self) -> None:
        """The broker was away, and is back: others may not have come back yet.

        It may have gone back to an older state, with other sockets of this process: all of them are
        told anew, by another name.
        """
        self._away = self._mirror.wants_list = True
        if self._known:
            self._say_all_anew()
        self._hold()
        self._wake()

    def refresh(self) -> None:
        """Say that this process is there still, and sweep those that are not."""
        self._beat = self._compares = True
        self._wake()

    def _say_all_anew(self) -> None:
        """Tell all sockets of this process by another name: of the one before nothing counts."""
        self._known = False
        self._former.append(self._tracker)
        self._tracker = secrets.token_hex(8)
        self._seats.say_again({})

    def _follow_mirror(self) -> None:
        if self._mirror.wants_list:
            self._wake()
        else:
            self.audience.tell()

    def _hold(self) -> None:
        self._held_until = self._loop.time() + GRACE
        if self._hold_timer is not None:
            self._hold_timer.cancel()
        self._hold_timer = self._loop.call_later(GRACE, self._let_go)

    def _let_go(self) -> None:
        self._hold_timer = None
        if self._mirror.let_go():
            self._follow_mirror()

    # Who comes and goes here

    def enter(self, seat: Seat) -> asyncio.Future[None]:
        """Have a socket be here. The future is done once the broker has it.

        It has a ``BrokerError`` if the broker does not take it in time; it is here all the same
        until it leaves.
        """
        seat.group = self
        done = self._seats.enter(seat)
        self._hurry()
        return done

    def update(self, seat: Seat, info: str) -> asyncio.Future[None]:
        """See ``Seat.update()``."""
        done = self._seats.update(seat, info)
        self._hurry()
        return done

    def leave(self, seat: Seat, *, lingers: bool) -> None:
        """See ``Seat.leave()``."""
        seat.group = None
        self._seats.leave(seat, lingers=lingers)
        self._wake()

    # Who watches

    async def watch(self, group: object, ready: asyncio.Future[None] | None = None) -> Watcher:
        """Return one who is told of who is here, and of what changes.

        Args:
            group: for messages.
            ready: is done once the channel is subscribed to.

        Raises:
            BrokerError: the broker does not answer in time.
        """
        with self._needed():  # Nobody else ends the group meanwhile.
            if ready is not None:
                # Others may wait for the same: unlike await this cancels nothing.
                await asyncio.wait([ready])
                ready.result()
        with self._needed() as waiting:
            if ready is not None or not self._known or not self._mirror.is_filled:
                self._mirror.wants_list = True  # what came in between was not heard
                self._hurry()
                await waiting
            return self.audience.add(group)

    @contextmanager
    def _needed(self) -> Iterator[asyncio.Future[None]]:
        waiting: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(waiting)
        try:
            yield waiting
        finally:
            self._waiting = [one for one in self._waiting if one is not waiting]
            self._wake()

    def unwatch(self, watcher: Watcher) -> None:
        """Tell it nothing more."""
        self.audience.remove(watcher)
        self._wake()

    # What the broker is told

    @property
    def _is_needed(self) -> bool:
        return bool(self._seats or self.audience or self._waiting or self._lingers)

    def _wake(self) -> None:
        if self._task is None and not self._closed and not self._is_ending():
            context = lanes.background().copy()  # the work of no socket
            self._task = self._loop.create_task(self._run(), context=context)
            self._task.add_done_callback(self._has_run)

    async def _run(self) -> None:
        try:
            # All that comes in one turn of the loop goes in one call.
            await asyncio.sleep(0)
            self._place = self._loop.create_future()
            if self._waiting or self._seats.is_awaited:
                self._hurry()
            async with self._turns.turn(self._place):
                await self._tell_broker()
        finally:
            self._task = self._place = None

    def _hurry(self) -> None:
        """Somebody waits for the broker, who may wait for it no longer than its time-out."""
        self._wake()
        if self._place is not None and not self._place.done():
            self._place.set_result(False)

    def _has_run(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        if (exc := task.exception()) is not None:
            logger.error("The broker could not be told who is in a group.", exc_info=exc)
        elif self._task is None and not self._is_needed and not self._seats.news:
            self.close()
            self._on_end()

    async def _tell_broker(self) -> None:
        while (
            self._seats.news
            or self._beat
            or (self._mirror.wants_list and self._is_needed)
            or self._former
            or (self._known and not self._is_needed)
        ):
            told = self._seats.take_news()
            try:
                changes = await self._call(told)
                if changes is not None and self._mirror.lacks(changes):
                    await self._catch_up_with(changes)
            except BaseException as exc:
                self._seats.take_back(told, exc)
                fail(self._waiting, exc)
                if not isinstance(exc, BrokerError):
                    raise
                logger.debug("Who is in a group waits for its broker: %s", exc)
                return  # until the broker is back, or it is time to say so again
            for news in told.values():
                finish(news.waiting)

    async def _catch_up_with(self, changes: Changes) -> None:
        """Wait for what an own change has overtaken: who has joined sees itself on the list."""
        try:
            async with asyncio.timeout(TOLD_EVERY):
                while self._mirror.lacks(changes):
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            self._mirror.wants_list = True

    async def _call(self, told: Mapping[str, News]) -> Changes | None:
        entries = [self._seats.entry(key, news) for key, news in told.items()]
        asks, away = self._mirror.wants_list, self._away
        ends = not self._is_needed and not self._seats.news
        former = self._former[0] if self._former else ""
        replaced = bool(former) and not self._seats.news
        tracker, compares = self._tracker, self._compares and not ends
        if asks:
            self._mirror.ask()
        self._beat = self._away = self._compares = False
        try:
            answer = await self._broker.atrack(
                self._name,
                tracker,
                entries,
                self._listed,
                roll=asks,
                away=away,
                ends=ends,
                replaces=former,
                replaced=replaced,
            )
        except BaseException:
            self._away = self._away or away
            self._mirror.wants_list = self._mirror.wants_list or asks
            raise
        self._former = [one for one in self._former if not (replaced and one == former)]
        if tracker != self._tracker:
            pass  # the broker was away meanwhile
        elif ends:
            self._known = False
            self._mirror.begin_anew()
        elif compares and not self._seats.news and answer.keys != len(self._seats):
            # A call has come late, or its answer never did.
            self._known = True
            self._say_all_anew()
        else:
            if self._known and not answer.known:
                # It was silent for too long, or the broker has forgotten everybody.
                self._seats.say_again(told)
            self._known = True
        self._beat = self._beat or answer.more
        if any(one.lingers and not one.sockets for one in entries):
            self._lingers.begin()
        self._take(answer)
        return answer.changes

    def _take(self, answer: Tracked) -> None:
        if answer.roll is not None:
            self._mirror.fill(answer.roll, hold=self._loop.time() < self._held_until)
            if self._mirror.has_lost:
                self._mirror.has_lost = False
                self._hold()
                self.audience.lose()
            finish(self._waiting)
        elif answer.changes is not None:
            self._mirror.apply(answer.changes, early=True)
        self._follow_mirror()

    # The end

    async def flush(self) -> None:
        """The event loop ends: tell what there is to tell. It never raises."""
        self._lingers.close()
        self._wake()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=self._broker.timeout)

    def tasks(self) -> list[asyncio.Task[None]]:
        """What is under way."""
        return [] if self._task is None else [self._task]

    def close(self) -> None:
        """Nobody is here any more."""
        self._closed = True
        self.audience.close()
        self._lingers.close()
        if self._hold_timer is not None:
            self._hold_timer.cancel()
