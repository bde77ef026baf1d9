"""What the end of a handler means: for the client, for the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.core.exceptions import SuspiciousOperation
from django.core.signals import got_request_exception
from django.http.response import HttpResponseBase

from .. import lanes, reports, servers
from ..codes import CloseCode
from ..exceptions import BrokerError, Deny
from ..handshake.denial import deny, response_for
from ..handshake.denial import refuse as plain_response
from ..handshake.origin import Refusal
from ..handshake.request import HandshakeRequest, build_request
from ..reports import shown_path
from ..signals import websocket_closed
from ..typing import Scope, Send
from ..websockets import WebSocket
from ..websockets.raw import ConnectionGone
from ..websockets.state import CLOSED, CLOSING, CONNECTING, OPEN
from . import sweep

__all__ = ["fail", "finish", "refuse", "report"]

connection_logger = logging.getLogger("django_ws_dispatch.connection")

# Seconds that the receivers of a signal may take.
SIGNAL_GRACE = 5.0


async def refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Deny a handshake before there is a socket."""
    status, reason = refusal
    await _deny(scope, send, plain_response(status), reason)


async def _deny(
    scope: Scope, send: Send, response: HttpResponseBase, reason: str | None = None
) -> None:
    server = servers.of(send, scope)
    await deny(server, response, reason)
    await server.see_out()


async def fail(scope: Scope, send: Send, exc: Exception) -> None:
    """Answer a handshake that failed before there was a socket.

    What a URL converter raises means what it would mean if the handler raised it.
    """
    path = shown_path(scope)
    if (meant := _meant(exc)) is not None:
        reason = _reason(meant, path, "routing")
        await _deny(scope, send, response_for(meant), reason)
        return
    reports.failed("The handshake of %s failed", path, exc=exc, status_code=500)
    try:
        request = build_request(scope)
    except SuspiciousOperation:
        request = None
    await _announce(exc, WebSocket, request, path)
    await _deny(scope, send, response_for(exc))


async def finish(socket: WebSocket, exc: BaseException | None) -> None:
    """The one way out: answer or close for what the handler did, then take the socket down.

    Args:
        exc: what the handler raised, ``None`` if it returned.

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
        sweep.local().remove(socket)
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


def _meant(exc: BaseException, socket: WebSocket | None = None) -> BaseException | None:
    """Return the exception that says what an end means; ``None`` for a failure.

    A group, as a ``TaskGroup`` raises it, means what the first of its exceptions does that is no
    disconnect. One failure in it is a failure.
    """
    if isinstance(exc, BaseExceptionGroup):
        found = [
            _meant(one, socket)
            for one in exc.exceptions
            if socket is None or not is_disconnect(one, socket)
        ]
        return found[0] if found and None not in found else None
    if isinstance(exc, BrokerError):
        return exc if socket is None or not socket.connection.accepted else None
    return exc if reports.meaning_of(exc) is not None else None


def _reason(meant: BaseException, path: str, where: str) -> str | None:
    """Return what the denial's line has to say; ``None`` after an outage, which has its own."""
    if not isinstance(meant, BrokerError):
        return f"the {where} raised {type(meant).__name__}"
    reports.broker_failed(path, meant)
    return None


async def _answer(socket: WebSocket, exc: BaseException) -> None:
    meant = _meant(exc, socket)
    connecting = socket.ready_state is CONNECTING
    code, reason = int(CloseCode.FAILED), None
    if meant is None:
        await report(socket, exc, connecting=connecting)
    else:
        code = getattr(reports.meaning_of(meant), "code", CloseCode.FAILED)
        reason = _reason(meant, socket.path, "handler")
        if socket.ready_state is OPEN:
            reports.closed(socket.path, code, str(reason))
    if connecting:
        with lanes.lane_for(socket):  # it may have to be rendered
            await socket.connection.deny(response_for(meant or exc), reason)
    else:
        socket.kick(code, "")


async def report(
    socket: WebSocket, exc: BaseException, culprit: str | None = None, *, connecting: bool = True
) -> None:
    """One traceback, and Django's signal, for a handler that failed.

    Args:
        culprit: another one than the handler, as in ``"the middleware a.b.C"``.
        connecting: whether the socket was not accepted yet.
    """
    extra: dict[str, Any] = {"status_code": 500 if connecting else int(CloseCode.FAILED)}
    try:
        request = extra["request"] = socket.request
    except SuspiciousOperation:
        request = None
    if culprit is None:
        reports.failed("The handler of %s failed", socket.path, exc=exc, **extra)
    else:
        text = "The handshake of %s failed in %s"
        reports.failed(text, socket.path, culprit, exc=exc, **extra)
    await _announce(exc, type(socket), request, socket.path)


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


async def _announce(
    exc: BaseException, sender: type[WebSocket], request: HandshakeRequest | None, path: str
) -> None:
    """Send Django's signal. What its receivers raise is logged."""
    if not got_request_exception.receivers:
        return
    try:
        raise exc
    except BaseException:
        # Receivers look at sys.exc_info(), which asend_robust() hides before Django 6.0.
        send = sync_to_async(got_request_exception.send_robust)
        async with _bounded("got_request_exception", path):
            for receiver, result in await send(sender, request=request):
                if isinstance(result, Exception):
                    reports.receiver_failed(receiver, path, result)
