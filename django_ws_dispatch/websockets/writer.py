"""Writing to one socket: a send *is* the server's ``send()``, and only where that suspends does a
writer task with an outbox exist.

Whatever a socket sends, from its handler or from groups, goes out in the order of the calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from enum import IntEnum
from itertools import cycle
from typing import Any, Final

from .. import servers
from ..codes import CloseCode
from ..exceptions import WebSocketDisconnect
from ..groups.messages import Message
from ..limits import Limits
from ..reports import shown_path
from ..typing import Event, Scope, Send

__all__ = ["BLOCKED", "BUSY", "FREE", "SHUT", "Outbound", "WebSocketState"]

# A send to a client that keeps up does not suspend, nor does one to a client that the transport has
# just lost: one in so many lets the loop have its turn.
turns = cycle((*[False] * 511, True))

logger = logging.getLogger("django_ws_dispatch.connection")

# Who has the server's send().
FREE: Final = 0
BUSY: Final = 1  # the handler
BLOCKED: Final = 2  # the writer task
SHUT: Final = 3  # nobody: not accepted yet, or over


class WebSocketState(IntEnum):
    """The states of a socket, with the numbers of the browser's ``readyState``."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


# Where every message passes: to look a member up in its class costs as much as a call.
CONNECTING, OPEN, CLOSING, CLOSED = WebSocketState


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


class Outbound:
    """The writing half of a socket, and the state that both halves share.

    What every socket has is in slots, which ``Opening`` fills in one go: it is on the way of every
    handshake. What few ever need has a default here, and a place in their ``__dict__``.
    """

    __slots__ = (
        "__dict__",
        "_limits",
        "_outbox",
        "_own_send",
        "_writer",
        "accepted",
        "close_code",
        "close_reason",
        "ready_state",
        "scope",
        "server_send",
        "wire",
    )

    scope: Scope
    ready_state: WebSocketState
    accepted: bool
    close_code: int | None
    close_reason: str | None
    _limits: Limits
    server_send: Send
    _own_send: Send  # the same, without what a middleware has wrapped around it
    wire: int
    _outbox: deque[tuple[Event, int, asyncio.Future[None] | None]] | None
    _outbox_size = 0
    _writer: asyncio.Task[None] | None

    @property
    def path(self) -> str:
        """The path as the server gave it, escaped and cut: for log lines."""
        return shown_path(self.scope)

    def kick(self, code: int, reason: str = "") -> None:
        """Close it from elsewhere."""
        raise NotImplementedError

    def _lost(self) -> None:
        """A send failed: the client is gone."""
        raise NotImplementedError

    def _over(self, over: type[Exception]) -> Exception:
        if over is WebSocketDisconnect:
            return WebSocketDisconnect(self.close_code or 1006, self.close_reason or "")
        return over()

    def deliver(self, message: Message) -> None:
        """Send a group's message without waiting. Never raises or suspends."""
        if self.wire == FREE:
            self._begin(message.event, message.size)
        elif self.ready_state < CLOSING:
            # Before the accept it waits for that: the client shall miss nothing once it is open.
            self._queue(message.event, message.size, None)

    def _begin(self, event: Event, size: int) -> None:
        """Send an event by hand: only where that suspends, a task goes on with it."""
        try:
            steps: Any = self.server_send(event).__await__()
            for yielded in steps:  # unlike send(None) this makes no StopIteration
                self._outbox_size += size
                self.wire = BLOCKED
                self._start_writer(_Resumed(steps, yielded), size)
                break
        except (Exception, asyncio.CancelledError) as exc:
            self.failed(exc)

    def _send_close(self, event: Event) -> None:
        """Send the close frame behind whatever is under way. Never raises or suspends."""
        if self.wire != FREE:
            self._queue(event, 0, None)
        elif asyncio.current_task() is None:
            # In a callback: a server's send() may need a task, as asyncio.timeout() does.
            self.wire = BLOCKED
            self._queue(event, 0, None)
            self._start_writer(None)
        else:
            self._begin(event, 0)

    def failed(self, exc: BaseException) -> None:
        """The server's ``send()`` failed where no handler of this socket waits for it."""
        too_big = servers.is_too_big(exc)
        if too_big or not isinstance(exc, (OSError, RuntimeError)):
            logger.error("The server's send() failed for %s", self.path, exc_info=exc)
        if too_big:
            self.kick(CloseCode.FAILED)
        else:
            self._lost()

    def _queue(self, event: Event, size: int, sent: asyncio.Future[None] | None) -> None:
        if self._outbox is None:
            self._outbox = deque()
        self._outbox.append((event, size, sent))
        self._outbox_size += size
        # What the handler sends, and a close frame, are no group message: they may always wait.
        if size and self._outbox_size > self._limits.outbox_size:
            self._drop_outbox()
            self._give_up_slow()

    def _give_up_slow(self) -> None:
        limit = f"WEBSOCKET_OUTBOX_SIZE ({self._limits.outbox_size} bytes)"
        if self.ready_state is CONNECTING:
            # Its denial is logged, with this reason.
            self.kick(CloseCode.SLOW_CLIENT, f"over {limit} of group messages before the accept")
            return
        logger.warning(
            "Closed %s with %d: more than %s of group messages wait for this slow client.",
            self.path,
            CloseCode.SLOW_CLIENT,
            limit,
            extra={"path": self.path, "status_code": int(CloseCode.SLOW_CLIENT)},
        )
        self.kick(CloseCode.SLOW_CLIENT, "slow client")

    def _drop_outbox(self) -> None:
        outbox, self._outbox, self._outbox_size = self._outbox, None, 0
        for _, _, sent in outbox or ():
            if sent is not None and not sent.done():
                sent.set_exception(self._over(WebSocketDisconnect))

    def _start_writer(self, first: _Resumed | None, size: int = 0) -> None:
        task = asyncio.get_running_loop().create_task(self._write_out(first, size))
        if not task.done():  # as an eager one may be
            self._writer = task

    async def _write_out(self, first: _Resumed | None, size: int) -> None:
        """Finish a send that was started, then send what has collected behind it."""
        sent: asyncio.Future[None] | None = None
        try:
            if first is not None:
                with self._unless_refused(None):
                    await first
                self._outbox_size -= size
            while self._outbox:
                event, size, sent = self._outbox.popleft()
                self._outbox_size -= size
                if sent is not None and sent.done():
                    continue  # its sender was cancelled
                with self._unless_refused(sent):
                    await self.server_send(event)
                if sent is not None and not sent.done():
                    sent.set_result(None)
        except Exception as exc:
            self.failed(exc)
            if sent is not None and not sent.done():
                sent.set_exception(self._over(WebSocketDisconnect))
        finally:
            self._writer = None
            self.wire = FREE if self.ready_state is OPEN else SHUT

    @contextmanager
    def _unless_refused(self, sent: asyncio.Future[None] | None) -> Iterator[None]:
        """A message that the server refuses ends nothing but that message's sending."""
        try:
            yield
        except Exception as exc:
            if not servers.is_too_big(exc):
                raise
            if sent is None:
                self.failed(exc)
            elif not sent.done():
                sent.set_exception(exc)

    async def _transmit(self, event: Event) -> None:
        """Send an event of the handler's, behind whatever is under way."""
        if self.wire != FREE:
            if self.ready_state is not OPEN:
                await asyncio.sleep(0)  # or who sends on regardless would block the loop
                raise self._over(WebSocketDisconnect)
            sent = asyncio.get_running_loop().create_future()
            self._queue(event, 0, sent)
            await sent
            return
        self.wire = BUSY
        try:
            await self.server_send(event)
        except (OSError, RuntimeError) as exc:
            if servers.is_too_big(exc):
                raise
            self._lost()
            raise self._over(WebSocketDisconnect) from exc
        finally:
            if self.wire == BUSY:
                self._hand_over()

    def _hand_over(self) -> None:
        """The handler's own send is done: somebody else's may wait behind it."""
        if self._outbox and self.ready_state is not CONNECTING:  # as after an accept that failed
            self.wire = BLOCKED
            self._start_writer(None)
        else:
            self.wire = FREE if self.ready_state is OPEN else SHUT
