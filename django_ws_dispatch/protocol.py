"""One socket's conversation with the server (ASGI spec, "WebSocket"), for both handler forms.

While a handler reads, its read *is* the server's ``receive()``. The sweep (``connections.py``)
finds the sockets whose handler does something else and reads ahead for them, so that a disconnect
is seen and pongs are parsed. One disconnect is latched. Writing is in ``outbound.py``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from time import monotonic
from typing import Any, Final

from . import lanes, servers
from .codes import CloseCode, cut_reason
from .limits import Limits, TokenBucket, text_size
from .outbound import (
    BLOCKED,
    CLOSED,
    CLOSING,
    CONNECTING,
    FREE,
    OPEN,
    SHUT,
    Outbound,
    WebSocketState,
    logger,
)
from .typing import Event, Receive, Scope, Send

__all__ = ["Connection"]

INBOX_MESSAGES = 64
# Seconds that a handler may stay after its socket is over, or with its inbox full.
BUSY_GRACE = 10.0
STOP_GRACE = 5.0
# Seconds in which the server has to wake a read after this side closed.
WAKE_GRACE = 1.0
# Seconds between two cancellations: a ``finally`` may await, a handler may swallow the first.
CANCEL_AGAIN = 5.0
# Seconds that a close frame may wait behind a blocked transport.
CLOSE_GRACE = 10.0
# Seconds between two looks at what a client has not taken yet, after its handler's end.
UNSENT_INTERVAL = 0.1

# What the handler does about reading. Up to AWAY, the next read may go straight to the server.
IDLE: Final = 0  # something else
AWAY: Final = 1  # something else, as when the sweep last looked
READING: Final = 2  # waits in the server's receive()
APART: Final = 3  # not accepted yet, being read ahead, or over: the slow path knows


def _size(message: str | bytes) -> int:
    return text_size(message) if isinstance(message, str) else len(message)


class Connection(Outbound):
    """The state machine of one socket. ``WebSocket`` adds what a handler sees."""

    __slots__ = (
        "_abort_at",
        "_ahead",
        "_bucket",
        "_cancel_at",
        "_cancels",
        "_code_known",
        "_discarded",
        "_full_since",
        "_heard",
        "_inbox",
        "_inbox_size",
        "_phase",
        "_server_receive",
        "_size_unchecked",
        "_task",
        "_waiter",
        "attends",
        "has_read",
        "lane",
        "lane_ended",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        super().__init__(scope, send, limits)
        self._code_known = False
        self._server_receive = receive
        self._task: asyncio.Task[Any] | None = None
        # reading
        self._phase: int = APART
        self.has_read = False
        self.attends = False  # it has been told, or will be, of the disconnect
        self._ahead: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._inbox: deque[str | bytes] | None = None
        self._inbox_size = 0
        self._full_since: float | None = None
        self._discarded = 0
        # how often the sweep cancelled the handler, and the deadlines it reads
        self._cancels = 0
        self._cancel_at: float | None = None
        self._abort_at: float | None = None
        # sync work
        self.lane: lanes.Lane | None = None
        self.lane_ended = False
        # limits
        self._bucket: TokenBucket | None = None
        self._heard: float | None = None
        if limits.rate is None and limits.idle_timeout is None:
            # No character takes more than four bytes: so long a message needs no closer look.
            self._size_unchecked = limits.max_message_size // 4
        else:
            self._size_unchecked = -1
            self._heard = monotonic()
            if limits.rate is not None:
                self._bucket = TokenBucket(limits.rate)

    # Reading

    async def _read(self, over: type[Exception] = StopAsyncIteration) -> str | bytes:
        """Return the next message; raise ``over`` once there is none."""
        if self._phase > AWAY or self.lane is not None:
            # The first read of most handlers accepts, and is a plain one then.
            if self.ready_state is not CONNECTING or self.lane is not None:
                return await self._read_slowly(over)
            await self.accept()
            if self.has_read or self._ahead is not None or self.ready_state is not OPEN:
                return await self._read_slowly(over)
            self.has_read = self.attends = True
        self._phase = READING
        try:
            event = await self._server_receive()
        except asyncio.CancelledError:
            if not self._only_woken():
                raise
            raise self._over(over) from None
        finally:
            if self._phase == READING:
                self._phase = IDLE
        message: str | bytes | None = event["text"] if "text" in event else event.get("bytes")
        if message is not None and len(message) <= self._size_unchecked:
            return message
        message = self._take(event)
        if message is not None:
            return message
        if self.ready_state >= CLOSING and not self._inbox:
            raise self._over(over)
        return await self._read_slowly(over)

    async def accept(self) -> None:
        """What ``WebSocket`` does before a first read."""
        raise NotImplementedError

    async def _read_slowly(self, over: type[Exception]) -> str | bytes:
        self._claim_read()
        self.has_read = self.attends = True
        if self.lane is not None:
            lanes.release(self)
        if self.ready_state is CONNECTING:
            await self._ensure_accepted()
        while True:
            if self._inbox:
                message = self._inbox.popleft()
                self._inbox_size -= _size(message)
                self._full_since = None
                return message
            if self.ready_state >= CLOSING:
                raise self._over(over)
            event = await self._next_event()
            taken = self._take(event) if event is not None else None
            if taken is not None:
                return taken

    async def _ensure_accepted(self) -> None:
        """What ``WebSocket`` does before a first read."""

    def _claim_read(self) -> None:
        if self._phase == READING or self._waiter is not None:
            raise RuntimeError(
                "This socket is being read already. Read it in one place, and hand the messages on."
            )

    async def _next_event(self) -> Event | None:
        """Return the server's next event; ``None`` where the inbox or the state has changed."""
        if self._ahead is not None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
            return None
        self._phase = READING
        try:
            return await self._server_receive()
        except asyncio.CancelledError:
            if not self._only_woken():
                raise
            return None
        finally:
            if self._phase == READING:
                self._phase = IDLE if self.ready_state is OPEN else APART

    def _only_woken(self) -> bool:
        """Whether the sweep cancelled the handler only to wake its read: the server did not."""
        task = self._task
        if not self._cancels or task is None or task is not asyncio.current_task():
            return False
        self._cancels -= 1
        task.uncancel()
        return True

    def _take(self, event: Event) -> str | bytes | None:
        """Return the message in a server's event if it may pass; latch a disconnect."""
        kind = event["type"]
        if kind == "websocket.disconnect":
            self._disconnected(event.get("code"), event.get("reason"))
            return None
        if kind != "websocket.receive" or self.ready_state >= CLOSING:
            return None
        message: str | bytes | None = event.get("text")
        if message is None:
            message = event.get("bytes") or b""
        limits = self._limits
        if self._heard is not None:
            self._heard = monotonic()
        if len(message) > limits.max_message_size // 4:
            size = _size(message)
            if size > limits.max_message_size:
                self._exceeded(CloseCode.TOO_BIG, "max_message_size", f"a message of {size} bytes")
                return None
        if self._bucket is not None and not self._bucket.take():
            self._exceeded(CloseCode.TOO_FAST, "rate_limit", "too many messages")
            return None
        return message

    def _exceeded(self, code: CloseCode, limit: str, what: str) -> None:
        value = getattr(self._limits, "rate" if limit == "rate_limit" else limit)
        if limit == "rate_limit":
            value = f"{value.messages} in {value.seconds} s"
        logger.warning(
            "Closed %s with %d: %s, over WEBSOCKET_%s or @%s (%s).",
            self.path,
            code,
            what,
            limit.upper(),
            limit,
            value,
            extra={"path": self.path, "status_code": int(code)},
        )
        self.kick(code, limit.replace("_", " "))

    async def _read_ahead(self) -> None:
        try:
            while True:
                message = self._take(await self._server_receive())
                if message is not None:
                    self._store(message)
                if (
                    self._waiter is not None
                    or self.ready_state >= CLOSING
                    or self._full_since is not None
                ):
                    break
        except Exception as exc:
            logger.debug("The server's receive() failed for %s: %r", self.path, exc)
            self._disconnected(1006, "")
        finally:
            self._ahead = None
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _store(self, message: str | bytes) -> None:
        if self._inbox is None:
            self._inbox = deque()
        self._inbox.append(message)
        self._inbox_size += _size(message)
        if not self._inbox_is_full():
            return
        if self.has_read:
            self._full_since = monotonic()
            return
        # It has never read: it does not want what the client says.
        first = not self._discarded
        while self._inbox_is_full():
            self._inbox_size -= _size(self._inbox.popleft())
            self._discarded += 1
        if first:
            logger.warning(
                "Discarding what the client of %s sends: its handler does not read. Use "
                "wait_closed() or send_each() to say that this does not matter.",
                self.path,
                extra={"path": self.path},
            )

    def _inbox_is_full(self) -> bool:
        return self._inbox is not None and (
            len(self._inbox) >= INBOX_MESSAGES or self._inbox_size >= self._limits.max_message_size
        )

    # The end, whoever brings it

    def _disconnected(self, code: int | None, reason: str | None) -> None:
        """Latch that the client or the server ended the conversation."""
        if self.ready_state is CLOSED and self._code_known:
            return
        if not self._code_known:
            self.close_code = 1005 if code is None else code
            self.close_reason = reason or ""
            self._code_known = True
        self._set_over(CLOSED)
        if self._outbox:
            self._drop_outbox()
        if self._abort_at is None:
            self._abort_at = monotonic() + CLOSE_GRACE
        stopping = self.close_code == CloseCode.RESTART
        self._cancel_after(STOP_GRACE if stopping else BUSY_GRACE if self.attends else 0.0)

    def _lost(self) -> None:
        """A send failed: the client is gone. The true code may still be at the server."""
        if self._phase != READING and self._ahead is None and self._waiter is None:
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
            else:
                awaitable.close()
                return

    def _set_over(self, state: WebSocketState) -> None:
        self.ready_state = state
        self._phase = APART
        self._wire = SHUT if self._wire != BLOCKED else BLOCKED
        self._wake()

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
            self.kick(CloseCode.RESTART)
        return self._task

    @property
    def server_stops(self) -> bool:
        """Whether the server waits for this socket to end."""
        return servers.is_stopping(self._server_send)

    def _shut(self, code: int, reason: str) -> None:
        """Start to close: nothing is sent or received any more but the close frame."""
        self.close_code, self.close_reason = code, cut_reason(reason)
        self._code_known = True
        wire = self._wire
        self._set_over(CLOSING)
        if not self.accepted:
            return
        code = servers.closing_code(self._server_send, code)
        event: Event = {"type": "websocket.close", "code": code, "reason": self.close_reason}
        self._abort_at = monotonic() + CLOSE_GRACE
        if wire == FREE:
            self._start(event, 0)
        else:
            self._queue(event, 0, None)
            # A handler's own send is under way: it hands over when it comes back.
            self._wire = wire

    def check(self, now: float) -> None:
        """Look after this socket: called by the sweep, a few times a second."""
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
        ):
            self._exceeded(CloseCode.IDLE, "idle_timeout", "nothing heard")

    def _check_apart(self, now: float) -> None:
        if self.ready_state >= CLOSING:
            if self._cancel_at is not None and now >= self._cancel_at and self._task is not None:
                self._cancel_at = now + CANCEL_AGAIN
                self._cancels += 1
                self._task.cancel()
            if self._abort_at is not None and now >= self._abort_at and self._writer is not None:
                self._abort_at = None
                servers.abort(self._server_send)
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

    def _start_ahead(self) -> None:
        self._ahead = asyncio.get_running_loop().create_task(self._read_ahead())

    # Around the handler

    def begin(self) -> None:
        """The running task is about to call the handler."""
        self._task = asyncio.current_task()

    def runs_in(self, task: asyncio.Task[Any]) -> bool:
        """Whether it is in this task that the handler runs."""
        return self._task is task

    def end_handler(self) -> bool:
        """The handler has ended. Return whether somebody else than the sweep cancelled its task."""
        task, self._task = self._task, None
        if self._ahead is not None:
            self._ahead.cancel()
        self._learn_code()
        if task is None:
            return False
        for _ in range(self._cancels):
            task.uncancel()
        return task.cancelling() > 0

    def end_sync_work(self) -> None:
        """Give the lane back for good."""
        self.lane_ended = True
        if self.lane is not None:
            lanes.release(self)

    @property
    def was_cancelled(self) -> bool:
        """Whether the sweep has cancelled the handler."""
        return self._cancels > 0

    async def see_out(self) -> None:
        """Close if nobody has, and see the close frame out."""
        if self.ready_state is OPEN:
            self._shut(CloseCode.DONE, "")
        writer = self._writer
        if writer is not None:
            # The sweep aborts a blocked transport; where it can not, the server has to.
            await asyncio.wait([writer], timeout=CLOSE_GRACE + STOP_GRACE)
            writer.cancel()
        if self.accepted and servers.unsent(self._server_send):
            # uvicorn waits for ever for a client that does not read, also when it stops.
            ends = self._abort_at or monotonic()
            while servers.unsent(self._server_send):
                if monotonic() >= ends:
                    servers.abort(self._server_send)
                    break
                await asyncio.sleep(UNSENT_INTERVAL)
