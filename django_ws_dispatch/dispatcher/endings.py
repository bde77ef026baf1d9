"""What the end of a handler means: for the client, for the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.core.exceptions import SuspiciousOperation
from django.core.signals import got_request_exception
from django.http.response import HttpResponseBase

from .. import lanes, reports, servers
from ..codes import CloseCode
from ..exceptions import BrokerError, Deny
from ..handshake.denial import deny, plain_response, response_for
from ..handshake.origin import Refusal
from ..handshake.request import HandshakeRequest, build_request
from ..reports import FAILURE, Meaning, meaning_of, shown_path
from ..signals import websocket_closed
from ..typing import Scope, Send
from ..websockets import WebSocket
from ..websockets.raw import ConnectionGone
from ..websockets.state import CLOSED, CLOSING, CONNECTING, OPEN

__all__ = ["fail", "finish", "refuse", "report"]

connection_logger = logging.getLogger("django_ws_dispatch.connection")

# Seconds that the receivers of a signal may take.
SIGNAL_GRACE = 5.0


async def refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Deny a handshake before there is a socket."""
    await _deny(scope, send, plain_response(refusal.status), refusal.reason)


async def _deny(scope: Scope, send: Send, response: HttpResponseBase, reason: str | None) -> None:
    server = servers.of(send, scope)
    await deny(server, response, reason)
    await server.see_out()


async def fail(scope: Scope, send: Send, exc: Exception) -> None:
    """Answer a handshake that failed before there was a socket.

    What a URL converter raises means what it would mean if the handler raised it.
    """
    path = shown_path(scope)
    meant, meaning = _meant(exc)
    reason = None
    if meaning is FAILURE:
        request_of = partial(build_request, scope)
        await _report(exc, FAILURE.status, request_of, "The handshake of %s failed", path)
    else:
        reason = _reason(meant, path, "routing")
    await _deny(scope, send, response_for(meant), reason)


async def finish(socket: WebSocket, exc: BaseException | None) -> None:
    """The one way out: answer or close for what the handler raised, then take the socket down.

    Raises:
        BaseException: a cancellation that is not this package's, or ``KeyboardInterrupt`` and its
            like.
    """
    connection = socket.connection
    cancelled = connection.end_handler()
    # Nothing from here on waits for a call that the handler has left on its lane.
    socket.lane_ended = True
    if connection.reader.lane is not None:
        lanes.release(socket)
    # A handler that swallowed it has ended; a task group of Python 3.11 leaves a request behind.
    stopped = cancelled and isinstance(exc, asyncio.CancelledError)
    if stopped or (cancelled and socket.close_code == CloseCode.RESTART):
        connection.hurried = True
    try:
        if exc is not None and not is_disconnect(exc, socket):
            if stopped:
                socket.kick(CloseCode.RESTART, "server restart")
            else:
                await _answer(socket, exc)
        if connection.ready_state is CONNECTING:
            reason = "the handler returned without accepting"
            await connection.deny(Deny(403).response, reason)
        if socket.joined:
            socket.leave_groups()
        if (
            connection.ready_state is not CLOSED
            or connection.writer.task is not None
            or connection.server.unsent
        ):
            await connection.aclose()
        if connection.accepted and websocket_closed.receivers:
            async with _bounded("websocket_closed", socket.path, socket):
                await socket.send_signal(
                    websocket_closed, code=socket.close_code, reason=socket.close_reason
                )
    finally:
        connection.release()
    if stopped:
        raise asyncio.CancelledError
    if exc is not None and isinstance(exc, (KeyboardInterrupt, SystemExit)):
        raise exc


def is_disconnect(exc: BaseException, socket: WebSocket) -> bool:
    """Whether an exception only says that the socket is over, or that this package cancelled."""
    if isinstance(exc, BaseExceptionGroup):
        return all(is_disconnect(one, socket) for one in exc.exceptions)
    if isinstance(exc, asyncio.CancelledError):
        return socket.connection.was_cancelled
    if socket.ready_state < CLOSING:
        return False
    # A framework that is mounted here has a WebSocketDisconnect of its own, and lets it pass.
    return isinstance(exc, ConnectionGone) or type(exc).__name__ == "WebSocketDisconnect"


def _meant(exc: BaseException, socket: WebSocket | None = None) -> tuple[BaseException, Meaning]:
    """Return the exception that says what an end means, and what that is.

    A group, as a ``TaskGroup`` raises it, means what the first of its exceptions does that is no
    disconnect. One failure in it is a failure.
    """
    if isinstance(exc, BaseExceptionGroup):
        found = [
            _meant(one, socket)
            for one in exc.exceptions
            if socket is None or not is_disconnect(one, socket)
        ]
        if not found or any(meaning is FAILURE for _, meaning in found):
            return exc, FAILURE
        return found[0]
    if isinstance(exc, BrokerError) and socket is not None and socket.connection.accepted:
        return exc, FAILURE
    return exc, meaning_of(exc) or FAILURE


def _reason(meant: BaseException, path: str, where: str) -> str | None:
    """Return what the denial's line has to say; ``None`` after an outage, which has its own."""
    if not isinstance(meant, BrokerError):
        return f"the {where} raised {type(meant).__name__}"
    reports.broker_failed(path, meant)
    return None


async def _answer(socket: WebSocket, exc: BaseException) -> None:
    meant, meaning = _meant(exc, socket)
    connecting = socket.ready_state is CONNECTING
    reason = None
    if meaning is FAILURE:
        await report(socket, exc, connecting=connecting)
    else:
        reason = _reason(meant, socket.path, "handler")
        if socket.ready_state is OPEN:
            reports.closed(socket.path, meaning.code, str(reason))
    if connecting:
        with lanes.lane_for(socket):  # it may have to be rendered
            await socket.connection.deny(response_for(meant), reason)
    else:
        socket.kick(meaning.code)


async def report(
    socket: WebSocket, exc: BaseException, culprit: str | None = None, *, connecting: bool = True
) -> None:
    """One traceback, and Django's signal, for a handler, or a culprit before it, that failed."""
    line: tuple[str, ...] = ("The handler of %s failed", socket.path)
    if culprit is not None:
        line = ("The handshake of %s failed in %s", socket.path, culprit)
    code = FAILURE.status if connecting else FAILURE.code
    await _report(exc, code, lambda: socket.request, *line)


@asynccontextmanager
async def _bounded(signal: str, path: str, socket: WebSocket | None = None) -> AsyncIterator[None]:
    """Send a signal on a lane of its own, and wait for its receivers no longer than they may take.

    Somebody else's call may block that lane, and a server that stops waits for this.
    """
    try:
        with lanes.lane_for(socket):
            async with asyncio.timeout(SIGNAL_GRACE):
                yield
    except TimeoutError:
        connection_logger.error(
            "The receivers of %s took over %d s for %s: they are not waited for any more.",
            signal,
            SIGNAL_GRACE,
            path,
            extra={"path": path},
        )


async def _report(
    exc: BaseException,
    code: int,
    request_of: Callable[[], HandshakeRequest],
    text: str,
    path: str,
    *args: str,
) -> None:
    extra: dict[str, Any] = {"status_code": int(code)}
    with suppress(SuspiciousOperation):
        extra["request"] = request_of()
    reports.failed(text, path, *args, exc=exc, **extra)
    if not got_request_exception.receivers:
        return
    try:
        raise exc
    except BaseException:
        # Receivers look at sys.exc_info(), which asend_robust() hides before Django 6.0.
        send = sync_to_async(got_request_exception.send_robust)
        async with _bounded("got_request_exception", path):
            for receiver, result in await send(WebSocket, request=extra.get("request")):
                if isinstance(result, Exception):
                    reports.receiver_failed(receiver, path, result)
