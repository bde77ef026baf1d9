"""The two halves of a socket on the protocol class of this package: no event, and no coroutine.

They are the ones that every socket has, with a shorter way for what is most of the traffic: a
message that has come, a message to a client that keeps up. Whatever else there is takes the way of
an event, as on any server.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from ..groups.messages import Message
from ..limits import Limits
from ..servers import Wire
from ..typing import Receive, Send
from .reader import Reader
from .state import ABSENT, BUSY, READING
from .writer import Writer

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["DirectReader", "DirectWriter"]


class Source(Protocol):
    """As much of a ``Wire`` as is read from."""

    def take(self) -> str | bytes | None: ...

    def wait(self) -> asyncio.Future[None]: ...


class DirectReader(Reader):
    """Reads messages, and an event only where the connection is over.

    Attributes:
        wire: what has the messages.
    """

    __slots__ = ("wire",)

    wire: Source

    def __init__(
        self, connection: Connection, receive: Receive, limits: Limits, wire: Wire
    ) -> None:
        super().__init__(connection, receive, limits)
        self.wire = wire

    async def __anext__(self) -> str | bytes:
        if (self.state > ABSENT or self.lane is not None) and not await self.accept_plainly():
            return await self.read_slowly()
        self.state = BUSY
        message = self.wire.take()
        if message is None:
            self.state = READING
            try:
                await self.wire.wait()
            except asyncio.CancelledError:
                if not self._connection.was_wakeup():
                    raise
                raise StopAsyncIteration from None
            finally:
                if self.state == READING:
                    self.state = BUSY
            message = self.wire.take()
            if message is None:
                return await super().__anext__()
        if len(message) <= self.size_unchecked:
            return message
        kind = "text" if isinstance(message, str) else "bytes"
        if self.take({"type": "websocket.receive", kind: message}) is not None:
            return message
        return await super().__anext__()


class DirectWriter(Writer):
    """Writes messages, and a frame of a group's that all its members share."""

    __slots__ = ("_wire",)

    def __init__(self, connection: Connection, send: Send, wire: Wire) -> None:
        super().__init__(connection, send)
        self._wire = wire

    def put(self, message: str | bytes) -> bool:
        if self.state or not self._wire.ready:
            return False
        self._wire.write_message(message)
        return True

    def deliver(self, message: Message) -> None:
        wire = self._wire
        if self.state or not wire.ready:
            super().deliver(message)
            return
        if wire.deflates:
            frame = message.deflated
            if frame is None:
                frame = message.deflated = wire.make_frame(message.data)
        else:
            frame = message.frame
            if frame is None:
                frame = message.frame = wire.make_frame(message.data)
        wire.write_in_turn(frame)
