"""The client's end of a socket that speaks ``django-ws-dispatch.v1``, as a test holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple

from ..groups.envelopes import SUBPROTOCOL, framed, plain
from ..groups.tokens import decode, encode
from .sockets import ClientSocket
from .wire import Wire

__all__ = ["EnvelopeSocket", "Frame"]


class Frame(NamedTuple):
    """A frame of the server.

    Attributes:
        head: ``["m", "room:a", "..."]``; ``None`` for a message of the handler.
        payload: what follows: a message, or JSON.
    """

    head: list[Any] | None
    payload: str | bytes


class EnvelopeSocket(ClientSocket):
    """A ``ClientSocket`` that speaks the subprotocol: ``client.connect(..., envelope=True)``.

    What it sends and receives are payloads, as on a plain socket; what else the server tells it
    moves its positions.

    Args:
        wire: to the application.
        raises: what the handler raised is raised in the test.
        since: the token that was offered.

    Attributes:
        groups: name of each group that it is in -> its position; ``None`` without a history.
        hello: what the first frame says: ``{"ping": 25}``.
        id: the socket's, for ``X-Socket-ID``.
    """

    def __init__(self, wire: Wire, *, raises: bool, since: str = "") -> None:
        super().__init__(wire, raises=raises)
        brought = decode(since)
        self.groups: dict[str, str | None] = dict(brought.positions)
        self.hello: Mapping[str, Any] = {}
        self.id = ""
        self._former_ids = brought.ids

    async def begin(self, timeout: float) -> None:
        """Take the first frame.

        Raises:
            AssertionError: the handler speaks something else.
        """
        if self.subprotocol != SUBPROTOCOL:
            raise AssertionError(
                f"{self._wire.path} chose the subprotocol {self.subprotocol!r}, not {SUBPROTOCOL}."
            )
        await self.receive_frame(timeout)

    @property
    def since(self) -> str:
        """The token of all positions, for a socket that goes on where this one is."""
        positions = {name: position for name, position in self.groups.items() if position}
        return encode(positions, [*self._former_ids, self.id])

    async def send(self, message: str | bytes) -> None:
        await super().send(plain(message) if isinstance(message, (str, bytes)) else message)

    async def send_frame(self, head: Any, payload: str = "") -> None:
        """Send a frame with a head, such as ``["ping", 1]``."""
        await super().send(framed(head, payload).data)

    async def receive_frame(self, timeout: float = 1) -> Frame:
        """Return the next frame, whatever it is. Args and Raises are those of ``receive()``."""
        message = await super().receive(timeout)
        frame = _parsed(message)
        match frame.head:
            case ["hello", id, hello]:
                self.id, self.hello = id, hello
            case ["m", name, str(position)]:
                self.groups[name] = position
            case ["j" | "g", name, position, *_]:
                self.groups[name] = position
            case ["l", name]:
                self.groups.pop(name, None)
        return frame

    async def receive(self, timeout: float = 1) -> str | bytes:
        deadline = monotonic() + timeout
        while True:
            frame = await self.receive_frame(max(deadline - monotonic(), 0.0))
            if frame.head is None or frame.head[0] == "m":
                return frame.payload

    async def receive_nothing(self, within: float = 0.1) -> None:
        """Check that no message comes, whatever else does. See ``ClientSocket``."""
        with suppress(TimeoutError):
            message = await self.receive(within)
            raise AssertionError(f"{message!r} came where nothing was expected.")


def _parsed(message: str | bytes) -> Frame:
    if isinstance(message, bytes):
        head, _, data = message.partition(b"\n")
        return Frame(json.loads(head) if head else None, data)
    start, _, text = message.partition("\n")
    return Frame(json.loads(start) if start else None, text)
