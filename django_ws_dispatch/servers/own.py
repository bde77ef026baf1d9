"""uvicorn with the protocol class of this package."""

from __future__ import annotations

from types import MethodType

from ..typing import Receive
from .quirks import Server
from .wire import Wire

__all__ = ["Own"]


class Own(Server):
    """uvicorn with ``django_ws_dispatch.uvicorn:WebSocketProtocol``."""

    __slots__ = ()

    _owner: Wire

    def wire(self, receive: Receive) -> Wire | None:
        """Return it where ``send`` and ``receive`` are its own: a wrapper sees every event."""
        wire = self._owner
        return wire if _is(self.send, wire.send) and _is(receive, wire.receive) else None

    @property
    def unsent(self) -> int:
        return self._owner.unsent

    @property
    def latency(self) -> float | None:
        return self._owner.latency if _is(self.send, self._owner.send) else None

    @property
    def has_refused(self) -> bool:
        return self._owner.has_refused

    def drain_within(self, seconds: float) -> None:
        self._owner.drain = seconds


def _is(given: object, own: object) -> bool:
    """Whether it is this method; a proxy around it may say that it equals it."""
    return type(given) is MethodType and given == own
