"""The raw form: an ASGI application on a socket of this package.

Its ``receive`` and ``send`` are the thinnest wrappers that still give it the limits, the ends and
the closes that a WebSocket handler has.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from .. import servers
from ..codes import CloseCode, check_close_code
from ..exceptions import WebSocketDisconnect
from ..handshake.denial import RawResponse, check_header
from ..typing import Event
from .reader import AWAY, IDLE, READING
from .websocket import WebSocket
from .writer import CLOSING, CONNECTING, OPEN, turns

__all__ = ["ConnectionGone", "RawSocket"]


class ConnectionGone(OSError):
    """What a raw handler's ``send`` raises on a closed socket (ASGI spec, "Send")."""


class RawSocket(WebSocket):
    """A WebSocket whose handler speaks ASGI with it."""

    __slots__ = ("_connect_told", "_disconnect_told")

    _response: RawResponse | None = None

    def __init__(self, *made_of: Any) -> None:
        super().__init__(*made_of)
        self._connect_told = self._disconnect_told = False

    async def _ensure_accepted(self) -> None:
        """A raw handler accepts by itself."""

    async def asgi_receive(self) -> Event:
        """The application's ``receive``.

        Raises:
            WebSocketDisconnect: it was told of the disconnect already.
        """
        if self._phase > AWAY or self.lane is not None:
            if not self._connect_told:
                self._connect_told = True
                return {"type": "websocket.connect"}
            if not self._first_is_plain():
                return await self._asgi_receive_slowly()
        self._phase = READING
        try:
            event = await self._server_receive()
        except asyncio.CancelledError:
            if not self._only_woken():
                raise
            return await self._asgi_receive_slowly()
        finally:
            if self._phase == READING:
                self._phase = IDLE
        message: str | bytes | None = event["text"] if "text" in event else event.get("bytes")
        if message is not None and len(message) <= self._size_unchecked:
            return event
        if self._take(event) is not None:
            return event
        return await self._asgi_receive_slowly()

    async def _asgi_receive_slowly(self) -> Event:
        if self.ready_state < CLOSING or self._inbox:
            with suppress(WebSocketDisconnect):
                message = await self._read_slowly(WebSocketDisconnect)
                kind = "text" if isinstance(message, str) else "bytes"
                return {"type": "websocket.receive", kind: message}
        code, reason = self.close_code or 1006, self.close_reason or ""
        if self._disconnect_told:
            await asyncio.sleep(0)  # or who reads on regardless would block the loop
            raise WebSocketDisconnect(code, reason)
        self._disconnect_told = True
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def asgi_send(self, event: Event) -> None:
        """The application's ``send``.

        Raises:
            ConnectionGone: the socket is over.
            RuntimeError: the event does not fit the state (ASGI spec, "WebSocket").
            ValueError: a close code or a header that may not be sent.
        """
        if self.wire or event["type"] != "websocket.send":  # FREE is 0
            await self._asgi_send_slowly(event)
            return
        try:
            await self.server_send(event)
        except (OSError, RuntimeError) as exc:
            if servers.is_too_big(exc):
                raise
            self._lost()
            raise ConnectionGone("The client is gone.") from exc
        if next(turns):
            await asyncio.sleep(0)

    async def _asgi_send_slowly(self, event: Event) -> None:
        kind = event["type"]
        state = self.ready_state
        try:
            if state is CONNECTING:
                await self._answer(kind, event)
            elif kind == "websocket.close":
                # Once is enough, and a client that left needs none.
                code = check_close_code(event.get("code") or CloseCode.DONE)
                await self.close(code, event.get("reason") or "")
            elif state is not OPEN:
                await asyncio.sleep(0)
                raise self._over(WebSocketDisconnect)
            elif kind == "websocket.send":
                await self._transmit(event)
            else:
                raise RuntimeError(f"{kind!r} can not be sent on a socket that is accepted.")
        except WebSocketDisconnect as exc:
            raise ConnectionGone(f"The socket is closed ({exc}).") from exc

    async def _answer(self, kind: str, event: Event) -> None:
        """Pass on what the application answers to the handshake.

        Some have one "not found" for pages and sockets, and answer as to a page: Socket.IO does.
        """
        if kind.startswith("http.response."):
            kind = f"websocket.{kind}"
        if self._response is not None:
            if kind != "websocket.http.response.body":
                raise RuntimeError(f"The body of the denial must follow, not {kind!r}.")
            self._response.write(event.get("body", b""))
            if not event.get("more_body", False):
                await self.deny(self._response, "the handler answered so")
        elif kind == "websocket.accept":
            headers = [*(event.get("headers") or ())]
            for name, value in headers:
                check_header(name, value)
            if self._accept_headers:
                headers = [*self._accept_headers, *headers]
                event = {**event, "headers": headers}
            if self._subprotocols and event.get("subprotocol") is None and (one := self._choose()):
                event = {**event, "subprotocol": one}
            await self._accept(event)
        elif kind == "websocket.close":
            await self.close()
        elif kind == "websocket.http.response.start":
            self._response = RawResponse(event["status"], event.get("headers") or ())
        else:
            raise RuntimeError(f"Accept or deny the handshake before {kind!r}.")
