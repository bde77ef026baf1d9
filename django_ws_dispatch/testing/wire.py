"""What lies between a test and an application: one connection of a server that is none."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import traceback
from time import monotonic

from django.core.signals import got_request_exception

from .. import lanes
from ..dispatcher import sweep as connections
from ..typing import ASGIApplication, Event, Scope
from ..websockets import WebSocket, deadlines
from ..websockets.whereabouts import frames

__all__ = ["Wire"]

# Seconds between two looks after a handler whose client has left.
LOOK_AFTER = 0.05
# Seconds that a cancelled handler has to end, and how often it is cancelled.
CANCEL_GRACE = 1.0
CANCELS = 3

_current: contextvars.ContextVar[Wire | None] = contextvars.ContextVar(
    "websocket_client_wire", default=None
)


class Wire:
    """One connection, as a server with ``websocket.http.response`` keeps it (ASGI spec)."""

    _task: asyncio.Task[None]

    def __init__(self, application: ASGIApplication, scope: Scope) -> None:
        self.scope = scope
        self.accepted = False
        self.status: int | None = None  # of the response that denies it, as the body
        self.headers: list[tuple[bytes, bytes]] = []  # of the accept, or of that response
        self.body = b""
        self.subprotocol: str | None = None
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.failure: BaseException | None = None  # of the application, or of the handler in it
        # What the application has sent; None stands behind the last.
        self.messages: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._application = application
        self._answered = asyncio.get_running_loop().create_future()
        self._uid = f"django_ws_dispatch.testing.{id(self)}"
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._events.put_nowait({"type": "websocket.connect"})
        self._last: Event | None = None

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    async def open(self, timeout: float) -> None:
        """Start the application, in a copy of the test's context, and wait for its answer.

        Raises:
            TimeoutError: there is none after so many seconds.
        """
        got_request_exception.connect(self._note_failure, weak=False, dispatch_uid=self._uid)
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(timeout):
                await self._answered
        except TimeoutError:
            raise TimeoutError(
                f"{self.path} did not answer the handshake within {timeout:g} s."
                f"{self.whereabouts()}"
            ) from None

    def put(self, message: str | bytes) -> None:
        """Hand the application a message of the client's."""
        kind = "text" if isinstance(message, str) else "bytes"
        self._events.put_nowait({"type": "websocket.receive", kind: message})

    def end(self, code: int, reason: str) -> None:
        """Both sides hear of the end, behind what was said before. Only the first end counts."""
        if self.close_code is not None:
            return
        self.close_code, self.close_reason = code, reason
        self._last = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self._events.put_nowait(self._last)
        self.messages.put_nowait(None)

    async def wait_ended(self, timeout: float) -> bool:
        """Return whether the application has ended, after at most so many seconds.

        The sweep cancels a handler that does not read a while after the client has left. It comes
        round more often for a connection whose end is waited for.
        """
        deadline = monotonic() + timeout
        while not self._task.done():
            left = deadline - monotonic()
            if left <= 0:
                return False
            await asyncio.wait([self._task], timeout=min(LOOK_AFTER, left))
            if self.close_code is not None:
                for socket in list(connections.local().sockets):
                    # The application may have copied the scope.
                    if socket.scope.get("state") is self.scope["state"]:
                        deadlines.check(socket.connection, monotonic())
        return True

    async def leave(self, timeout: float) -> None:
        """Go away as a browser does whose page is left, and wait until the application has ended.

        Raises:
            TimeoutError: it had not after so many seconds; it was cancelled then.
        """
        try:
            self.end(1001, "")
            if await self.wait_ended(timeout):
                return
            where = self.whereabouts()
            outcome = "was cancelled" if await self._cancel() else "can not be cancelled"
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        finally:
            got_request_exception.disconnect(dispatch_uid=self._uid)
        raise TimeoutError(
            f"The handler of {self.path} had not ended {timeout:g} s after its client left, and "
            f"{outcome}.{where}"
        )

    def whereabouts(self) -> str:
        """Say where the handler is, for a person who wonders why nothing happens."""
        if self._task.done():
            return " Its handler has ended."
        stack = traceback.StackSummary.extract(iter(frames(self._task)))
        return " Its handler is here:\n" + "".join(stack.format())

    async def _cancel(self) -> bool:
        for _ in range(CANCELS):
            if self._task.done():
                break
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CANCEL_GRACE)
        return self._task.done()

    def _note_failure(self, *, sender: object, **kwargs: object) -> None:
        # A page that the handler asks for by itself has failures of its own.
        if _current.get() is self and isinstance(sender, type) and issubclass(sender, WebSocket):
            self.failure = sys.exc_info()[1]

    # The application's side

    async def _run(self) -> None:
        _current.set(self)
        with lanes.off():
            await self._application(self.scope, self._receive, self._send)

    def _ended(self, task: asyncio.Task[None]) -> None:
        exc = None if task.cancelled() else task.exception()
        if exc is not None:
            self.failure = exc
        if not self._answered.done():
            self.status = 500
            self._answered.set_result(None)
        self.end(1006 if exc is None else 1011, "")

    async def _receive(self) -> Event:
        event = await self._events.get()
        if event is self._last:
            self._events.put_nowait(event)
        return event

    async def _send(self, event: Event) -> None:
        kind = event["type"]
        if self.close_code is not None:
            raise OSError("The client is gone.")
        if self.accepted:
            self._take(kind, event)
        elif kind == "websocket.accept" and self.status is None:
            self.subprotocol = event.get("subprotocol")
            self.headers = list(event.get("headers") or ())
            self.accepted = True
            self._answer()
        elif kind == "websocket.close" and self.status is None:
            self.status = 403
            self._answer()
            self.end(1006, "")
        elif kind == "websocket.http.response.start" and self.status is None:
            self.status = event["status"]
            self.headers = list(event.get("headers") or ())
        elif kind == "websocket.http.response.body" and self.status is not None:
            self.body += event.get("body") or b""
            if not event.get("more_body", False):
                self._answer()
                self.end(1006, "")
        else:
            raise RuntimeError(f"The application sent {kind!r} before it accepted.")

    def _take(self, kind: str, event: Event) -> None:
        if kind == "websocket.send":
            text = event.get("text")
            self.messages.put_nowait(event["bytes"] if text is None else text)
        elif kind == "websocket.close":
            self.end(event.get("code") or 1000, event.get("reason") or "")
        else:
            raise RuntimeError(f"The application sent {kind!r} after it accepted.")

    def _answer(self) -> None:
        if not self._answered.done():
            self._answered.set_result(None)
