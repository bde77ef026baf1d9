"""What all connections of one server have in common."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from uvicorn.config import Config
from uvicorn.server import ServerState

from .drain import Drain
from .keepalive import Keeper
from .opening import Memory
from .wave import Wave

if TYPE_CHECKING:
    from ..typing import ASGIApplication

__all__ = ["Shared", "shared_of"]


class Shared:
    """Made for the first connection of a server.

    Attributes:
        app: the application, with the middleware that uvicorn puts around it.
        loop: the server's.
        keeper: pings.
        memory: of handshakes.
        wave: what fan-outs have left to be sent.
        drain: who is told when that the server stops.
        max_size: of a message of a client, in bytes.
        root_path: of the application.
        asgi_version: that it speaks.
    """

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        self.app: ASGIApplication = config.loaded_app
        self.loop = loop
        self.keeper = Keeper(loop, config.ws_ping_interval, config.ws_ping_timeout)
        self.memory = Memory(config.ws_per_message_deflate, config.ws_max_size)
        self.drain = Drain(loop)
        self.wave = Wave(loop)
        self.max_size = config.ws_max_size
        self.root_path = config.root_path
        self.asgi_version = config.asgi_version


# By what uvicorn makes anew for each server; one ``Config`` may serve one after the other.
_shared: WeakKeyDictionary[ServerState, Shared] = WeakKeyDictionary()


def shared_of(config: Config, state: ServerState, loop: asyncio.AbstractEventLoop) -> Shared:
    """Return what the connections of a server share."""
    shared = _shared.get(state)
    if shared is None or shared.loop is not loop or shared.app is not config.loaded_app:
        shared = _shared[state] = Shared(config, loop)
    return shared
