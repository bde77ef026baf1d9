"""The interface between the package and the protocol class of its own (``uvicorn/protocol.py``).

Nothing else is known of it here. It is found in ``scope["extensions"]``, so that it reaches through
whatever has copied the scope.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from ..typing import Event

__all__ = ["EXTENSION", "Wire"]

EXTENSION: Final = "django_ws_dispatch"
"""the key in ``scope["extensions"]``"""


class Wire(Protocol):
    """One connection of the protocol class. All is called in its event loop, and nothing waits.

    Attributes:
        ready: it is open, and the client takes what it is sent: ``write...()`` may be called.
        deflates: messages to it may be compressed.
        latency: seconds that the client took for its last pong; ``None`` before the first.
        max_size: of a message of the client, in bytes; a larger one is refused with 1009.
        has_refused: it has closed for what the client has sent.
        drain: seconds in which all connections are told that the server stops; 0 for at once.
        transport: asyncio's or uvloop's.
    """

    ready: bool
    deflates: bool
    latency: float | None
    max_size: int
    has_refused: bool
    drain: float
    transport: asyncio.Transport

    async def receive(self) -> Event:
        """ASGI's."""

    async def send(self, event: Event, /) -> None:
        """ASGI's."""

    def take(self) -> str | bytes | None:
        """Return the next message; ``None`` where none has come, or the connection is over."""

    def wait(self) -> asyncio.Future[None]:
        """Return a future that is done once there may be a message, or the connection is over."""

    def write_message(self, message: str | bytes, /) -> None:
        """Send a message in this turn of the loop."""

    def make_frame(self, message: str | bytes, /) -> bytes:
        """Return the frame of a message, for all connections with the same ``deflates``."""

    def write_in_turn(self, frame: bytes, /) -> None:
        """Send a frame soon: a fan-out's frames leave a few connections in a turn of the loop."""

    @property
    def unsent(self) -> int:
        """How many bytes the client has not taken."""
