"""The pool of slots in which the calls of all lanes run.

::

    call of a socket --> its Lane: a thread of its own, until its next read
                             |  waits for
                             v
                         a Slot, of WEBSOCKET_SYNC_THREADS: one call at a time, and connections

A thread serves one socket and ends with it, so that whatever is kept for a thread is kept for one
socket. Connections cost too much for that. They go on to the next socket, but where something was
left on them (``databases.py``).
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import TypeVar

from . import caretaker
from .databases import NOTHING, Left
from .lane import Holder, Lane, Slot
from .waiting import Answer, Rank, Waiting

__all__ = ["Pool"]

logger = logging.getLogger("django_ws_dispatch.lanes")

# Threads, for each slot, that may wait in the middle of a message for their sockets' next call.
IDLE_THREADS = 16

_R = TypeVar("_R")


class _Lock:
    """That of a pool. Who was granted a turn is woken once it is given up, and not before: that may
    take a new thread, and to start one waits for it.
    """

    def __init__(self) -> None:
        self.granted: list[Lane] = []
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        granted, self.granted = self.granted, []
        self._lock.release()
        for lane in granted:
            lane.run_call()


class Pool:
    """A number of slots, and the lanes whose calls run in them.

    Its public methods may be called in any thread. What the caretaker sees of it belongs to whoever
    has ``lock``, in which nothing waits.

    Args:
        slots: how many calls may run at once.
        private: a lane has its slot to itself until it ends, or has been idle for a while and
            others wait. Its connections are closed then.
    """

    def __init__(self, slots: int, *, private: bool = False) -> None:
        self.is_private = private
        self.lock = _Lock()
        self.slots = [Slot(number) for number in range(slots)]
        self.extra = Slot(slots)  # its connections are closed after each call
        self.lanes: dict[Lane, None] = {}
        self.waiting: Waiting[Lane] = Waiting(self._ask)
        self.idle: dict[Lane, None] = {}  # the longest idle comes first
        self.retired = False
        self.caretaker: caretaker.Caretaker | None = None
        self._lingering: dict[Holder, Lane] = {}  # of the idle ones: after a read

    def submit(self, holder: Holder, call: Callable[[], _R]) -> Future[_R] | None:
        """Run ``call`` in the thread of a holder, behind its calls that came before.

        Return ``None`` if it is not here that the holder has a lane, or is to have one.
        """
        future: Future[_R] = Future()
        with self.lock:
            lane = holder.lane
            if lane is None and not self.retired:
                lane = holder.lane = self._lingering.pop(holder, None) or Lane(self, holder)
                self.lanes[lane] = None
            if lane is None or lane.pool is not self:
                return None
            lane.leaving = holder.lane_ended
            lane.calls.append((future, call))
            lane.pending += 1
            self._want(lane)
        return future

    def release(self, lane: Lane) -> None:
        """The socket reads, or its handler has ended: its lane is over, as soon as it is idle.

        While the handler runs not before its transaction, or the cursor that it may read on from.
        """
        with self.lock:
            if lane not in self.lanes:
                return  # it was over a moment ago
            lane.leaving = True
            if not lane.pending:
                self.leave(lane)

    def retire(self) -> None:
        """End with the last lane."""
        with self.lock:
            self.retired = True
            for slot in self.slots:
                slot.rested = False
            self._look_after_soon()
            self._hurry()

    # Called by the threads of lanes, and of the caretaker

    def done(self, lane: Lane, left: Left | None) -> None:
        """A call of the lane's is over. ``left``: what it has left, ``None`` if it did not run."""
        with self.lock:
            slot = lane.slot
            lane.pending -= 1
            slot.lane, slot.since, slot.rested = None, monotonic(), False
            if left is not None:
                lane.left = left
                slot.owner = lane if left.state or self.is_private else None
            if lane.pending:
                self._want(lane, behind_others=True)
            else:
                self._rest(lane)
            self.fill(slot)

    def given_back(self, lane: Lane) -> None:
        """The lane has closed the connections on which it had left something."""
        with self.lock:
            slot = lane.slot
            lane.left = NOTHING
            slot.owner = slot.lane = None
            slot.rested = slot.rested or self.is_private  # all is closed
            self.fill(slot)
            if lane.pending:
                self._want(lane)
            elif lane.leaving and lane in self.lanes:
                self.leave(lane)

    def checked(self, slot: Slot) -> None:
        with self.lock:
            slot.checked, slot.rested = False, True
            self._hurry()
            self.fill(slot)

    # Under the lock

    def grant(self, lane: Lane, slot: Slot) -> None:
        slot.lane, slot.since = lane, monotonic()
        lane.slot, lane.user, lane.waits = slot, lane.holder.lane_user, False
        self.lock.granted.append(lane)

    def leave(self, lane: Lane) -> bool:
        """An idle lane is left by its socket. Return whether it is over."""
        if not lane.holder.lane_ended:
            if lane.left.transaction or self.has_cursor(lane):
                return False
            # To wake a thread costs less than to start one. But at rest there are, with the
            # caretaker, no more of them than slots.
            few = len(self.lanes) < len(self.slots)
            if few and not (lane.left.state or self.retired or self.is_private):
                lane.holder.lane = None
                self._lingering[lane.holder] = lane
                return False
        self.end(lane)
        return True

    def end(self, lane: Lane) -> None:
        if self._lingering.pop(lane.holder, None) is not lane:
            lane.holder.lane = None
        lane.token.is_over = True
        self.idle.pop(lane, None)
        self.lanes.pop(lane, None)
        self._hurry()
        if lane.thread is not None:
            if lane.slot.owner is lane and lane.slot.lane is not lane:
                self.take_away(lane)  # or that is under way
            lane.steps.put(None)

    def take_away(self, lane: Lane) -> None:
        """Have an idle lane close the connections on which it has left something."""
        # A page's own is rolled back at its end without a word.
        if lane.left.transaction and not (self.is_private and lane.holder.lane_ended):
            logger.warning(
                "Rolled back a transaction that %s had left open. A transaction belongs into one "
                "call of sync_to_async().",
                lane.holder.path,
                extra={"path": lane.holder.path},
            )
        lane.slot.lane = lane
        lane.steps.put(lane.give_back)

    def has_cursor(self, lane: Lane) -> bool:
        """Whether the lane has left a cursor that is still open."""
        return lane.left.cursor and lane.slot.databases.has_open_cursors(lane.token)

    def _want(self, lane: Lane, *, behind_others: bool = False) -> None:
        """The lane has a call to run: let it, or have it wait."""
        self.idle.pop(lane, None)
        self._look_after_soon()
        slot = lane.slot
        if lane.waits or slot.lane is lane or not self._has_calls(lane):
            return
        free: Slot | None
        if is_bound := slot.owner is lane or self.has_cursor(lane):
            takes_turns = behind_others and slot.owner is None and (slot.wanted or self.waiting)
            free = slot if slot.is_free_for(lane) and not takes_turns else None
        else:
            free = None if behind_others and self.waiting else self._free_slot(lane)
        if free is not None:
            self.grant(lane, free)
            return
        lane.waits = True
        if is_bound:
            slot.wanted.append(lane)
        else:
            rank = Rank.NEW if lane.thread is None else Rank.GOING_ON
            urgent = lane.holder.lane_urgent
            self.waiting.put(lane, Rank.URGENT if urgent else rank, lane.holder.lane_client)
            self._look_after_soon()

    def _free_slot(self, lane: Lane) -> Slot | None:
        free = [slot for slot in self.slots if slot.is_free_for(None)]
        if not free or self._ask(lane) in (Answer.NOT_NOW, Answer.NOBODY):
            return None
        if lane.slot in free:
            return lane.slot
        # One that nobody reads from, and that needs no new connection.
        return min(free, key=lambda slot: (slot.databases.has_open_cursors(), -slot.since))

    def _ask(self, lane: Lane) -> Answer:
        if not self._has_calls(lane):
            return Answer.GONE
        if lane.thread is None and not lane.holder.lane_urgent and self._is_crowded():
            return Answer.NOBODY
        if lane.holder.lane_user is not None and len(self.slots) > 1:
            taken_by = [slot.lane or slot.owner for slot in self.slots]
            users = [one.user for one in taken_by if one is not None]
            if users.count(lane.holder.lane_user) >= len(self.slots) - 1:
                return Answer.NOT_NOW
        return Answer.LEFT if lane.holder.is_over else Answer.YES

    def _has_calls(self, lane: Lane) -> bool:
        """Forget calls that were cancelled; return whether there are others."""
        while lane.calls and lane.calls[0][0].cancelled():
            lane.calls.popleft()
            lane.pending -= 1
        if not lane.calls:
            lane.waits = False
            self._rest(lane)
        return bool(lane.calls)

    def fill(self, slot: Slot) -> None:
        if not slot.is_idle:
            return
        slot.wanted_first = not slot.wanted_first
        wanted = next(filter(slot.is_free_for, slot.wanted), None)
        lane = wanted if slot.wanted_first else None
        if lane is None and slot.owner is None and slot is not self.extra:
            lane = self.waiting.take()
        lane = lane or wanted
        if lane is not None:
            if lane is wanted:
                slot.wanted.remove(lane)
            self.grant(lane, slot)

    def _rest(self, lane: Lane) -> None:
        lane.idle_since = monotonic()
        if not (lane.leaving and self.leave(lane)):
            self.idle[lane] = None

    def _is_crowded(self) -> bool:
        """Whether so many threads wait for the next call of their sockets that no more may begin.

        One that has waited for a while is ended. It may have something in a ``threading.local``, so
        that for a short while it is the others who wait. Those that can not be ended do not count:
        nobody shall wait for somebody's cursor.
        """
        most = IDLE_THREADS * len(self.slots)
        if len(self.idle) - len(self._lingering) < most:
            return False
        waiting = [
            lane
            for lane in self.idle
            if lane.holder.lane is lane and not (lane.left.state or lane.left.cursor)
        ]
        if len(waiting) < most:
            return False
        if monotonic() - waiting[0].idle_since < caretaker.SHORT_IDLE_SECONDS:
            return True
        self.end(waiting[0])
        return False

    def _hurry(self) -> None:
        if self.retired and self.caretaker is not None:
            self.caretaker.hurried.set()

    def _look_after_soon(self) -> None:
        if self.caretaker is None and not (self.is_private and not self.waiting):
            thread = caretaker.Caretaker(self)
            # No more threads are to be had: the next call tries again.
            with contextlib.suppress(RuntimeError):
                contextvars.Context().run(thread.start)
                self.caretaker = thread
