"""What everybody but the handler sees of a socket: who it is, what it came with, how it stands."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from django.dispatch import Signal

from .. import groups, lanes, reports
from ..auth.watch import Watch
from ..auth.watched import Watched
from ..codes import invites_back
from ..groups.envelopes import framed
from ..handshake.request import HandshakeRequest, build_request
from ..typing import Scope
from .connection import Connection
from .envelope import Named
from .opening import offered
from .state import CLOSING, WebSocketState

if TYPE_CHECKING:
    # With the plugin of django-stubs that is AUTH_USER_MODEL, as request.user has it.
    from django.contrib.auth.models import _AnyUser as AnyUser
    from django.contrib.sessions.backends.base import SessionBase
    from django.urls import ResolverMatch

__all__ = ["Socket"]


class Socket:
    """One socket, as auth, lanes, signals and the sweep know it.

    Args:
        connection: its conversation with the server.
        match: the route that has led to its handler.
    """

    __slots__ = (
        "__weakref__",
        "_match",
        "_reader",
        "_request",
        "_writer",
        "connection",
        "joined",
        "lane_ended",
        "lane_urgent",
        "named",
        "namespace",
        "watch",
        "watched",
    )

    namespace: str | None
    """``None`` as long as it is not known"""

    def __init__(self, connection: Connection, match: ResolverMatch | None = None) -> None:
        self.connection = connection
        connection.websocket = self
        self._reader = connection.reader
        self._writer = connection.writer
        self._match = match
        self._request: HandshakeRequest | None = None
        self.joined: list[groups.members.Stay] | None = None  # as often as it joined
        # Of those it is in, the groups that have options.
        self.named: dict[groups.members.Place, Named] | None = None
        self.namespace = ""
        self.watch: Watch | None = None  # as long as it is open
        self.watched: Watched | None = None
        self.lane_ended = self.lane_urgent = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} {self.ready_state.name}>"

    @property
    def path(self) -> str:
        """The path as the server gave it, escaped and cut: for log lines."""
        return self.connection.path

    # How it stands

    @property
    def ready_state(self) -> WebSocketState:
        """How it stands, as a page knows it from its own ``WebSocket``."""
        return self.connection.ready_state

    @property
    def subprotocol(self) -> str | None:
        """The chosen one, or ``None``."""
        return self.connection.subprotocol

    @property
    def close_code(self) -> int | None:
        """The close code once the socket is over, else ``None``."""
        return self.connection.close_code

    @property
    def close_reason(self) -> str | None:
        """The close reason once the socket is over, else ``None``."""
        return self.connection.close_reason

    @property
    def latency(self) -> float | None:
        """Seconds that the client took for its last pong.

        ``None`` before the first one, without pings, and on servers that do not tell: it takes
        ``--ws django_ws_dispatch.uvicorn:WebSocketProtocol``, and nothing wrapped around ``send``.
        """
        return self.connection.server.latency

    # What the handshake brought

    @property
    def scope(self) -> Scope:
        """The ASGI connection scope, as the server gave it."""
        return self.connection.scope

    @property
    def id(self) -> str:
        """Unguessable, and unique across processes and machines."""
        return self.connection.id

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
            if self.watch is not None:
                self._request.around = partial(self.watch.resolve_user, self)
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
    def resolved_user(self) -> Any:
        """The user, where somebody has asked for it; ``None`` where it is not known yet."""
        if self._request is None or not self._request.user_is_known:
            return None
        return self._request.resolve_user()

    @property
    def state(self) -> Mapping[str, Any]:
        """What ``WEBSOCKET_LIFESPAN`` yielded (ASGI spec, "Lifespan State")."""
        state: Mapping[str, Any] = self.scope.get("state") or {}
        return state

    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols that the client offered, in its order.

        Without those of this package (``django-ws-dispatch.v1``), which it answers by itself.
        """
        return offered(self.scope)

    @property
    def since(self) -> Mapping[str, str]:
        """Where the client says that it is: name of a group -> position. ``join()`` goes on there.

        Only clients of ``django-ws-dispatch.v1`` say so, such as the JavaScript one.
        """
        envelope = self.connection.envelope
        return {} if envelope is None else dict(envelope.brought.positions)

    async def send_signal(self, signal: Signal, **named: Any) -> None:
        """Send a signal about this socket; what receivers raise is logged."""
        for receiver, result in await signal.asend_robust(type(self), websocket=self, **named):
            if isinstance(result, Exception):
                reports.receiver_failed(receiver, self.path, result)

    # Whose sync work it is

    @property
    def lane(self) -> lanes.Lane | None:
        """The thread of its sync code between two reads."""
        return self._reader.lane

    @lane.setter
    def lane(self, lane: lanes.Lane | None) -> None:
        self._reader.lane = lane

    @property
    def is_between_reads(self) -> bool:
        """Whether the handler has read, and does not right now."""
        return self._reader.has_read and not self._reader.is_waiting

    @property
    def is_over(self) -> bool:
        """Whether its client has left, or it was closed."""
        return self.ready_state >= CLOSING

    @property
    def lane_user(self) -> Hashable | None:
        """Who is logged in, as far as anybody has asked."""
        user = None if self.watched is None else self.watched.user
        return None if user is None else (self.namespace, user)

    @property
    def lane_client(self) -> Hashable:
        """Who may be the same as another socket's client."""
        client = self.scope.get("client")
        return self.lane_user or (client[0] if client else id(self))

    @property
    def lane_socket(self) -> Socket:
        """Whose sync context is entered."""
        return self

    # From elsewhere

    def kick(self, code: int, reason: str = "") -> None:
        """Close it from elsewhere, behind what was sent before. Never raises or suspends."""
        self.connection.kick(code, reason)

    def leave_groups(self) -> None:
        """The handler has ended: be a member of nothing any more."""
        while self.joined:
            self.leave(self.joined[-1])

    def leave(self, stay: groups.members.Stay, *, failed: bool = False, tell: bool = False) -> None:
        """Take back one of ``joined``; twice is once.

        Args:
            stay: one of them.
            failed: the handler, after whose end its client may come back, if it is open still.
            tell: the client that the group was left; it would not say where it is any more.
        """
        if not self.joined or stay not in self.joined:
            return
        self.joined.remove(stay)
        place, seat = stay
        if place is not None:
            groups.members.local().leave(self._writer, place)
            if self.named:
                self.unname(place, tell=tell)
        if seat is not None:
            seat.leave(lingers=failed if self.ready_state < CLOSING else self._may_come_back)

    def unname(self, place: groups.members.Place, *, tell: bool = False) -> None:
        """Take back one join of a group that has options.

        Args:
            place: its. For any other nothing happens.
            tell: as for ``leave()``.
        """
        named = None if self.named is None else self.named.get(place)
        if self.named is None or named is None:
            return
        named.joins -= 1
        if named.joins:
            return
        del self.named[place]
        envelope = self.connection.envelope
        if envelope is None:
            return
        if named.audience is not None:
            named.audience.dismiss(self._writer)
        if tell and envelope.speaks and named.early is None:
            self._writer.tell(framed(["l", named.name]))

    @property
    def _may_come_back(self) -> bool:
        """Whether its client may be back in a moment: it left, or was told to try again."""
        return not self.connection.closed_here or invites_back(self.close_code or 1006)
