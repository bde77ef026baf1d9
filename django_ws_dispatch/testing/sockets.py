"""One connection of the test client, both ends: what the test holds, and the server in between."""

from __future__ import annotations

import asyncio
import contextvars
import json
import sys
import traceback
from collections.abc import Mapping
from time import monotonic
from typing import Any, NoReturn

from django.core.serializers.json import DjangoJSONEncoder
from django.core.signals import got_request_exception
from django.utils.datastructures import CaseInsensitiveMapping

from .. import connections, lanes
from ..exceptions import WebSocketDisconnect
from ..typing import ASGIApplication, Event, Scope
from ..websockets import WebSocket

__all__ = ["ClientSocket", "HandshakeDenied"]

# Seconds between two looks after a handler whose client has left.
LOOK_AFTER = 0.05
# Seconds that a cancelled handler has to end.
CANCEL_GRACE = 1.0

_current: contextvars.ContextVar[ClientSocket | None] = contextvars.ContextVar(
    "websocket_client_socket", default=None
)


class HandshakeDenied(Exception):
    """The application denied the handshake.

    Attributes:
        status_code: of the response.
        headers: of the response, by name in any case; repeated ones are joined with a comma.
        body: of the response, as bytes.
    """

    def __init__(self, status_code: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"The handshake was denied with {status_code}.")
        self.status_code = status_code
        self.headers = headers
        self.body = body


class ClientSocket:
    """The client's end of a socket: ``async with client.connect(...) as socket``.

    What the handler raised is raised once by whichever comes first: ``connect()``, a receive, a
    ``send()`` on the closed socket, ``wait_closed()``, the end of the block.

    Attributes:
        subprotocol: the one that the application chose, or ``None``.
        response_headers: of the accept, by name in any case.
        close_code: once the socket is closed, by either side.
        close_reason: once the socket is closed, by either side.
    """

    def __init__(self, application: ASGIApplication, scope: Scope, *, raises: bool) -> None:
        self.subprotocol: str | None = None
        self.response_headers: Mapping[str, str] = CaseInsensitiveMapping({})
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self._application = application
        self._scope = scope
        self._raises = raises
        self._failure: BaseException | None = None
        self._accepted = False
        self._status: int | None = None
        self._body = b""
        self._answered = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        # What either side has to hear yet; ``None`` stands behind the last message.
        self._to_client: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._to_application: asyncio.Queue[Event] = asyncio.Queue()
        self._to_application.put_nowait({"type": "websocket.connect"})
        self._last: Event | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path}>"

    @property
    def _path(self) -> str:
        return str(self._scope["path"])

    # The test's side

    async def send(self, message: str | bytes) -> None:
        """Send one message: ``str`` as a text frame, ``bytes`` as a binary one.

        Raises:
            WebSocketDisconnect: the socket is closed.
            TypeError: ``message`` is neither.
        """
        if self.close_code is not None:
            self._raise_over()
        if not isinstance(message, (str, bytes)):
            raise TypeError(f"send() takes str or bytes, not {type(message).__name__}.")
        kind = "text" if isinstance(message, str) else "bytes"
        self._to_application.put_nowait({"type": "websocket.receive", kind: message})

    async def send_json(self, obj: Any) -> None:
        """Send ``obj`` as JSON in a text frame, encoded by ``DjangoJSONEncoder``.

        Raises:
            WebSocketDisconnect: the socket is closed.
        """
        await self.send(json.dumps(obj, cls=DjangoJSONEncoder))

    async def receive(self, timeout: float = 1) -> str | bytes:
        """Return the next message: ``str`` for a text frame, ``bytes`` for a binary one.

        Args:
            timeout: seconds to wait for it.

        Raises:
            WebSocketDisconnect: the socket is closed, and every message was received.
            TimeoutError: no message came in time.
        """
        try:
            async with asyncio.timeout(timeout):
                message = await self._to_client.get()
        except TimeoutError:
            raise TimeoutError(
                f"No message from {self._path} came within {timeout:g} s.{self._whereabouts()}"
            ) from None
        if message is None:
            self._to_client.put_nowait(None)
            self._raise_over()
        return message

    async def receive_json(self, timeout: float = 1) -> Any:
        """Return the next message, decoded from JSON. Args and Raises are those of ``receive()``.

        Raises:
            AssertionError: it is not JSON.
        """
        message = await self.receive(timeout)
        try:
            return json.loads(message)
        except ValueError as exc:
            raise AssertionError(f"{message!r} from {self._path} is not JSON.") from exc

    async def receive_nothing(self, within: float = 0.1) -> None:
        """Check that no message comes.

        Args:
            within: seconds to wait for one.

        Raises:
            AssertionError: one came.
            WebSocketDisconnect: the socket is closed.
        """
        try:
            async with asyncio.timeout(within):
                message = await self._to_client.get()
        except TimeoutError:
            return
        if message is None:
            self._to_client.put_nowait(None)
            self._raise_over()
        raise AssertionError(f"{self._path} sent {message!r} where nothing was expected.")

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket, as a client does; once is enough.

        Args:
            code: what the application shall see (RFC 6455 section 7.4): 1001 for a page that was
                left, 1005 for a close without a code, 1006 for a connection that broke.
            reason: at most 123 bytes of UTF-8.
        """
        if self.close_code is None:
            self._over(code, reason)

    async def wait_closed(self, timeout: float = 5) -> None:
        """Wait until the socket is closed, by either side, and its handler has ended.

        Args:
            timeout: seconds to wait.

        Raises:
            TimeoutError: it is not over in time.
        """
        if not await self._wait_ended(timeout):
            raise TimeoutError(
                f"{self._path} is not over after {timeout:g} s.{self._whereabouts()}"
            )
        self._raise_failure()

    def _raise_over(self) -> NoReturn:
        self._raise_failure()
        raise WebSocketDisconnect(self.close_code or 1006, self.close_reason or "")

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None and self._raises:
            raise failure

    def _whereabouts(self) -> str:
        """Say where the handler is, for a person who wonders why nothing happens."""
        if self._task is None or self._task.done():
            return " Its handler has ended."
        lines = []
        awaited: Any = self._task.get_coro()
        while awaited is not None:
            frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
            if frame is not None:
                lines.append((frame, frame.f_lineno))
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
        return " Its handler is here:\n" + "".join(traceback.StackSummary.extract(lines).format())

    # Entering and leaving

    async def open(self, timeout: float) -> None:
        """Start the application on this connection, and wait for its answer."""
        got_request_exception.connect(self._note_failure, weak=False, dispatch_uid=self._uid)
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(timeout):
                await self._answered
        except TimeoutError:
            raise TimeoutError(
                f"{self._path} did not answer the handshake within {timeout:g} s."
                f"{self._whereabouts()}"
            ) from None

    async def leave(self, timeout: float) -> None:
        """Go away as a browser does, and wait until the application has ended."""
        try:
            self._over(1001, "")
            if await self._wait_ended(timeout):
                return
            where = self._whereabouts()
            ended = await self._cancel()
        finally:
            got_request_exception.disconnect(dispatch_uid=self._uid)
        raise TimeoutError(
            f"The handler of {self._path} had not ended {timeout:g} s after its client left"
            f"{' and was cancelled' if ended else ', and can not be cancelled'}.{where}"
        )

    @property
    def denial(self) -> HandshakeDenied | None:
        """The answer to the handshake, if it is no."""
        if self._accepted:
            return None
        return HandshakeDenied(self._status or 403, _headers(self.raw_headers), self._body)

    def settle(self, exc: BaseException | None = None) -> None:
        """Raise what the handler raised, or note it on what the test raised."""
        if exc is None:
            self._raise_failure()
        elif self._failure is not None and self._raises:
            exc.add_note(f"The handler of {self._path} failed: {self._failure!r}")

    @property
    def _uid(self) -> str:
        return f"django_ws_dispatch.testing.{id(self)}"

    def _note_failure(self, *, sender: object, **kwargs: object) -> None:
        # A page that the handler asks for by itself has failures of its own.
        if _current.get() is self and isinstance(sender, type) and issubclass(sender, WebSocket):
            self._failure = sys.exc_info()[1]

    async def _wait_ended(self, timeout: float) -> bool:
        """Wait for the application to end. A handler that never reads is cancelled by the sweep:
        it comes round more often for a socket of which this is waited for."""
        deadline = monotonic() + timeout
        task = self._task
        while task is not None and not task.done():
            left = deadline - monotonic()
            if left <= 0:
                return False
            await asyncio.wait([task], timeout=min(LOOK_AFTER, left))
            if self.close_code is not None:
                for socket in list(connections.local().sockets):
                    if socket.scope.get("state") is self._scope["state"]:
                        socket.check(monotonic())
        return True

    async def _cancel(self) -> bool:
        task = self._task
        for _ in range(3):
            if task is None or task.done():
                return True
            task.cancel()
            await asyncio.wait([task], timeout=CANCEL_GRACE)
        return task is None or task.done()

    # The server in between

    async def _run(self) -> None:
        _current.set(self)
        with lanes.off():
            await self._application(self._scope, self._receive, self._send)

    def _ended(self, task: asyncio.Task[None]) -> None:
        exc = None if task.cancelled() else task.exception()
        if exc is not None:
            self._failure = exc
        if not self._answered.done():
            self._status = 500
            self._answered.set_result(None)
        if self.close_code is None:
            self._over(1011 if exc is not None else 1006, "")

    def _over(self, code: int, reason: str) -> None:
        """Both sides hear of the end, behind what was said before."""
        if self.close_code is not None:
            return
        self.close_code, self.close_reason = code, reason
        self._last = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self._to_application.put_nowait(self._last)
        self._to_client.put_nowait(None)

    async def _receive(self) -> Event:
        event = await self._to_application.get()
        if event is self._last:
            self._to_application.put_nowait(event)
        return event

    async def _send(self, event: Event) -> None:
        kind = event["type"]
        if self.close_code is not None:
            raise OSError("The client is gone.")
        if self._accepted:
            self._send_open(kind, event)
        elif kind == "websocket.accept" and self._status is None:
            self.subprotocol = event.get("subprotocol")
            self.raw_headers = list(event.get("headers") or ())
            self.response_headers = _headers(self.raw_headers)
            self._accepted = True
            self._answer()
        elif kind == "websocket.close" and self._status is None:
            self._status = 403
            self._answer()
            self._over(1006, "")
        elif kind == "websocket.http.response.start" and self._status is None:
            self._status = event["status"]
            self.raw_headers = list(event.get("headers") or ())
        elif kind == "websocket.http.response.body" and self._status is not None:
            self._body += event.get("body") or b""
            if not event.get("more_body", False):
                self._answer()
                self._over(1006, "")
        else:
            raise RuntimeError(f"The application sent {kind!r} before it accepted.")

    def _send_open(self, kind: str, event: Event) -> None:
        if kind == "websocket.send":
            text = event.get("text")
            self._to_client.put_nowait(text if text is not None else event["bytes"])
        elif kind == "websocket.close":
            self._over(event.get("code") or 1000, event.get("reason") or "")
        else:
            raise RuntimeError(f"The application sent {kind!r} after it accepted.")

    def _answer(self) -> None:
        if not self._answered.done():
            self._answered.set_result(None)


def _headers(raw: list[tuple[bytes, bytes]]) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return CaseInsensitiveMapping(headers)
