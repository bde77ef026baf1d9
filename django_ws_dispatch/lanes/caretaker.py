"""Looks after what is left to itself: idle threads and connections, and calls that get stuck."""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING

from .lane import Lane, Slot
from .waiting import Rank

if TYPE_CHECKING:
    from .pool import Pool

__all__ = ["Caretaker"]

logger = logging.getLogger("django_ws_dispatch.lanes")

# Seconds without work after which a socket in the middle of a message gives back a connection on
# which it has left something, if somebody waits for it.
SHORT_IDLE_SECONDS = 0.25
# The same if nobody does. And after so long one that never reads loses its thread.
HOLD_IDLE_SECONDS = 10.0
# Seconds for which a thread waits, after a read, for the next message of its socket.
LINGER_SECONDS = 0.25
# Seconds after the last call in a slot at which its connections are looked after.
CHECK_AFTER_SECONDS = 1.0
# Seconds for which no call has come to its end: then what is urgent gets a slot of its own.
STALLED_SECONDS = 0.5
# Seconds between two looks, while there is something to look after.
TICK_SECONDS = 0.1


class Caretaker(threading.Thread):
    """Looks after one pool, which starts it; ends when there is nothing to look after."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(name="websocket-lanes", daemon=True)
        self._pool = pool
        self.hurried = threading.Event()  # somebody waits for the end

    def run(self) -> None:
        while True:
            self.hurried.wait(TICK_SECONDS)
            self.hurried.clear()
            try:
                if self._look():
                    return
            except Exception:  # or nobody would look after them any more
                logger.exception("Looking after the sync work of the websockets failed.")

    def _look(self) -> bool:
        """Look after everything once; return whether there is nothing left to look after."""
        pool = self._pool
        with pool.lock:
            now = monotonic()
            for lane in list(pool.idle):
                self._look_at(lane, now)
            for slot in pool.slots:
                pool.fill(slot)
            self._let_through(now)
            due = [slot for slot in pool.slots if self._is_due(slot, now)]
            for slot in due:
                slot.checked = True  # nobody works there until that is over
            if not pool.lanes and all(slot.rested for slot in pool.slots):
                pool.caretaker = None
                return True
        for slot in due:
            # A thread for it: that takes as long as the database takes to answer.
            thread = threading.Thread(
                target=self._check, args=(slot,), name="websocket-lanes-check", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # no more are to be had now
                slot.checked = False
        return False

    def _look_at(self, lane: Lane, now: float) -> None:
        pool, holder, idle = self._pool, lane.holder, now - lane.idle_since
        if lane.left.cursor and not pool.has_cursor(lane):
            lane.left = lane.left._replace(cursor=False)
            if lane.leaving and pool.leave(lane):
                return
        if holder.lane is not lane:  # it has read
            over = pool.retired or holder.lane_ended or idle >= LINGER_SECONDS
        else:
            over = idle >= HOLD_IDLE_SECONDS and not (holder.is_between_reads or lane.left.cursor)
        slot = lane.slot
        if over:
            pool.end(lane)
        elif slot.owner is lane and slot.is_idle:
            others = pool.waiting or any(one is not lane for one in slot.wanted)
            keeps = lane.left.transaction or lane.left.cursor
            if pool.is_private:
                if not others:
                    return
                keeps = keeps or lane.left.state  # there is no context that would set it again
            short = others and not keeps
            if idle >= (SHORT_IDLE_SECONDS if short else HOLD_IDLE_SECONDS):
                pool.take_away(lane)

    def _let_through(self, now: float) -> None:
        """Let what is urgent run beside calls that do not come to their end."""
        pool = self._pool
        stalled = all(
            now - slot.since >= STALLED_SECONDS and not slot.is_free_for(None)
            for slot in pool.slots
        )
        # What is private would lose what it has left there.
        if stalled and pool.extra.is_idle and not pool.is_private:
            lane = pool.waiting.take(Rank.URGENT)
            if lane is not None:
                pool.grant(lane, pool.extra)

    def _is_due(self, slot: Slot, now: float) -> bool:
        if slot.rested or not slot.is_free_for(None) or slot.databases.has_open_cursors():
            return False
        return self._pool.retired or now - slot.since >= CHECK_AFTER_SECONDS

    def _check(self, slot: Slot) -> None:
        try:
            if self._pool.retired:
                slot.databases.close()
            else:
                slot.databases.look_after()
        except Exception:
            logger.exception("Looking after the database connections of the websockets failed.")
        self._pool.checked(slot)
