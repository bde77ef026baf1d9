"""One socket's conversation with the server (ASGI spec, "WebSocket"), for both handler forms.

Reading is in ``inbound.py``, writing in ``outbound.py``; here is how it ends, whoever brings it.
One disconnect is latched. The sweep (``connections.py``) reads the deadlines that an end sets.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable
from time import monotonic
from typing import Any

from .. import servers
from ..codes import CloseCode, cut_reason
from ..servers import CLOSE_GRACE  # that a close frame may wait behind a blocked transport
from ..typing import Event
from .reader import APART, AWAY, IDLE, READING, Inbound
from .whereabouts import place
from .writer import (
    BLOCKED,
    CLOSED,
    CLOSING,
    FREE,
    OPEN,
    SHUT,
    WebSocketState,
    logger,
)

__all__ = ["Connection"]

# Seconds that a handler may stay after its socket is over, or with its inbox full.
BUSY_GRACE = 10.0
STOP_GRACE = 5.0
# Seconds after its client has left in which a handler may go on to read what was sent before.
READ_ON_GRACE = 60.0
# Seconds in which the server has to wake a read after this side closed.
WAKE_GRACE = 1.0
# Seconds between two cancellations: a ``finally`` may await, a handler may swallow the first.
CANCEL_AGAIN = 5.0
# Seconds that a server which has given its client up may wait for it to read the rest.
GIVEN_UP_GRACE = 5.0


class Connection(Inbound):
    """The state machine of one socket. ``WebSocket`` adds what a handler sees."""

    __slots__ = ("_abort_at", "_cancel_at", "_code_known", "_left_at")

    _code_known: bool
    # deadlines, read by the sweep
    _cancel_at: float | None
    _abort_at: float | None
    _left_at: float | None  # when the client did
    _tries = 0  # how often the sweep has cancelled the handler, whatever came of it
    _tried_at = 0.0
    denied = False
    hurried = False  # somebody else has cancelled the handler: nothing waits for the client

    # The end, whoever brings it

    def _disconnected(self, code: int | None, reason: str | None) -> None:
        """Latch that the client or the server ended the conversation."""
        if not self._code_known:
            self.close_code = 1005 if code is None else code
            self.close_reason = reason or ""
            self._code_known = True
        elif self.ready_state is CLOSED:
            return
        closed_here = self.ready_state is CLOSING
        self._set_over(CLOSED)
        if self._outbox:
            self._drop_outbox()
        now = monotonic()
        stopping = self.close_code == CloseCode.RESTART
        if self._abort_at is None:
            self._abort_at = now + CLOSE_GRACE
        if not closed_here and not stopping and self._left_at is None:
            self._left_at = now
        self._cancel_at = now + (STOP_GRACE if stopping else BUSY_GRACE if self.attends else 0.0)

    def _lost(self) -> None:
        """A send failed: the client is gone. The true code may still be at the server."""
        # The task that reads ahead may not have been woken yet for what its server has.
        if self._phase != READING and self._waiter is None:
            self._drain()
        if self.ready_state is not CLOSED:
            known, reading = self._code_known, self._phase == READING
            self._disconnected(1006, "")
            self._code_known = known
            if reading:
                self._cancel_after(WAKE_GRACE)

    def _learn_code(self) -> None:
        """A send has found the client gone: the code may have come since then."""
        if self.ready_state is CLOSED and not self._code_known and self._phase != READING:
            self._drain()

    def _drain(self) -> None:
        """Take what the server already has, without waiting."""
        self._phase = APART
        while not self._code_known:
            awaitable = self._server_receive()
            if not inspect.iscoroutine(awaitable):
                return
            try:
                awaitable.send(None)
            except StopIteration as stop:
                message = self._take(stop.value)
                if message is not None and self.has_read:
                    self._store(message)
            except Exception:
                # It has no more to tell: some bear one reader only, and another one waits.
                return
            else:
                awaitable.close()
                return

    def _set_over(self, state: WebSocketState) -> None:
        self.ready_state = state
        self._phase = APART
        if self.wire != BLOCKED:
            self.wire = SHUT
        if self._waiter is not None:
            self._wake()

    def _came_back(self) -> None:
        """The handler has read on after its client left: it may finish with that message too."""
        if (
            self._left_at is not None
            and monotonic() - self._left_at < READ_ON_GRACE
            and not servers.is_stopping(self._own_send)
            and not servers.is_told_to_exit()
        ):
            self._cancel_after()

    def _cancel_after(self, grace: float | None = None) -> None:
        self._cancel_at = monotonic() + (BUSY_GRACE if grace is None else grace)

    def kick(self, code: int, reason: str = "") -> None:
        """Close it from elsewhere, behind what was sent before. The handler sees a disconnect.

        Never suspends and never raises. ``code`` may go on a wire; ``reason`` is cut.
        """
        if self.ready_state >= CLOSING:
            return
        reading = self._phase == READING
        self._shut(code, reason)
        stopping = code == CloseCode.RESTART
        busy = STOP_GRACE if stopping else BUSY_GRACE if self.attends else WAKE_GRACE
        self._cancel_after(WAKE_GRACE if reading else busy)

    def stop(self, *, gone: bool = False) -> asyncio.Task[Any] | None:
        """The server stops, and has dropped this if ``gone``. Return the handler's task."""
        if gone:
            reading = self._phase == READING
            self._disconnected(CloseCode.RESTART, "")
            if reading:
                self._cancel_after(0.0)
        else:
            if servers.is_forced_to_exit() and servers.unsent(self._own_send):
                servers.abort(self._own_send)
            self.kick(CloseCode.RESTART)
        return self._task

    @property
    def server_stops(self) -> bool:
        """Whether the server waits for this socket to end, and has not said so."""
        return servers.is_stopping(self._own_send) or servers.is_forced_to_exit()

    def _shut(self, code: int, reason: str) -> None:
        """Start to close: nothing is sent or received any more but the close frame."""
        self.close_code, self.close_reason = code, cut_reason(reason)
        self._code_known = True
        wire = self.wire
        self._set_over(CLOSING)
        if not self.accepted:
            return
        code = servers.closing_code(self._own_send, code)
        event: Event = {"type": "websocket.close", "code": code, "reason": self.close_reason}
        self._abort_at = monotonic() + CLOSE_GRACE
        # A handler's own send may be under way: it hands over when it comes back.
        self.wire = wire
        self._send_close(event)
        if self.wire == FREE:
            self.wire = SHUT

    def check(self, now: float, *, closely: bool = False) -> None:
        """Look after this socket: called by the sweep, a few times a second.

        Args:
            now: the monotonic time in seconds.
            closely: look at its transport as well, which few have a reason for each time.
        """
        if (closely or self.wire) and self.ready_state is OPEN:  # FREE is 0
            self._check_transport(now)
        phase = self._phase
        if phase == IDLE:
            self._phase = AWAY
        elif phase == AWAY:
            self._phase = APART
            self._start_ahead()
        elif phase == APART:
            self._check_apart(now)
        idle = self._limits.idle_timeout
        if (
            idle is not None
            and self._heard is not None
            and now - self._heard > idle
            and self.ready_state is OPEN
            and self._full_since is None  # it has said more than is being read
        ):
            self._exceeded(CloseCode.IDLE, "idle_timeout", "nothing heard")

    def _check_transport(self, now: float) -> None:
        """Abort what the server closes without end. Only the loss tells the handler, or a stop."""
        if not servers.is_closing(self._own_send):
            return
        if self._abort_at is None:
            self._abort_at = now + GIVEN_UP_GRACE
        elif now >= self._abort_at:
            servers.abort(self._own_send)

    def _check_apart(self, now: float) -> None:
        if self.ready_state >= CLOSING:
            if self._cancel_at is not None and now >= self._cancel_at and self._task is not None:
                self._cancel(self._task, now)
            if self._abort_at is not None and now >= self._abort_at and self._writer is not None:
                self._abort_at = None
                servers.abort(self._own_send)
        elif self._ahead is None and self._waiter is None and self._task is not None:
            if self._full_since is None:
                self._start_ahead()
            elif now - self._full_since > BUSY_GRACE:
                logger.warning(
                    "Closed %s with %d: its handler did not read for %d s, and %d messages wait.",
                    self.path,
                    CloseCode.SLOW_CLIENT,
                    BUSY_GRACE,
                    len(self._inbox or ()),
                    extra={"path": self.path, "status_code": int(CloseCode.SLOW_CLIENT)},
                )
                self.kick(CloseCode.SLOW_CLIENT, "overloaded")
                self._cancel_after(0.0)

    def _cancel(self, task: asyncio.Task[Any], now: float) -> None:
        """Cancel the handler, and say so where that has not helped before."""
        self._cancel_at = now + CANCEL_AGAIN
        self._cancels += 1
        self._tries += 1
        task.cancel()
        if self._tries == 1:
            self._tried_at = now
        elif not self._tries & (self._tries - 1):  # 2, 4, 8, ...: it may go on for days
            logger.log(
                logging.WARNING if self._tries == 2 else logging.ERROR,
                "The handler of %s goes on %.0f s after it was cancelled: it is at %s. Let "
                "CancelledError pass: the server can not stop before it has ended.",
                self.path,
                now - self._tried_at,
                place(task),
                extra={"path": self.path},
            )

    # Around the handler

    def runs_in(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether it is in this task that the handler runs."""
        return task is not None and self._task is task

    def end_handler(self) -> bool:
        """The handler has ended. Return whether somebody else than the sweep cancelled its task."""
        task, self._task = self._task, None
        if self._ahead is not None:
            self._ahead.cancel()
        if not self._code_known:
            self._learn_code()
        if task is None:
            return False
        for _ in range(self._cancels):
            task.uncancel()
        return task.cancelling() > 0

    @property
    def was_cancelled(self) -> bool:
        """Whether the sweep has cancelled the handler."""
        return self._cancels > 0

    async def see_out(self, first: Awaitable[None] | None = None) -> None:
        """Close if nobody has, and see the close frame or the denial out.

        Args:
            first: what comes before that.
        """
        if first is not None:
            await first
        if self.ready_state is OPEN:
            self._shut(CloseCode.DONE, "")
        ends = None if self.denied else self._abort_at or monotonic()
        if self.hurried:
            ends = monotonic()
        await servers.see_out(self._own_send, self._writer, ends=ends)
