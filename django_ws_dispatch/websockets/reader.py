"""Reading from one socket: while a handler reads, its read *is* the server's ``receive()``.

The sweep (``deadlines.py``) finds the sockets whose handler does something else, and reads ahead
for them into a bounded inbox, so that a disconnect is seen and pongs are parsed.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING

from .. import lanes, reports
from ..codes import CloseCode
from ..limits import Limits, Meter, text_size
from ..typing import Event, Receive
from .inbox import Inbox
from .opening import accept_event
from .state import ABSENT, BUSY, CLOSING, CONNECTING, DETACHED, OPEN, READING, WAITING

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Reader"]

logger = logging.getLogger("django_ws_dispatch.connection")


class Reader:
    """The reading half of a socket, with the limits on what its client sends.

    It is the asynchronous iterator over the messages.

    Attributes:
        server_receive: the server's ``receive()``.
        state: of reading (``state.py``).
        size_unchecked: a message of so many characters or bytes is within the limits.
        has_read: the handler has, so that it wants what the client says.
        will_hear: it has been told, or will be, of the disconnect.
        lane: the thread of its sync code between two reads.
        ahead: the task that reads ahead, for a handler that does something else.
        inbox: what was read ahead; ``None`` where nothing ever was.
        meter: ``None`` without a rate and an idle limit.
    """

    __slots__ = (
        "_connection",
        "_waiter",
        "ahead",
        "has_read",
        "inbox",
        "lane",
        "meter",
        "server_receive",
        "size_unchecked",
        "state",
        "will_hear",
    )

    def __init__(self, connection: Connection, receive: Receive, limits: Limits) -> None:
        self._connection = connection
        self.server_receive = receive
        self.state = DETACHED
        self.has_read = self.will_hear = False
        self.lane: lanes.Lane | None = None
        self.inbox: Inbox | None = None
        self.ahead: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        if limits.rate is None and limits.idle_timeout is None:
            self.meter: Meter | None = None
            # No character takes more than four bytes: so long a message needs no closer look.
            self.size_unchecked = limits.max_message_size // 4
        else:
            self.meter = Meter(limits)
            self.size_unchecked = -1

    @property
    def is_waiting(self) -> bool:
        """Whether the handler reads right now."""
        return self.state in (READING, WAITING)

    async def __anext__(self) -> str | bytes:
        """Return the next message.

        Raises:
            StopAsyncIteration: the socket is over.
        """
        if (self.state > ABSENT or self.lane is not None) and not await self.accept_plainly():
            return await self.read_slowly()
        self.state = READING
        try:
            event = await self.server_receive()
        except asyncio.CancelledError:
            if not self._connection.was_wakeup():
                raise
            raise StopAsyncIteration from None
        finally:
            if self.state == READING:
                self.state = BUSY
        message: str | bytes | None = event.get("text")
        if message is None:
            message = event.get("bytes")
        if message is not None and len(message) <= self.size_unchecked:
            return message
        message = self.take(event)
        if message is not None:
            return message
        if self._connection.ready_state >= CLOSING and not self.inbox:
            raise StopAsyncIteration
        return await self.read_slowly()

    async def accept_plainly(self) -> bool:
        """Accept, where this is the first read of most handlers; whether it is a plain one then."""
        connection = self._connection
        if connection.ready_state is not CONNECTING or self.lane is not None:
            return False
        await connection.accept(accept_event(connection))
        return self.begins_plainly()

    def begins_plainly(self) -> bool:
        """Whether nothing stands between the first read after the accept and the server."""
        if (
            self.has_read
            or self.lane is not None
            or self.ahead is not None
            or self._connection.ready_state is not OPEN
        ):
            return False
        self.has_read = self.will_hear = True
        return True

    async def read_slowly(self, *, accept: bool = True) -> str | bytes:
        """Return the next message, whatever stands between the read and the server.

        Args:
            accept: the handshake first, where nobody has.

        Raises:
            RuntimeError: another read is under way.
            StopAsyncIteration: the socket is over.
        """
        connection = self._connection
        self.claim()
        self.has_read = self.will_hear = True
        if self.lane is not None:
            lanes.release(self)
        if accept:
            await connection.ensure_accepted()
        while True:
            if self.inbox:
                self._no_longer_full()
                if connection.ready_state >= CLOSING:
                    connection.prolong()
                return self.inbox.take()
            if connection.ready_state >= CLOSING:
                await asyncio.sleep(0)  # or who reads on regardless would block the loop
                raise StopAsyncIteration
            event = await self._next_event()
            message = self.take(event) if event is not None else None
            if message is not None:
                return message

    async def discard(self) -> None:
        """Read until the socket is over, whatever the client says."""
        self.claim()
        self.will_hear = True
        self._clear_inbox()
        while self._connection.ready_state < CLOSING:
            event = await self._next_event()
            if event is not None:
                self.take(event)
            self._clear_inbox()

    def claim(self) -> None:
        """Be the one who reads.

        Raises:
            RuntimeError: another read is under way.
        """
        if self.is_waiting:
            raise RuntimeError(
                "This socket is being read already. Read it in one place, and hand the messages on."
            )

    async def _next_event(self) -> Event | None:
        """Return the server's next event; ``None`` where the inbox or the state has changed."""
        if self.ahead is not None:
            self._waiter = asyncio.get_running_loop().create_future()
            self.state = WAITING
            try:
                await self._waiter
            finally:
                self._waiter = None
                self.state = DETACHED
            return None
        self.state = READING
        try:
            return await self.server_receive()
        except asyncio.CancelledError:
            if not self._connection.was_wakeup():
                raise
            return None
        finally:
            if self.state == READING:
                self.state = BUSY if self._connection.ready_state is OPEN else DETACHED

    def take(self, event: Event) -> str | bytes | None:
        """Return the message in a server's event if it may pass; latch a disconnect."""
        kind = event["type"]
        if kind == "websocket.disconnect":
            self._connection.disconnected(event.get("code"), event.get("reason"))
            return None
        if kind != "websocket.receive" or self._connection.ready_state >= CLOSING:
            return None
        message: str | bytes | None = event.get("text")
        if message is None:
            message = event.get("bytes") or b""
        most = self._connection.limits.max_message_size
        if self.meter is not None:
            self.meter.touch()
        if len(message) > most // 4:
            size = text_size(message) if isinstance(message, str) else len(message)
            if size > most:
                self._exceeded(
                    CloseCode.TOO_BIG, "max_message_size", f"a message of {size} bytes", most
                )
                return None
        return message if self.is_within_rate() else None

    def is_within_rate(self) -> bool:
        """Count one more message; close a client that sends too many."""
        if self.meter is None or not self.meter.is_over_rate():
            return True
        rate = self._connection.limits.rate
        allowed = "" if rate is None else f"{rate.messages} in {rate.seconds} s"
        self._exceeded(CloseCode.TOO_FAST, "rate_limit", "too many messages", allowed)
        return False

    def check_idle(self, now: float) -> None:
        """Close a client that has said nothing for too long."""
        idle = self._connection.limits.idle_timeout
        if idle is None or self.meter is None or now - self.meter.heard <= idle:
            return
        # Where the inbox is full it has said more than is being read.
        if self._connection.ready_state is OPEN and self.full_since is None:
            self._exceeded(CloseCode.IDLE, "idle_timeout", "nothing heard", idle)

    def say_refused(self) -> None:
        """Say why the server has closed with 1009, before it had the whole message."""
        most = self._connection.limits.max_message_size
        self._say(CloseCode.TOO_BIG, "max_message_size", "a message", most)

    def _exceeded(self, code: CloseCode, limit: str, what: str, most: object) -> None:
        self._say(code, limit, what, most)
        self._connection.kick(code, limit.replace("_", " "))

    def _say(self, code: CloseCode, limit: str, what: str, most: object) -> None:
        why = f"{what}, over WEBSOCKET_{limit.upper()} or @{limit} ({most})"
        reports.closed(self._connection.path, code, why)

    # Reading ahead

    @property
    def full_since(self) -> float | None:
        """Since when the inbox is full, so that nothing more is read (monotonic)."""
        return None if self.inbox is None else self.inbox.full_since

    def read_ahead(self) -> None:
        """Read for a handler that does something else, until it reads or the inbox is full."""
        self.state = DETACHED
        self.ahead = asyncio.get_running_loop().create_task(self._read_ahead())

    async def _read_ahead(self) -> None:
        connection = self._connection
        try:
            while True:
                message = self.take(await self.server_receive())
                if message is not None:
                    self._store(message)
                if (
                    self._waiter is not None
                    or connection.ready_state >= CLOSING
                    or self.full_since is not None
                ):
                    break
        except Exception as exc:
            logger.debug("The server's receive() failed for %s: %r", connection.path, exc)
            connection.disconnected(1006, "")
        finally:
            self.ahead = None
            self._wake()

    def _store(self, message: str | bytes) -> None:
        inbox = self.inbox
        if inbox is None:
            inbox = self.inbox = Inbox(self._connection.limits.max_message_size)
        first = not inbox.discarded
        # Who has never read does not want what the client says.
        inbox.put(message, keep=self.has_read)
        if inbox.discarded and first:
            path = self._connection.path
            logger.warning(
                "Discarding what the client of %s sends: its handler does not read. Use "
                "wait_closed() or send_each() to say that this does not matter.",
                path,
                extra={"path": path},
            )

    def _clear_inbox(self) -> None:
        if self.inbox:
            self._no_longer_full()
            self.inbox.clear()

    def _no_longer_full(self) -> None:
        """A client that could not be heard is not idle."""
        if self.meter is not None and self.full_since is not None:
            self.meter.touch()

    # The end

    def drain(self) -> None:
        """Take what the server already has, without waiting."""
        self.state = DETACHED
        while not self._connection.code_known:
            awaitable = self.server_receive()
            if not inspect.iscoroutine(awaitable):
                return
            try:
                awaitable.send(None)
            except StopIteration as stop:
                message = self.take(stop.value)
                if message is not None and self.has_read:
                    self._store(message)
            except Exception:
                # It has no more to tell: some bear one reader only, and another one waits.
                return
            else:
                awaitable.close()
                return

    def stop(self) -> None:
        """The socket is over: what was read ahead may still be read."""
        self.state = DETACHED
        if self._waiter is not None:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
