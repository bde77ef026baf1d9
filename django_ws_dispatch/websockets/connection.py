"""One socket's conversation with its server (ASGI spec, "WebSocket"): how it begins and ends.

Reading and writing are the two halves, each with a module; ``state.py`` has the automata of all
three. Whoever brings the end, one disconnect is latched, and the times are set by which the handler
and the connection have to be gone. The sweep (``deadlines.py``) sees to that.
"""

from __future__ import annotations

import asyncio
import secrets
from time import monotonic
from typing import TYPE_CHECKING, Any

from django.http.response import HttpResponseBase

from .. import servers
from ..codes import DENIALS, CloseCode, cut_reason
from ..exceptions import Deny, WebSocketDisconnect
from ..handshake.denial import deny
from ..limits import Limits
from ..reports import shown_path
from ..signals import websocket_opened
from ..typing import Event, Receive, Scope, Send
from . import deadlines
from .envelope import Envelope
from .enveloped import halves
from .opening import accept_event
from .reader import Reader
from .state import CLOSED, CLOSING, CONNECTING, OPEN, READING, SENDING, WebSocketState
from .writer import Writer

if TYPE_CHECKING:
    from .socket import Socket

__all__ = ["Connection"]


class Connection:
    """What all faces of a socket share.

    Attributes:
        scope: of the connection.
        limits: on what its client may do.
        server: with what it can not do.
        reader, writer: the halves.
        websocket: the face that handlers and receivers of signals see.
        task: in which the handler runs; ``None`` once it has ended.
        ready_state: of the conversation.
        accepted: the handshake was.
        denied: the handshake was.
        subprotocol: the chosen one.
        close_code, close_reason: once it is over.
        code_known: they are the true ones, and not a guess.
        subprotocols: those that the handler declares.
        accept_headers: what goes out with the accept, whoever accepts.
        cancel_at: when the handler is to be cancelled (monotonic).
        abort_at: when the connection is to be dropped.
        cancels: how often the sweep has cancelled the handler's task, and nobody taken it back.
        hurried: somebody else has cancelled the handler: nothing waits for the client.
        closed_here: this side has begun to close.
    """

    # In slots what every socket has: they are on the way of every handshake. What few ever need has
    # a default below, and a place in their ``__dict__``.
    __slots__ = (
        "__dict__",
        "_id",
        "_left_at",
        "abort_at",
        "accept_headers",
        "accepted",
        "cancel_at",
        "cancels",
        "close_code",
        "close_reason",
        "code_known",
        "limits",
        "reader",
        "ready_state",
        "scope",
        "server",
        "subprotocol",
        "subprotocols",
        "task",
        "websocket",
        "writer",
    )

    envelope: Envelope | None = None  # of the subprotocol of this package
    denied = hurried = closed_here = False
    tries = 0  # how often the sweep has cancelled the handler, whatever came of it
    tried_at = 0.0

    # Until the handler has ended.
    reader: Reader
    writer: Writer
    websocket: Socket

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        limits: Limits,
        subprotocols: tuple[str, ...] = (),
    ) -> None:
        self.scope = scope
        self.limits = limits
        self.server = servers.of(send, scope)
        self.reader, self.writer = halves(self, receive, send)
        self.task: asyncio.Task[Any] | None = asyncio.current_task()
        self.ready_state: WebSocketState = CONNECTING
        self.accepted = self.code_known = False
        self.cancels = 0
        self.subprotocols = subprotocols
        self.accept_headers: list[tuple[bytes, bytes]] | None = None
        self.subprotocol: str | None = None
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.cancel_at: float | None = None
        self.abort_at: float | None = None
        self._left_at: float | None = None  # when the client did
        self._id: str | None = None

    @property
    def id(self) -> str:
        """Unguessable, and unique across processes and machines."""
        if self._id is None:
            self._id = secrets.token_urlsafe(16)
        return self._id

    @property
    def path(self) -> str:
        """The path as the server gave it, escaped and cut: for log lines."""
        return shown_path(self.scope)

    def disconnect(self) -> WebSocketDisconnect:
        """Return what is raised once it is over."""
        return WebSocketDisconnect(self.close_code or 1006, self.close_reason or "")

    # The answer to the handshake

    async def accept(self, event: Event) -> None:
        """Send an accept, and tell of it."""
        hello = None if self.envelope is None else self.envelope.begin(event)
        self.subprotocol = event.get("subprotocol") if hello is None else None
        self.accepted, self.ready_state = True, OPEN
        # The reader is DETACHED still: the first read goes the slow way, and is remembered.
        writer = self.writer
        writer.state = SENDING
        try:
            await writer.server_send(event)
            if hello is not None:
                await writer.server_send(hello)
        except (OSError, RuntimeError) as exc:
            self.accepted = False
            self.lost()
            raise self.disconnect() from exc
        except Exception:
            # It has refused the event, as hypercorn does a subprotocol that nobody offered.
            self.accepted, self.subprotocol, self.ready_state = False, None, CONNECTING
            raise
        finally:
            if writer.state == SENDING:
                writer.hand_over()
        if (meter := self.reader.meter) is not None:
            meter.touch()  # it could say nothing before
        if websocket_opened.receivers:
            await self.websocket.send_signal(websocket_opened)

    async def ensure_accepted(self) -> None:
        """Accept, if nobody has."""
        if self.ready_state is CONNECTING:
            await self.accept(accept_event(self))

    async def deny(self, response: HttpResponseBase, reason: str | None) -> None:
        """Answer the handshake with ``response``. Nothing happens once it was answered.

        Args:
            response: any kind.
            reason: for the log; ``None`` where that says more already.
        """
        if self.denied or self.ready_state is CLOSED:
            return
        self.denied = True
        self.disconnected(1006, "")
        self.cancel_after()
        await deny(self.server, response, reason)

    # The end, whoever brings it

    def disconnected(self, code: int | None, reason: str | None) -> None:
        """Latch that the client or the server ended the conversation."""
        if not self.code_known:
            self.close_code = 1005 if code is None else code
            self.close_reason = reason or ""
            self.code_known = True
            if code == CloseCode.TOO_BIG and self.server.has_refused:
                self.reader.say_refused()
        elif self.ready_state is CLOSED:
            return
        closed_here = self.ready_state is CLOSING
        self.ready_state = CLOSED
        self.reader.stop()
        self.writer.shut()
        now = monotonic()
        stopping = self.close_code == CloseCode.RESTART
        if self.abort_at is None:
            self.abort_at = now + deadlines.CLOSE_GRACE
        if not closed_here and not stopping and self._left_at is None:
            self._left_at = now
        # A handler that hears of the end has time for it.
        grace = deadlines.BUSY_GRACE if self.reader.will_hear else 0.0
        self.cancel_at = now + (deadlines.STOP_GRACE if stopping else grace)

    def lost(self) -> None:
        """A send failed: the client is gone. The true code may still be at the server."""
        if self.ready_state is CLOSED:
            return
        reading = self.reader.state == READING
        # The task that reads ahead may not have been woken yet for what its server has.
        if not self.reader.is_waiting:
            self.reader.drain()
        if self.ready_state is not CLOSED:
            known = self.code_known
            self.disconnected(1006, "")
            self.code_known = known
            if reading:
                self.cancel_after(deadlines.WAKE_GRACE)

    def fetch_close_code(self) -> None:
        """A send has found the client gone: the code may have come since then."""
        if self.ready_state is CLOSED and not self.code_known and not self.reader.is_waiting:
            self.reader.drain()

    def prolong(self) -> None:
        """The handler has read on after its client left: it may finish with that message too."""
        if (
            self._left_at is not None
            and monotonic() - self._left_at < deadlines.READ_ON_GRACE
            and not self.server.is_stopping
            and not servers.is_told_to_exit()
        ):
            self.cancel_after()

    def cancel_after(self, grace: float | None = None) -> None:
        """Let the sweep cancel the handler, in so many seconds."""
        self.cancel_at = monotonic() + (deadlines.BUSY_GRACE if grace is None else grace)

    def kick(self, code: int, reason: str = "") -> None:
        """Close it from elsewhere, behind what was sent before. The handler sees a disconnect.

        Never suspends and never raises. ``code`` may go on a wire; ``reason`` is cut.
        """
        if self.ready_state >= CLOSING:
            return
        reader, grace = self.reader, deadlines.BUSY_GRACE
        if reader.state == READING or not reader.will_hear:
            grace = deadlines.WAKE_GRACE
        if code == CloseCode.RESTART and reader.state != READING:
            grace = deadlines.STOP_GRACE
        self.shut(code, reason)
        self.cancel_after(grace)

    def shut(self, code: int, reason: str) -> None:
        """Start to close: nothing is sent or received any more but the close frame."""
        self.close_code, self.close_reason = code, cut_reason(reason)
        self.code_known = True
        self.ready_state, self.closed_here = CLOSING, True
        self.reader.stop()
        if not self.accepted:
            return
        self.abort_at = monotonic() + deadlines.CLOSE_GRACE
        code = self.server.close_code(code)
        self.writer.close({"type": "websocket.close", "code": code, "reason": self.close_reason})

    def stop(self, *, gone: bool = False) -> asyncio.Task[Any] | None:
        """The server stops, and has dropped this if ``gone``. Return the handler's task."""
        if gone:
            reading = self.reader.state == READING
            self.disconnected(CloseCode.RESTART, "")
            if reading:
                self.cancel_after(0.0)
        else:
            if servers.is_forced_to_exit() and self.server.unsent:
                self.server.abort()
            self.kick(CloseCode.RESTART)
        return self.task

    @property
    def server_stops(self) -> bool:
        """Whether the server waits for this socket to end, and has not said so."""
        return self.server.is_stopping or servers.is_forced_to_exit()

    # The end of the handler

    def runs_in(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether it is in this task that the handler runs."""
        return task is not None and self.task is task

    def was_wakeup(self) -> bool:
        """Whether the sweep cancelled the handler only to wake its read: the server did not."""
        task = self.task
        if not self.cancels or task is None or task is not asyncio.current_task():
            return False
        self.cancels -= 1
        task.uncancel()
        return True

    @property
    def was_cancelled(self) -> bool:
        """Whether the sweep has cancelled the handler."""
        return self.cancels > 0

    def end_handler(self) -> bool:
        """The handler has ended. Return whether somebody else than the sweep cancelled its task."""
        task, self.task = self.task, None
        if self.reader.ahead is not None:
            self.reader.ahead.cancel()
        if not self.code_known:
            self.fetch_close_code()
        if task is None or not task.cancelling():
            return False
        for _ in range(self.cancels):
            task.uncancel()
        return task.cancelling() > 0

    async def aclose(self) -> None:
        """Close or deny if nobody has, and see out what waits to be sent.

        Needless where the state is ``CLOSED`` and nothing does.
        """
        if self.ready_state is CLOSING and not self.accepted:
            status = DENIALS.get(self.close_code or 0, 403)
            await self.deny(Deny(status).response, self.close_reason or "closed from elsewhere")
        if self.ready_state is OPEN:
            self.shut(CloseCode.DONE, "")
        ends = None if self.denied else self.abort_at or monotonic()
        if self.hurried:
            ends = monotonic()
        await self.server.see_out(self.writer.task, ends=ends)

    def release(self) -> None:
        """Forget the parts, whose cycle would keep all of them until the garbage collector runs."""
        self.ready_state, self.code_known = CLOSED, True
        if self.envelope is not None:  # else there would be a __dict__ for it
            self.envelope = None
        del self.reader, self.writer, self.websocket
