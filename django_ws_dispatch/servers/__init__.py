"""What servers can not do, in one place: one ``Server`` for each connection.

ASGI has no word for any of this. ``docs/topics/servers`` has the whole table.
"""

from __future__ import annotations

from types import FunctionType

from ..typing import Scope, Send
from .own import Own
from .quirks import KINDS, Server, is_forced_to_exit, is_told_to_exit
from .search import own_send, package_of
from .wire import EXTENSION, Wire

__all__ = ["Server", "Wire", "is_forced_to_exit", "is_told_to_exit", "of"]

# The types of the objects whose methods servers hand out, seen so far.
_known: dict[type, type[Server]] = {}


def of(send: Send, scope: Scope) -> Server:
    """Return the server of a connection, known by the ``send`` that it hands out.

    Args:
        send: the application's; middleware may stand around it.
        scope: the connection's.
    """
    wire: Wire | None = (scope.get("extensions") or {}).get(EXTENSION)
    if wire is not None:
        return Own(send, wire, scope)
    if type(send) is FunctionType and send.__closure__ is None:
        return Server(send, None, scope)  # there is nothing inside
    owner = getattr(send, "__self__", None)
    kind = _known.get(type(owner))
    if kind is not None:
        return kind(send, owner, scope)
    own = own_send(send)
    package = package_of(own)
    kind = KINDS.get(package, Server)
    if own is send and package in KINDS and owner is not None:
        _known[type(owner)] = kind
    return kind(send, getattr(own, "__self__", None), scope)
