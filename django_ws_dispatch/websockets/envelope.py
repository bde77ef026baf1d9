"""The subprotocol ``django-ws-dispatch.v1`` on one socket: what its client brings and is told.

A client that offers it gets it where the handler chooses no other. What it is for is done around
the halves of the socket: a handler sees payloads only, and a socket without it knows nothing of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from .. import reports
from ..codes import CloseCode
from ..groups.envelopes import SINCE, SUBPROTOCOL, Framed, enveloped, framed
from ..groups.messages import Message, Place
from ..groups.tokens import Brought, decode
from ..groups.watch import Audience
from ..typing import Event, Receive, Send
from .direct import DirectReader, Source
from .opening import offered
from .state import CLOSING, CONNECTING

if TYPE_CHECKING:
    from .connection import Connection
    from .enveloped import EnvelopedWriter
    from .reader import Reader

__all__ = ["HEAD_ROOM", "Early", "Envelope", "Named"]

# Bytes of a client's head, and of it with its line feed.
MOST_HEAD = 256
HEAD_ROOM = MOST_HEAD + 1
# Seconds between two pings: what the client is told at most, and what it is not to fall below.
PING_EVERY = 25
LEAST_PING = 1.0


class Named:
    """A group with options that a socket is in.

    Attributes:
        name: what its client calls it.
        joins: how many of the socket's joins are under way.
        early: what came before the client was told of the group; ``None`` once it was, and for
            clients that are told nothing.
        early_size: bytes that it counts as.
        audience: where it is told who is here.
        settled: is done once the join that is under way has replayed all, or has failed.
    """

    __slots__ = ("audience", "early", "early_size", "joins", "name", "settled")

    def __init__(self, name: str, early: list[Message] | None) -> None:
        self.name = name
        self.joins = 0
        self.early = early
        self.early_size = 0
        self.audience: Audience | None = None
        self.settled: asyncio.Future[None] | None = None


class Envelope:
    """What a socket has whose client offers the subprotocol.

    Args:
        connection: its.
        subprotocols: all that are offered.

    Attributes:
        brought: where its client is in which groups.
        speaks: it was chosen.
        named: the groups that have a name for the client.
        owed: names of groups that were left while it was not known whether the socket goes on.
        resumed: names of groups that were joined before: what was brought is for the first time.
    """

    def __init__(self, connection: Connection, subprotocols: Collection[str]) -> None:
        token = next((one for one in subprotocols if one.startswith(SINCE)), SINCE)
        self._connection = connection
        self.brought: Brought = decode(token.removeprefix(SINCE))
        self.speaks = False
        self.named: dict[Place, Named] = {}
        self.resumed: set[str] = set()
        self.owed: list[str] = []
        self._pinged_at = -LEAST_PING

    @property
    def will_speak(self) -> bool:
        """Whether it was chosen, or will be unless the handler chooses another."""
        connection = self._connection
        if connection.ready_state is not CONNECTING:
            return self.speaks
        return not any(one in connection.subprotocols for one in offered(connection.scope))

    def surround(self, reader: Reader, writer: EnvelopedWriter) -> None:
        """Stand between the server and the halves of the socket."""
        reader.server_receive = _receiving(self, reader.server_receive)
        if isinstance(reader, DirectReader):
            reader.wire = _UnwrappingWire(self, reader.wire)
        writer.server_send = _sending(self, writer.server_send)

    def begin(self, accept: Event) -> Event | None:
        """The handshake is about to be accepted: return the first frame, if it is with this."""
        connection = self._connection
        self.speaks = accept.get("subprotocol") == SUBPROTOCOL
        if not self.speaks:
            return None
        idle = connection.limits.idle_timeout
        ping = PING_EVERY if idle is None else min(PING_EVERY, idle / 2)
        return framed(["hello", connection.id, {"ping": ping}]).event

    # What is left

    def owe(self, places: Iterable[Place]) -> None:
        """Tell the client that groups are left that are about to be, once the socket goes on.

        Where it does not, the client shall come back with its positions.
        """
        for place in places:
            named = self.named.get(place)
            if named is not None and named.joins == 1 and named.early is None:
                self.owed.append(named.name)

    def pay(self, *names: str) -> None:
        """The socket goes on: tell it now, of all groups without names."""
        for name in [one for one in self.owed if not names or one in names]:
            self.owed.remove(name)
            if self.speaks:
                self._connection.writer.tell(framed(["l", name]))

    # What comes

    def payload_of(self, message: str | bytes) -> str | bytes | None:
        """Return what a client's frame has for the handler, ``None`` where that is nothing."""
        if self._connection.ready_state >= CLOSING:
            return None
        if self.owed and self._connection.reader.is_waiting:
            self.pay()
        if message.startswith("\n") if isinstance(message, str) else message.startswith(b"\n"):
            return message[1:]
        match _head_of(message):
            case ["ping", int(number)] if not isinstance(number, bool):
                self._answer(number)
            case None:
                self._refuse("a frame whose head is no JSON of at most 256 bytes")
            case _:
                self._refuse("a frame with a head that is not known")
        return None

    def _answer(self, number: int) -> None:
        connection = self._connection
        meter, now = connection.reader.meter, monotonic()
        if meter is not None:
            meter.touch()
        early, self._pinged_at = now - self._pinged_at < LEAST_PING, now
        if early and not connection.reader.is_within_rate():
            return
        connection.writer.tell(framed(["pong", number]))

    def _refuse(self, why: str) -> None:
        reports.closed(self._connection.path, CloseCode.BAD_REQUEST, why)
        self._connection.kick(CloseCode.BAD_REQUEST, "not a frame of " + SUBPROTOCOL)


def _head_of(message: str | bytes) -> Any:
    """Return the head of a frame, ``None`` where there is none."""
    feed: Any = "\n" if isinstance(message, str) else b"\n"
    end = message.find(feed, 0, HEAD_ROOM)
    if end < 0:
        return None
    head = message[:end]
    try:
        text, encoded = (head, head.encode()) if isinstance(head, str) else (head.decode(), head)
        return json.loads(text) if len(encoded) <= MOST_HEAD else None
    except (ValueError, RecursionError):
        return None


def _receiving(envelope: Envelope, receive: Receive) -> Receive:
    """Return a ``receive()`` of payloads."""

    async def receive_payload() -> Event:
        while True:
            event = await receive()
            if event["type"] != "websocket.receive" or not envelope.speaks:
                return event
            message = event.get("text")
            kind = "bytes" if message is None else "text"
            payload = envelope.payload_of(event.get("bytes") or b"" if message is None else message)
            if payload is not None:
                return {"type": "websocket.receive", kind: payload}

    return receive_payload


def _sending(envelope: Envelope, send: Send) -> Send:
    """Return a ``send()`` that puts what a handler sends in its envelope."""

    def send_enveloped(event: Event) -> Any:
        if type(event) is Framed or event["type"] != "websocket.send" or not envelope.speaks:
            return send(event)
        if type(event) is Early:
            return send(enveloped(event.message, None).event)
        text = event.get("text")
        return send(framed(None, event["bytes"] if text is None else text).event)

    return send_enveloped


class _UnwrappingWire:
    """What a direct reader needs of a wire, with payloads for messages."""

    def __init__(self, envelope: Envelope, wire: Source) -> None:
        self._envelope = envelope
        self._take = wire.take
        self.wait = wire.wait

    def take(self) -> str | bytes | None:
        while (message := self._take()) is not None and self._envelope.speaks:
            if self._envelope.owed:
                self._envelope.pay()  # the handler reads on
            payload = self._envelope.payload_of(message)
            if payload is not None:
                return payload
        return message


class Early(dict[str, Any]):
    """The event of a group's message that waits for the accept, and the message."""

    __slots__ = ("message",)

    message: Message

    @classmethod
    def of(cls, message: Message) -> Message:
        """Return a message that has such an event."""
        event = cls(message.event)
        event.message = message
        return Message(message.kind, event, message.size, None)
