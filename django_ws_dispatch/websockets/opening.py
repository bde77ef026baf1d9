"""The event that accepts a handshake: its subprotocol and its headers (ASGI spec, "Accept")."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from ..groups.envelopes import SINCE, SUBPROTOCOL
from ..handshake.denial import check_header
from ..typing import Event, Scope
from .state import CONNECTING, OPEN

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Headers", "accept_event", "choose_subprotocol", "offered"]

Headers = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]


def accept_event(
    connection: Connection, subprotocol: str | None = None, headers: Headers | None = None
) -> Event:
    """Return the event that accepts, as ``WebSocket.accept()`` has it.

    Raises:
        RuntimeError: the socket is accepted already.
        ValueError: the client did not offer the subprotocol, or a header can not be sent.
        WebSocketDisconnect: the socket is over.
    """
    if connection.ready_state is not CONNECTING:
        if connection.ready_state is OPEN:
            raise RuntimeError(
                "This socket is accepted already. Call accept() once, before the first "
                "receive, send or join, or leave it out."
            )
        raise connection.disconnect()
    if subprotocol is None:
        if connection.subprotocols:
            subprotocol = choose_subprotocol(connection)
    elif subprotocol not in (connection.scope.get("subprotocols") or ()):
        shown = ", ".join(map(repr, offered(connection.scope)))
        raise ValueError(
            f"The client did not offer the subprotocol {subprotocol!r} but {shown or 'none'}."
        )
    if subprotocol is None and connection.envelope is not None:
        subprotocol = SUBPROTOCOL
    event: Event = {"type": "websocket.accept"}
    if subprotocol is not None:
        event["subprotocol"] = subprotocol
    if headers is not None or connection.accept_headers is not None:
        event["headers"] = (connection.accept_headers or []) + _raw_headers(headers or ())
    return event


def offered(scope: Scope) -> list[str]:
    """Return the subprotocols that a client offers a handler: without those of this package."""
    every: Collection[str] = scope.get("subprotocols") or ()
    if SUBPROTOCOL not in every:
        return list(every)
    return [one for one in every if one != SUBPROTOCOL and not one.startswith(SINCE)]


def choose_subprotocol(connection: Connection) -> str | None:
    """Return the first offered subprotocol among those that the handler declares."""
    every = connection.scope.get("subprotocols") or ()
    return next((one for one in every if one in connection.subprotocols), None)


def _raw_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    raw = [check_header(_encoded(name), _encoded(value)) for name, value in pairs]
    if any(name == b"sec-websocket-protocol" for name, _ in raw):
        raise ValueError("Pass the subprotocol as accept(subprotocol=...), not as a header.")
    return raw


def _encoded(text: str | bytes) -> bytes:
    if not isinstance(text, (str, bytes)):
        raise TypeError(f"Names and values of headers are str or bytes, not {text!r}.")
    return text if isinstance(text, bytes) else text.encode("latin-1")
