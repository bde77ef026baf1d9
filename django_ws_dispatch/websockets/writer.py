"""Writing to one socket: a send *is* the server's ``send()``, and only where that suspends does a
task with an outbox exist.

Whatever a socket sends, from its handler or from groups, goes out in the order of the calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any

from .. import reports
from ..codes import CloseCode
from ..groups.messages import Message
from ..typing import Event, Send
from .state import CLOSING, CONNECTING, FREE, OPEN, QUEUED, SENDING, SHUT

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Writer", "turns"]

logger = logging.getLogger("django_ws_dispatch.connection")

# A send to a client that keeps up does not suspend, nor does one to a client that the transport has
# just lost: one in so many lets the loop have its turn.
turns = cycle((*[False] * 511, True))


class _Resumed:
    """Awaits an awaitable that was started by hand and has yielded once."""

    __slots__ = ("_steps", "_yielded")

    def __init__(self, steps: Generator[Any, Any, None], yielded: Any) -> None:
        self._steps = steps
        self._yielded = yielded

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            yield self._yielded
        except BaseException as exc:
            try:
                yielded = self._steps.throw(exc)
            except StopIteration:
                return
            yield yielded
        yield from self._steps


class Writer:
    """The writing half of a socket, and what of it is a member of groups.

    Attributes:
        server_send: the server's ``send()``.
        state: of writing (``state.py``).
        task: sends what is in the outbox, if anything is.
    """

    __slots__ = ("_connection", "_outbox_size", "outbox", "server_send", "state", "task")

    former_ids: Collection[str] = ()
    """See ``Member``. No property: a message that excludes somebody asks every member."""

    def __init__(self, connection: Connection, send: Send) -> None:
        self._connection = connection
        self.server_send = send
        self.state = SHUT
        self.task: asyncio.Task[None] | None = None
        # Each with the bytes that it counts as, and who waits for it.
        self.outbox: deque[tuple[Event, int, asyncio.Future[None] | None]] | None = None
        self._outbox_size = 0

    def put(self, message: str | bytes) -> bool:
        """Send a message of the handler's at once; ``False`` where it takes the way of an event."""
        return False

    async def send(self, event: Event) -> None:
        """Send an event of the handler's, behind whatever is under way.

        Raises:
            WebSocketDisconnect: the socket is over.
        """
        if self.state:  # not FREE
            if self._connection.ready_state is not OPEN:
                await asyncio.sleep(0)  # or who sends on regardless would block the loop
                raise self._connection.disconnect()
            sent = asyncio.get_running_loop().create_future()
            self._queue(event, 0, sent)
            await sent
            return
        self.state = SENDING
        try:
            await self.server_send(event)
        except (OSError, RuntimeError) as exc:
            self.raise_if_gone(exc)
            raise
        finally:
            if self.state == SENDING:
                self.hand_over()

    async def replay(self, message: Message) -> None:
        """Send a message of a group that came before this socket, as the handler would.

        Raises:
            WebSocketDisconnect: the socket is over.
        """
        if not self.put(message.data):
            await self.send(message.event)
        if next(turns):
            await asyncio.sleep(0)

    def raise_if_gone(self, exc: Exception) -> None:
        """Say to the handler what the server's ``send()`` has raised for it.

        Raises:
            WebSocketDisconnect: the client is gone; else the server has only refused the message.
        """
        if not self._connection.server.is_too_big(exc):
            self._connection.lost()
            raise self._connection.disconnect() from exc

    def hand_over(self) -> None:
        """The handler's own send is done: somebody else's may wait behind it."""
        # CONNECTING as after an accept that failed.
        if self.outbox and self._connection.ready_state is not CONNECTING:
            self.state = QUEUED
            self._start_task(None)
        else:
            self.state = FREE if self._connection.ready_state is OPEN else SHUT

    # As a member of groups

    @property
    def id(self) -> str:
        """The socket's."""
        return self._connection.id

    def notice(self, message: Message) -> None:
        """A client without the subprotocol is told nothing but messages."""

    def tell(self, message: Message) -> None:
        """Send a frame of the subprotocol without waiting, to who speaks it. Never raises."""

    def kick(self, code: int, reason: str = "") -> None:
        """Close the socket, behind what was delivered before. Never raises or suspends."""
        self._connection.kick(code, reason)

    def deliver(self, message: Message) -> None:
        """Send a group's message without waiting. Never raises or suspends."""
        if self.state:  # not FREE
            # Before the accept it waits for that: the client shall miss nothing once it is open.
            if self._connection.ready_state < CLOSING:
                self._queue(message.event, message.size, None)
            return
        self._start(message.event, message.size)

    def _start(self, event: Event, size: int) -> None:
        """Send by hand: only where that suspends, a task goes on with it."""
        try:
            steps: Any = self.server_send(event).__await__()
            for yielded in steps:  # unlike send(None) this makes no StopIteration
                self._outbox_size += size
                self.state = QUEUED
                self._start_task(_Resumed(steps, yielded), size)
                break
        except (Exception, asyncio.CancelledError) as exc:
            self._failed(exc)

    def _failed(self, exc: BaseException) -> None:
        """The server's ``send()`` failed where no handler of this socket waits for it."""
        connection = self._connection
        too_big = connection.server.is_too_big(exc)
        if too_big or not isinstance(exc, (OSError, RuntimeError)):
            logger.error("The server's send() failed for %s", connection.path, exc_info=exc)
        if too_big:
            connection.kick(CloseCode.FAILED)
        else:
            connection.lost()

    # The end

    def close(self, event: Event) -> None:
        """Send the close frame, behind whatever is under way. Never raises or suspends."""
        if self.state:  # not FREE; a handler's own send hands over when it comes back
            self._queue(event, 0, None)
            return
        if asyncio.current_task() is None:
            # In a callback: a server's send() may need a task, as asyncio.timeout() does.
            self.state = QUEUED
            self._queue(event, 0, None)
            self._start_task(None)
            return
        self._start(event, 0)
        if not self.state:
            self.state = SHUT

    def shut(self) -> None:
        """The client is gone: nothing that waits will be sent."""
        if self.state != QUEUED:  # whose task ends by itself
            self.state = SHUT
        if self.outbox:
            self._drop_outbox()

    def _drop_outbox(self) -> None:
        outbox, self.outbox, self._outbox_size = self.outbox, None, 0
        for _, _, sent in outbox or ():
            if sent is not None and not sent.done():
                sent.set_exception(self._connection.disconnect())

    # The outbox

    def _queue(self, event: Event, size: int, sent: asyncio.Future[None] | None) -> None:
        if self.outbox is None:
            self.outbox = deque()
        self.outbox.append((event, size, sent))
        self._outbox_size += size
        # What the handler sends, and a close frame, are no group message: they may always wait.
        if size and self._outbox_size > self._connection.limits.outbox_size:
            self.give_up_slow()

    def give_up_slow(self) -> None:
        """More waits than may: close the socket, and drop it."""
        self._drop_outbox()
        connection, code = self._connection, CloseCode.SLOW_CLIENT
        limit = f"WEBSOCKET_OUTBOX_SIZE ({connection.limits.outbox_size} bytes)"
        if connection.ready_state is CONNECTING:
            # Its denial is logged, with this reason.
            connection.kick(code, f"over {limit} of group messages before the accept")
            return
        why = f"more than {limit} of group messages wait for this slow client"
        reports.closed(connection.path, code, why)
        connection.kick(code, "slow client")

    def _start_task(self, first: _Resumed | None, size: int = 0) -> None:
        task = asyncio.get_running_loop().create_task(self._run(first, size))
        if not task.done():  # as an eager one may be
            self.task = task

    async def _run(self, first: _Resumed | None, size: int) -> None:
        """Finish a send that was started, then send what has collected behind it."""
        sent: asyncio.Future[None] | None = None
        try:
            if first is not None:
                with self._unless_refused(None):
                    await first
                self._outbox_size -= size
            while self.outbox:
                event, size, sent = self.outbox.popleft()
                self._outbox_size -= size
                if sent is not None and sent.done():
                    continue  # its sender was cancelled
                with self._unless_refused(sent):
                    await self.server_send(event)
                if sent is not None and not sent.done():
                    sent.set_result(None)
        except Exception as exc:
            self._failed(exc)
            if sent is not None and not sent.done():
                sent.set_exception(self._connection.disconnect())
        finally:
            self.task = None
            self.state = FREE if self._connection.ready_state is OPEN else SHUT

    @contextmanager
    def _unless_refused(self, sent: asyncio.Future[None] | None) -> Iterator[None]:
        """A message that the server refuses ends nothing but that message's sending."""
        try:
            yield
        except Exception as exc:
            if not self._connection.server.is_too_big(exc):
                raise
            if sent is None:
                self._failed(exc)
            elif not sent.done():
                sent.set_exception(exc)
