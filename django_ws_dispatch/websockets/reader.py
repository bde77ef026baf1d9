"""Reading from one socket: while a handler reads, its read *is* the server's ``receive()``.

The sweep (``connections.py``) finds the sockets whose handler does something else, and reads ahead
for them into a bounded inbox, so that a disconnect is seen and pongs are parsed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from time import monotonic
from typing import Any, Final

from .. import lanes
from ..codes import CloseCode
from ..limits import TokenBucket, held_size, text_size
from ..typing import Event, Receive
from .writer import CLOSING, CONNECTING, OPEN, Outbound, logger

__all__ = ["APART", "AWAY", "IDLE", "READING", "Inbound"]

INBOX_MESSAGES = 64

# What the handler does about reading. Up to AWAY, the next read may go straight to the server.
IDLE: Final = 0  # something else
AWAY: Final = 1  # something else, as when the sweep last looked
READING: Final = 2  # waits in the server's receive()
APART: Final = 3  # not accepted yet, being read ahead, or over: the slow path knows


def _size(message: str | bytes) -> int:
    return text_size(message) if isinstance(message, str) else len(message)


class Inbound(Outbound):
    """The reading half of a socket, with the limits on what its client sends."""

    __slots__ = (
        "_ahead",
        "_cancels",
        "_inbox",
        "_phase",
        "_server_receive",
        "_size_unchecked",
        "_task",
        "_waiter",
        "attends",
        "has_read",
        "lane",
        "lane_ended",
        "lane_urgent",
    )

    _server_receive: Receive
    _task: asyncio.Task[Any] | None
    # reading
    _phase: int
    _size_unchecked: int
    has_read: bool
    attends: bool  # it has been told, or will be, of the disconnect
    _ahead: asyncio.Task[None] | None
    _waiter: asyncio.Future[None] | None
    _inbox: deque[tuple[str | bytes, int]] | None  # with its size
    _inbox_size = 0
    _full_since: float | None = None
    _discarded = 0
    _cancels: int  # how often the sweep has cancelled the handler
    # sync work
    lane: lanes.Lane | None
    lane_ended: bool
    lane_urgent: bool
    # limits
    _bucket: TokenBucket | None = None
    _heard: float | None = None

    @property
    def is_between_reads(self) -> bool:
        """Whether the handler has read, and does not right now."""
        return self.has_read and self._phase != READING and self._waiter is None

    @property
    def is_over(self) -> bool:
        """Whether its client has left, or it was closed."""
        return self.ready_state >= CLOSING

    @property
    def lane_user(self) -> Hashable | None:
        """Who is logged in, as far as anybody has asked."""
        return None

    @property
    def lane_client(self) -> Hashable:
        """Who may be the same as another socket's client."""
        client = self.scope.get("client")
        return self.lane_user or (client[0] if client else id(self))

    @property
    def lane_socket(self) -> Any:
        """Whose sync context is entered."""
        return self

    def _watch_limits(self) -> None:
        """Look at every message: there is a rate or an idle limit."""
        self._size_unchecked = -1
        self._heard = monotonic()
        if self._limits.rate is not None:
            self._bucket = TokenBucket(self._limits.rate)

    def _disconnected(self, code: int | None, reason: str | None) -> None:
        """Latch that the client or the server ended the conversation."""
        raise NotImplementedError

    def _came_back(self) -> None:
        """The handler has read a message of a socket that is over."""
        raise NotImplementedError

    async def _read(self, over: type[Exception] = StopAsyncIteration) -> str | bytes:
        """Return the next message; raise ``over`` once there is none."""
        if self._phase > AWAY or self.lane is not None:
            # The first read of most handlers accepts, and is a plain one then.
            if self.ready_state is not CONNECTING or self.lane is not None:
                return await self._read_slowly(over)
            await self._accept(self._accept_event())
            if not self._first_is_plain():
                return await self._read_slowly(over)
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
        message: str | bytes | None = event.get("text")
        if message is None:
            message = event.get("bytes")
        if message is not None and len(message) <= self._size_unchecked:
            return message
        message = self._take(event)
        if message is not None:
            return message
        if self.ready_state >= CLOSING and not self._inbox:
            raise self._over(over)
        return await self._read_slowly(over)

    def _accept_event(self) -> Event:
        raise NotImplementedError

    async def _accept(self, event: Event) -> None:
        """What ``WebSocket`` does before a first read."""
        raise NotImplementedError

    def _first_is_plain(self) -> bool:
        """Whether nothing stands between the first read after the accept and the server."""
        if self.has_read or self.lane or self._ahead or self.ready_state is not OPEN:
            return False
        self.has_read = self.attends = True
        return True

    async def _read_slowly(self, over: type[Exception]) -> str | bytes:
        self._claim_read()
        self.has_read = self.attends = True
        if self.lane is not None:
            lanes.release(self)
        if self.ready_state is CONNECTING:
            await self._ensure_accepted()
        while True:
            if self._inbox:
                message, size = self._inbox.popleft()
                self._inbox_size -= size
                self._go_on_reading()
                if self.ready_state >= CLOSING:
                    self._came_back()
                return message
            if self.ready_state >= CLOSING:
                await asyncio.sleep(0)  # or who reads on regardless would block the loop
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
        # There are few of them: what each takes beyond its characters is bounded by their number.
        size = held_size(message)
        self._inbox.append((message, size))
        self._inbox_size += size
        if not self._inbox_is_full():
            return
        if self.has_read:
            self._full_since = monotonic()
            return
        # It has never read: it does not want what the client says.
        first = not self._discarded
        while self._inbox_is_full():
            _, size = self._inbox.popleft()
            self._inbox_size -= size
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

    def _discard_inbox(self) -> None:
        if self._inbox:
            self._inbox.clear()
            self._inbox_size = 0
            self._go_on_reading()

    def _go_on_reading(self) -> None:
        """The inbox is not full: a client that could not be heard is not idle."""
        if self._full_since is not None:
            self._full_since = None
            if self._heard is not None:
                self._heard = monotonic()

    def _start_ahead(self) -> None:
        self._ahead = asyncio.get_running_loop().create_task(self._read_ahead())
