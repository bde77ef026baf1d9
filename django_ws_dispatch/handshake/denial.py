"""Saying no: a handshake that is answered with an HTTP response instead of a socket.

Servers with the ``websocket.http.response`` extension (ASGI spec, "WebSocket Denial Response") send
all of it; from the others the client gets their 403.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from http.cookies import CookieError, Morsel
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpResponse
from django.http.response import HttpResponseBase

from ..exceptions import Deny
from ..reports import FAILURE, denied, meaning_of, shown_path
from ..servers import Server
from ..typing import Event

__all__ = [
    "RawResponse",
    "check_header",
    "deny",
    "plain_response",
    "response_for",
    "response_headers",
]

logger = logging.getLogger("django_ws_dispatch")

# Of one connection, and the server's business (RFC 9110 section 7.6.1).
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-connection te trailer transfer-encoding "
    b"upgrade".split()
)
_WITHOUT_BODY = (204, 304)
# RFC 9110 sections 5.1 and 5.5. Of anything else servers make different things: uvicorn sends some
# of it, and has no answer left once it has refused the rest.
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class RawResponse(HttpResponse):
    """A response whose headers stay as ASGI has them: ``SimpleCookie`` would lose some cookies.

    Values of one name are joined, but for cookies.

    Raises:
        ValueError: a header can not be sent.
    """

    def __init__(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__(status=status)
        cookies: list[tuple[bytes, bytes]] = []
        joined: dict[bytes, bytes] = {}
        for header in headers:
            name, value = check_header(*header)
            if name == b"set-cookie":
                cookies.append((name, value))
            else:
                joined[name] = b"%s, %s" % (joined[name], value) if name in joined else value
        self.raw_headers = [*joined.items(), *cookies]


def plain_response(status: int) -> HttpResponseBase:
    """Return a response whose body says no more than the status does."""
    response = Deny(status).response
    if status == 503:
        response["Retry-After"] = "10"
    return response


def response_for(exc: BaseException) -> HttpResponseBase:
    """Return the response for what was raised before the handshake was accepted."""
    if isinstance(exc, Deny):
        return exc.response
    return plain_response((meaning_of(exc) or FAILURE).status)


async def deny(server: Server, response: HttpResponseBase, reason: str | None = None) -> None:
    """Answer the handshake with ``response``, or with the server's 403 where it offers no more.

    A client that has left in the meantime is no error. The response's resources are released, and
    ``request_finished`` is not sent: its receivers close database connections, which here are
    shared with sockets that are open.

    Args:
        response: any kind; a streaming one is collected first.
        reason: for the log; ``None`` where that says more already.
    """
    status = response.status_code
    offered = "websocket.http.response" in (server.scope.get("extensions") or {})
    try:
        if offered:
            status, headers, body = await _collected(response)
        if reason is not None:
            denied(shown_path(server.scope), status, reason)
        if not offered:
            await _send_all(server, {"type": "websocket.close", "code": 1000})
            return
        if server.takes_headers_once:
            # Of several cookies the last one goes: it is the outermost middleware's.
            headers = list({name: (name, value) for name, value in headers}.values())
        await _send_all(
            server,
            {"type": "websocket.http.response.start", "status": status, "headers": headers},
            {"type": "websocket.http.response.body", "body": body},
        )
        await server.finish_denial()
    finally:
        await _release(response)


async def _send_all(server: Server, *events: Event) -> None:
    """Send them, and give up a client that takes nothing: hypercorn's ``send()`` waits for it."""

    async def each() -> None:
        with suppress(OSError):
            for event in events:
                await server.send(event)

    sending = asyncio.get_running_loop().create_task(each())
    await server.see_out(sending, taken=False)
    if sending.done() and not sending.cancelled():
        sending.result()


def response_headers(response: HttpResponseBase) -> list[tuple[bytes, bytes]]:
    """Return headers and cookies as ASGI has them; ``ValueError`` if one can not be sent."""
    if isinstance(response, RawResponse):
        headers = response.raw_headers
    else:
        headers = [check_header(_encoded(key), _encoded(value)) for key, value in response.items()]
        headers += map(_cookie, response.cookies.values())
    return [header for header in headers if header[0] not in _HOP_BY_HOP]


def check_header(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Return a header as it goes on a wire; ``ValueError`` if it can not."""
    name, value = name.lower(), value.strip(b" \t")
    if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
        if name == b"set-cookie":  # what it holds is for the browser only
            raise ValueError(
                f"The cookie {value.partition(b'=')[0]!r} is not one that can be sent."
            )
        raise ValueError(f"{name!r}: {value!r} is not a header that can be sent.")
    return name, value


def _cookie(cookie: Morsel[Any]) -> tuple[bytes, bytes]:
    try:
        return check_header(b"set-cookie", _encoded(cookie.OutputString()))
    except CookieError:  # newer versions of Python check the attributes themselves
        raise ValueError(f"The cookie {cookie.key!r} is not one that can be sent.") from None


def _encoded(text: str) -> bytes:
    return text.encode("latin-1", "replace")


async def _collected(response: HttpResponseBase) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return the response's status, its headers and the whole of its body."""
    status = response.status_code
    try:
        body = await _body(response)
        headers = response_headers(response)
    except Exception:
        logger.exception("The response that was to deny a handshake failed")
        return await _collected(plain_response(500))
    if status < 200:  # an interim response is no answer
        logger.error("A handshake can not be denied with the status %s", status)
        status = 500
    headers = [header for header in headers if header[0] != b"content-length"]
    if status in _WITHOUT_BODY:
        return status, headers, b""
    return status, [*headers, (b"content-length", b"%d" % len(body))], body


async def _body(response: Any) -> bytes:
    if not getattr(response, "is_rendered", True):
        await sync_to_async(response.render)()
    if not response.streaming:
        content: bytes = response.content
        return content
    if response.is_async:
        return b"".join([part async for part in response])
    return await sync_to_async(b"".join)(response.streaming_content)


async def _release(response: Any) -> None:
    closers, response._resource_closers = response._resource_closers, []
    response.closed = True

    def close_all() -> None:
        for close in closers:
            with suppress(Exception):
                close()

    if closers:
        await sync_to_async(close_all)()
