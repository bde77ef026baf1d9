"""The writers of sockets whose client offers ``django-ws-dispatch.v1``, and which halves it takes.

They put a group's message in its envelope, or keep it until the client knows the group. Where the
handler has chosen another subprotocol they are the writers that every socket has.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..groups.envelopes import SUBPROTOCOL, enveloped, framed, plain
from ..groups.messages import BYTES, TEXT, Message
from ..typing import Receive, Send
from .direct import DirectReader, DirectWriter
from .envelope import HEAD_ROOM, Early, Envelope, Named
from .reader import Reader
from .state import CLOSING, CONNECTING, OPEN
from .writer import Writer, turns

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["EnvelopedWriter", "Introduction", "halves"]


def halves(connection: Connection, receive: Receive, send: Send) -> tuple[Reader, Writer]:
    """Return what reads and what writes for a connection."""
    limits, envelope = connection.limits, None
    if (offered := connection.scope.get("subprotocols")) and SUBPROTOCOL in offered:
        envelope = connection.envelope = Envelope(connection, offered)
    most = limits.max_message_size
    if envelope is not None:
        most += HEAD_ROOM  # of a frame: limits are on payloads
    wire = connection.server.wire(receive)
    writer: EnvelopedWriter
    if wire is None:
        reader: Reader = Reader(connection, receive, limits)
        if envelope is None:
            return reader, Writer(connection, send)
        writer = _EventWriter(connection, send)
    else:
        # Refused before it is collected. What is wrapped around receive() may make messages
        # smaller.
        wire.max_size = min(wire.max_size, most)
        reader = DirectReader(connection, receive, limits, wire)
        if envelope is None:
            return reader, DirectWriter(connection, send, wire)
        writer = _FrameWriter(connection, send, wire)
    writer.envelope, writer.former_ids = envelope, envelope.brought.ids
    envelope.surround(reader, writer)
    return reader, writer


class EnvelopedWriter(Writer):
    """A writer that knows the subprotocol."""

    __slots__ = ()

    envelope: Envelope

    def deliver(self, message: Message) -> None:
        if self._connection.ready_state >= CLOSING:
            return
        envelope = self.envelope
        named = None if message.place is None else envelope.named.get(message.place)
        if named is not None and named.early is not None:
            named.early.append(message)
            named.early_size += message.size
            if named.early_size > self._connection.limits.outbox_size:
                self.give_up_slow()
        elif named is None and message.kind not in (TEXT, BYTES):
            pass  # it has left meanwhile
        elif envelope.speaks:
            super().deliver(enveloped(message, None if named is None else named.name))
        elif self._connection.ready_state is CONNECTING:
            super().deliver(Early.of(message))
        elif message.kind in (TEXT, BYTES):
            super().deliver(message)

    def notice(self, message: Message) -> None:
        self.deliver(message)

    def tell(self, message: Message) -> None:
        if self._connection.ready_state is OPEN:
            super().deliver(message)

    async def show(self, message: Message) -> None:
        """Send a frame of the subprotocol as the handler would.

        Raises:
            WebSocketDisconnect: the socket is over.
        """
        if not super().put(message.data):
            await self.send(message.event)
        if next(turns):
            await asyncio.sleep(0)


class _EventWriter(EnvelopedWriter):
    """Writes events."""

    __slots__ = ("envelope", "former_ids")


class _FrameWriter(EnvelopedWriter, DirectWriter):
    """Writes messages and frames."""

    __slots__ = ("envelope", "former_ids")

    def put(self, message: str | bytes) -> bool:
        return super().put(plain(message) if self.envelope.speaks else message)


class Introduction:
    """What the client is told of a group that its socket joins. It is ``Told``.

    Args:
        writer: of the socket.
        named: the group.
    """

    def __init__(self, writer: EnvelopedWriter, named: Named) -> None:
        self._envelope = writer.envelope
        self._writer = writer
        self._named = named
        self._settled = named.settled = asyncio.get_running_loop().create_future()

    @property
    def is_first(self) -> bool:
        """Whether the client has not been told of the group."""
        return self._named.early is not None

    async def joined(self, position: str | None, recovered: bool | None) -> None:
        """See ``Told``; then what came before is sent."""
        named, writer = self._named, self._writer
        if self._envelope.speaks:
            who = ""
            if named.audience is not None and named.joins:  # its handler may have ended
                who = named.audience.introduce(writer)
            await writer.show(framed(["j", named.name, position, recovered], who))
            if named.name in self._envelope.brought.positions:
                self._envelope.resumed.add(named.name)
        early, named.early = named.early, None
        for message in early or ():
            writer.deliver(message)

    def settle(self) -> None:
        """Another join of the group may begin; twice is once."""
        if not self._settled.done():
            self._settled.set_result(None)
            self._named.settled = None

    async def lost(self, position: str) -> None:
        """See ``Told``."""
        if self._envelope.speaks:
            await self._writer.show(framed(["g", self._named.name, position]))

    async def send(self, message: Message) -> None:
        """Send a message that is replayed."""
        writer = self._writer
        if self._envelope.speaks:
            await writer.show(enveloped(message, self._named.name))
        else:
            await writer.replay(message)
