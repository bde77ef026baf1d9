"""The opening of a socket: the handshake as a Django request, and the answer to it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Hashable, Iterable, Mapping
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from django.dispatch import Signal
from django.http.response import HttpResponseBase

from .. import groups, servers
from ..auth.watch import Watch, Watched
from ..exceptions import WebSocketDisconnect
from ..handshake.denial import check_header, deny
from ..handshake.request import HandshakeRequest, build_request
from ..limits import Limits
from ..signals import websocket_opened
from ..typing import Event, Receive, Scope, Send
from .connection import Connection
from .reader import APART
from .writer import BUSY, CLOSED, CONNECTING, OPEN, SHUT

if TYPE_CHECKING:
    # With the plugin of django-stubs that is AUTH_USER_MODEL, as request.user has it.
    from django.contrib.auth.models import _AnyUser as AnyUser
    from django.contrib.sessions.backends.base import SessionBase
    from django.urls import ResolverMatch

__all__ = ["Headers", "Home", "Opening"]


class Home(Protocol):
    """Where the open sockets of an event loop are: ``connections.Connections``."""

    watch: Watch

    def remove(self, socket: Any, /) -> None:
        """The socket is over."""


Headers = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]


class Opening(Connection):
    """A socket as far as its handshake goes."""

    __slots__ = (
        "_accept_headers",
        "_joined",
        "_match",
        "_request",
        "_subprotocols",
        "home",
        "namespace",
        "subprotocol",
        "watched",
    )

    subprotocol: str | None
    home: Home | None
    _subprotocols: tuple[str, ...]
    _match: ResolverMatch | None
    _request: HandshakeRequest | None
    _joined: list[groups.members.Place] | None  # as often as it joined
    watched: Watched | None
    namespace: str | None
    """``None`` as long as it is not known"""
    _accept_headers: list[tuple[bytes, bytes]] | None
    _id: str | None = None

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        limits: Limits,
        subprotocols: tuple[str, ...] = (),
        match: ResolverMatch | None = None,
    ) -> None:
        self.scope = scope
        self._server_receive = receive
        self.server_send = send
        self._own_send = servers.own_send(send)
        self._limits = limits
        self._subprotocols = subprotocols
        self._match = match
        self._task = asyncio.current_task()  # that of the handler
        self.ready_state = CONNECTING
        self._phase = APART
        self.wire = SHUT
        self._cancels = 0
        self.accepted = self.has_read = self.attends = self._code_known = False
        self.lane_ended = self.lane_urgent = False
        self.subprotocol = self.close_code = self.close_reason = None
        self.namespace = ""
        self.home = self.watched = self.lane = self._request = self._accept_headers = None
        self._joined = self._outbox = self._writer = self._ahead = self._waiter = None
        self._inbox = self._cancel_at = self._abort_at = self._left_at = None
        # No character takes more than four bytes: so long a message needs no closer look.
        self._size_unchecked = limits.max_message_size // 4
        if limits.rate is not None or limits.idle_timeout is not None:
            self._watch_limits()

    @property
    def lane_user(self) -> Hashable | None:
        """Who is logged in, as far as anybody has asked."""
        user = None if self.watched is None else self.watched.user
        return None if user is None else (self.namespace, user)

    # What the handshake brought

    @property
    def id(self) -> str:
        """Unguessable, and unique across processes and machines."""
        if self._id is None:
            self._id = secrets.token_urlsafe(16)
        return self._id

    @property
    def request(self) -> HandshakeRequest:
        """The handshake as a Django request (method ``GET``), with ``resolver_match`` set.

        Raises:
            SuspiciousOperation: its query string is not UTF-8.
        """
        if self._request is None:
            self._request = build_request(self.scope)
            if self._match is not None:
                self._request.resolver_match = self._match
            if self.home is not None:
                self._request.around = partial(self.home.watch.resolve_user, self)
        return self._request

    @property
    def session(self) -> SessionBase:
        """The session of the handshake's cookie, as ``request.session``. Nothing is loaded yet."""
        return self.request.session

    @property
    def user(self) -> AnyUser:
        """The user, once ``await auser()`` has resolved it or a decorator asked for it.

        Raises:
            SynchronousOnlyOperation: it has not been resolved, and a query would block the loop.
        """
        user: AnyUser = self.request.resolve_user()
        return user

    async def auser(self) -> AnyUser:
        """Resolve and return the user that the handshake's session names, without writing to it."""
        user: AnyUser = await self.request.auser()
        return user

    @property
    def state(self) -> Mapping[str, Any]:
        """What ``WEBSOCKET_LIFESPAN`` yielded (ASGI spec, "Lifespan State")."""
        state: Mapping[str, Any] = self.scope.get("state") or {}
        return state

    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols that the client offered, in its order."""
        return list(self.scope.get("subprotocols") or ())

    # The opening handshake

    async def accept(self, subprotocol: str | None = None, headers: Headers | None = None) -> None:
        """Accept the handshake.

        Args:
            subprotocol: one that the client offered. Without it the first offered one among those
                that the handler declares with ``@subprotocols`` is chosen.
            headers: more headers for the 101 response.

        Raises:
            RuntimeError: it is accepted already.
            ValueError: the client did not offer the subprotocol (RFC 6455 section 4.1), or a header
                carries one, or can not be sent.
            WebSocketDisconnect: the client is gone, or the socket was closed.
        """
        await self._accept(self._accept_event(subprotocol, headers))

    def _accept_event(
        self, subprotocol: str | None = None, headers: Headers | None = None
    ) -> Event:
        if self.ready_state is not CONNECTING:
            if self.ready_state is OPEN:
                raise RuntimeError(
                    "This socket is accepted already. Call accept() once, before the first "
                    "receive, send or join, or leave it out."
                )
            raise self._over(WebSocketDisconnect)
        offered = self.scope.get("subprotocols") or ()
        if subprotocol is None:
            if self._subprotocols:
                subprotocol = self._choose()
        elif subprotocol not in offered:
            raise ValueError(
                f"The client did not offer the subprotocol {subprotocol!r} but "
                f"{', '.join(map(repr, offered)) or 'none'}."
            )
        event: Event = {"type": "websocket.accept"}
        if subprotocol is not None:
            event["subprotocol"] = subprotocol
        if headers is not None or self._accept_headers is not None:
            event["headers"] = (self._accept_headers or []) + _raw_headers(headers or ())
        return event

    def _choose(self) -> str | None:
        """Return the first offered subprotocol among the handler's declared ones."""
        offered = self.scope.get("subprotocols") or ()
        return next((one for one in offered if one in self._subprotocols), None)

    async def _accept(self, event: Event) -> None:
        if "subprotocol" in event:
            self.subprotocol = event["subprotocol"]
        self.accepted = True
        self.ready_state = OPEN
        # Still APART: the first read goes the slow way, and is remembered.
        self.wire = BUSY
        try:
            await self.server_send(event)
        except (OSError, RuntimeError) as exc:
            self.accepted = False
            self._lost()
            raise self._over(WebSocketDisconnect) from exc
        except Exception:
            # It has refused the event, as hypercorn does a subprotocol that nobody offered.
            self.accepted, self.subprotocol, self.ready_state = False, None, CONNECTING
            raise
        finally:
            if self.wire == BUSY:
                self._hand_over()
        if self._heard is not None:
            self._heard = monotonic()  # it could say nothing before
        if websocket_opened.receivers:
            await self.send_signal(websocket_opened)

    def accept_with(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Send these headers with the accept, whoever accepts."""
        self._accept_headers = headers

    async def send_signal(self, signal: Signal, **named: Any) -> None:
        """Send a signal about this socket."""
        raise NotImplementedError

    async def _ensure_accepted(self) -> None:
        if self.ready_state is CONNECTING:
            await self._accept(self._accept_event())

    async def deny(self, response: HttpResponseBase, reason: str | None) -> None:
        """Answer the handshake with ``response``. Nothing happens once it was answered.

        Args:
            response: any kind.
            reason: for the log; ``None`` where that says more already.
        """
        if self.denied or self.ready_state is CLOSED:
            return
        self.denied = True
        self._disconnected(1006, "")
        self._cancel_after()
        await deny(self.server_send, self.scope, response, reason)


def _raw_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Headers for an accept event: lower-case names (ASGI spec, "Accept")."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    raw = [check_header(_encoded(name), _encoded(value)) for name, value in pairs]
    if any(name == b"sec-websocket-protocol" for name, _ in raw):
        raise ValueError("Pass the subprotocol as accept(subprotocol=...), not as a header.")
    return raw


def _encoded(text: str | bytes) -> bytes:
    if not isinstance(text, (str, bytes)):
        raise TypeError(f"Names and values of headers are str or bytes, not {text!r}.")
    return text if isinstance(text, bytes) else text.encode("latin-1")
