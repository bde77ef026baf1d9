"""The raw form: an ASGI application on a socket of this package.

Its ``receive`` and ``send`` are the thinnest wrappers that still give it the limits, the ends and
the closes that a WebSocket handler has.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..codes import CloseCode, check_close_code
from ..exceptions import WebSocketDisconnect
from ..handshake.denial import RawResponse, check_header
from ..typing import Event
from .opening import choose_subprotocol
from .state import ABSENT, BUSY, CLOSING, CONNECTING, OPEN, READING
from .writer import turns

if TYPE_CHECKING:
    from .websocket import WebSocket

__all__ = ["ConnectionGone", "RawForm"]


class ConnectionGone(OSError):
    """What a raw handler's ``send`` raises on a closed socket (ASGI spec, "Send")."""


class RawForm:
    """What a handler that speaks ASGI has of a socket: its ``receive`` and its ``send``.

    Args:
        socket: the handler's. It accepts by itself.
    """

    __slots__ = (
        "_connect_told",
        "_connection",
        "_disconnect_told",
        "_reader",
        "_response",
        "_socket",
        "_writer",
    )

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._connection = connection = socket.connection
        if connection.envelope is not None:  # else each would have a __dict__ for it
            connection.envelope = None  # who speaks ASGI speaks subprotocols by itself
        self._reader = connection.reader
        self._writer = connection.writer
        self._connect_told = self._disconnect_told = False
        self._response: RawResponse | None = None

    async def receive(self) -> Event:
        """The application's ``receive``.

        Raises:
            WebSocketDisconnect: it was told of the disconnect already.
        """
        # As reader.__anext__() has it, for the event that has the message.
        reader = self._reader
        if reader.state > ABSENT or reader.lane is not None:
            if not self._connect_told:
                self._connect_told = True
                return {"type": "websocket.connect"}
            if not reader.begins_plainly():
                return await self._receive_slowly()
        reader.state = READING
        try:
            event = await reader.server_receive()
        except asyncio.CancelledError:
            if not self._connection.was_wakeup():
                raise
            return await self._receive_slowly()
        finally:
            if reader.state == READING:
                reader.state = BUSY
        message: str | bytes | None = event["text"] if "text" in event else event.get("bytes")
        if message is not None and len(message) <= reader.size_unchecked:
            return event
        if reader.take(event) is not None:
            return event
        return await self._receive_slowly()

    async def _receive_slowly(self) -> Event:
        connection = self._connection
        if connection.ready_state < CLOSING or self._reader.inbox:
            try:
                message = await self._reader.read_slowly(accept=False)
            except StopAsyncIteration:
                pass
            else:
                kind = "text" if isinstance(message, str) else "bytes"
                return {"type": "websocket.receive", kind: message}
        if self._disconnect_told:
            await asyncio.sleep(0)  # or who reads on regardless would block the loop
            raise connection.disconnect()
        self._disconnect_told = True
        code, reason = connection.close_code or 1006, connection.close_reason or ""
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def send(self, event: Event) -> None:
        """The application's ``send``.

        Raises:
            ConnectionGone: the socket is over.
            RuntimeError: the event does not fit the state (ASGI spec, "WebSocket").
            ValueError: a close code or a header that may not be sent.
        """
        writer = self._writer
        if writer.state or event["type"] != "websocket.send":  # FREE is 0
            await self._send_slowly(event)
            return
        try:
            await writer.server_send(event)
        except (OSError, RuntimeError) as exc:
            if self._connection.server.is_too_big(exc):
                raise
            self._connection.lost()
            raise ConnectionGone("The client is gone.") from exc
        if next(turns):
            await asyncio.sleep(0)

    async def _send_slowly(self, event: Event) -> None:
        kind = event["type"]
        state = self._connection.ready_state
        try:
            if state is CONNECTING:
                await self._answer(kind, event)
            elif kind == "websocket.close":
                # Once is enough, and a client that left needs none.
                code = check_close_code(event.get("code") or CloseCode.DONE)
                await self._socket.close(code, event.get("reason") or "")
            elif state is not OPEN:
                await asyncio.sleep(0)
                raise self._connection.disconnect()
            elif kind == "websocket.send":
                await self._writer.send(event)
            else:
                raise RuntimeError(f"{kind!r} can not be sent on a socket that is accepted.")
        except WebSocketDisconnect as exc:
            raise ConnectionGone(f"The socket is closed ({exc}).") from exc

    async def _answer(self, kind: str, event: Event) -> None:
        """Pass on what the application answers to the handshake.

        Some have one "not found" for pages and sockets, and answer as to a page: Socket.IO does.
        """
        connection = self._connection
        if kind.startswith("http.response."):
            kind = f"websocket.{kind}"
        if self._response is not None:
            if kind != "websocket.http.response.body":
                raise RuntimeError(f"The body of the denial must follow, not {kind!r}.")
            self._response.write(event.get("body", b""))
            if not event.get("more_body", False):
                await connection.deny(self._response, "the handler answered so")
        elif kind == "websocket.accept":
            headers = [*(event.get("headers") or ())]
            for name, value in headers:
                check_header(name, value)
            if connection.accept_headers:
                headers = [*connection.accept_headers, *headers]
                event = {**event, "headers": headers}
            if connection.subprotocols and event.get("subprotocol") is None:
                event = {**event, "subprotocol": choose_subprotocol(connection)}
            await connection.accept(event)
        elif kind == "websocket.close":
            await self._socket.close()
        elif kind == "websocket.http.response.start":
            self._response = RawResponse(event["status"], event.get("headers") or ())
        else:
            raise RuntimeError(f"Accept or deny the handshake before {kind!r}.")
