"""One line for each answer in the development server's log, as Django's runserver has it."""

from __future__ import annotations

import logging
import time

from ..reports import shown
from ..typing import ASGIApplication, Event, Receive, Scope, Send

__all__ = ["AccessLog"]

logger = logging.getLogger("django.server")


class AccessLog:
    """An ASGI application that logs what another one answers.

    A page has one line, when its response has ended; a socket has one when it opens and one when it
    is over.
    """

    def __init__(self, application: ASGIApplication) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._page(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self.application(scope, receive, send)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        status: int | None = None
        size = 0

        async def counting_send(event: Event) -> None:
            nonlocal status, size
            if event["type"] == "http.response.start":
                status = event["status"]
            size += len(event.get("body", b""))
            await send(event)

        try:
            await self.application(scope, receive, counting_send)
        finally:
            if status is not None:  # else the client left, or the server logs why
                query = scope.get("query_string", b"")
                url = _path(scope) + (f"?{shown(query.decode('latin-1'))}" if query else "")
                line = f"{scope['method']} {url} HTTP/{scope['http_version']}"
                _log(status, '"%s" %d %d', line, status, size)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = _path(scope)
        opened = False
        code: object = ""

        async def noting_receive() -> Event:
            nonlocal code
            event = await receive()
            if event["type"] == "websocket.disconnect":
                code = code or event.get("code", "")
            return event

        async def noting_send(event: Event) -> None:
            nonlocal opened, code
            kind, status = event["type"], None
            if kind == "websocket.accept":
                opened, status = True, 101
            elif kind == "websocket.http.response.start":
                status = event["status"]
            elif kind == "websocket.close" and not opened:
                status = 403
            elif kind == "websocket.close":
                code = code or event.get("code", 1000)
            if status is not None:
                _log(status, '"WebSocket %s" %d', path, status)
            await send(event)

        try:
            await self.application(scope, noting_receive, noting_send)
        finally:
            if opened:
                _log(None, '"WebSocket %s" closed %s', path, code)


def _path(scope: Scope) -> str:
    """The path as it came, percent-encoded."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return shown(raw.decode("latin-1"))


def _log(status: int | None, message: str, *args: object) -> None:
    """Log a line at the level, and in the colour, of a status."""
    level = logging.INFO
    if status is not None and status >= 400:
        level = logging.ERROR if status >= 500 else logging.WARNING
    server_time = time.strftime("%d/%b/%Y %H:%M:%S")
    logger.log(level, message, *args, extra={"status_code": status, "server_time": server_time})
