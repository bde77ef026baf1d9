"""A group's message as it travels between processes, encoded once by its publisher.

::

    kind (1 byte) | length of the excluded id (1 byte) | excluded id (ASCII) | payload

    t   text, as UTF-8
    b   bytes
    c   close the members: code (2 bytes, big endian), reason as UTF-8
    m   one of these that is kept, with its positions (``brokers/history.py``)
    f   what was kept is dropped; only within m
    r   the store went back in time
    p   who came or went (``brokers/presence.py``)

A site is deployed one process after the other, so processes of several versions hear each other:

- The first three have no version and never change: each version writes them as all others read
  them.
- What is new has another small letter and the same head; its payload
  begins with the version that one needs to read it (1 byte). Who has an earlier one tells the log,
  once, and ignores it.
- The control messages of ``auth/control.py``, JSON in ``b``, may say more than a process knows: it
  does what it knows, unless ``"version"`` is one that it has not.

What is none of that has not been published by this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ..brokers.history import FORGOTTEN, KEPT, unkept
from ..brokers.history import RESET as RESET_HEAD
from ..brokers.presence import PRESENCE as PRESENCE_HEAD
from ..brokers.presence import Changes, changes_of
from ..codes import check_close_code
from ..limits import entry_size
from ..typing import Event

__all__ = [
    "BYTES",
    "CLOSE",
    "CONTROL_CHANNEL",
    "FORGOT",
    "GAP",
    "OF_GROUPS_WITH_OPTIONS",
    "PRESENCE",
    "RESET",
    "TEXT",
    "VERSION",
    "LaterVersion",
    "Message",
    "Place",
    "decode",
    "encode_close",
    "encode_data",
]

VERSION = 1

TEXT, BYTES, CLOSE = b"tbc"
FORGOT, RESET, PRESENCE = FORGOTTEN[0], RESET_HEAD[0], PRESENCE_HEAD[0]
OF_GROUPS_WITH_OPTIONS = (FORGOT, RESET, PRESENCE)
"""Kinds that are for those who keep a group, and not for its members."""
GAP = b"g"[0]
"""Messages are lost: what a process tells its own members, and no other process."""
_KEPT = KEPT[0]
LETTERS = frozenset(range(ord("a"), ord("z") + 1))

# The kind of a channel stands before the name, so that no name that a user chooses can be the
# channel of another user's sockets or of the processes' own messages.
GROUP_CHANNEL = "group:"
USER_CHANNEL = "user:"
CONTROL_CHANNEL = "control:"
# Before them all stands the namespace, with its length: no name can reach into another one.
NAMESPACE = "in:"


class LaterVersion(ValueError):
    """A message that only a later version of this package can read, and what it is."""


class Place(NamedTuple):
    """A channel of a broker."""

    channel: str
    broker: str


def channel_of(kind: str, name: str, namespace: str) -> str:
    """Return the channel of a group, or of the user with the primary key ``name``."""
    if not namespace:
        return kind + name
    return f"{NAMESPACE}{len(namespace)}:{namespace}:{kind}{name}"


@dataclass(slots=True)  # Each member reads it, which is slower of a tuple.
class Message:
    """A decoded message. All members share it, and nobody changes it."""

    kind: int
    event: Event
    size: int  # bytes of memory where it has to wait, whatever is sent
    exclude: str | None
    code: int = 0
    reason: str = ""
    # Where its group remembers: its own, and that of the one before.
    position: str | None = None
    previous: str | None = None
    # The frames that a server's protocol class makes of it, once for all members: without and with
    # permessage-deflate.
    frame: bytes | None = None
    deflated: bytes | None = None
    changes: Changes | None = None
    # For the clients of the subprotocol: whose message it is, and its envelopes by the names that
    # the group has for them.
    place: Place | None = None
    envelopes: dict[str | None, Message] | None = None

    @property
    def data(self) -> str | bytes:
        """What was sent, where it is no order to close."""
        data: str | bytes = self.event["text"] if self.kind == TEXT else self.event["bytes"]
        return data


def _head(kind: int, exclude: Any) -> bytes:
    """Encode the kind and the member to leave out: anything with an ``id``, an id or ``None``."""
    name = exclude if isinstance(exclude, str) else getattr(exclude, "id", exclude)
    if name is None:
        return bytes((kind, 0))
    if not isinstance(name, str):
        raise TypeError(
            f"exclude must be a WebSocket or its id, not {type(exclude).__name__}: what a page "
            'sends along as a header, say request.headers.get("X-Socket-ID").'
        )
    # What a client sends along may be anything; what can be no id excludes nobody.
    if not name.isascii() or len(name) > 255:
        return bytes((kind, 0))
    return bytes((kind, len(name))) + name.encode()


def encode_data(data: str | bytes, exclude: object = None) -> bytes:
    """Encode what becomes one text or binary frame.

    Raises:
        TypeError: ``data`` is neither ``str`` nor ``bytes``.
        ValueError: it is a ``str`` that UTF-8 can not encode (RFC 6455 section 5.6).
    """
    if isinstance(data, str):
        return _head(TEXT, exclude) + data.encode()
    if isinstance(data, bytes):
        return _head(BYTES, exclude) + data
    raise TypeError(
        f"A message must be str or bytes, not {type(data).__name__}. "
        "Use send_json() or asend_json() for other objects."
    )


def encode_close(code: int, reason: str, exclude: object = None) -> bytes:
    """Encode the order to close."""
    return _head(CLOSE, exclude) + code.to_bytes(2) + reason.encode()


def decode(message: bytes) -> Message:
    """Return what ``encode_...()`` encoded.

    Raises:
        LaterVersion: only a later version of this package can read it.
        ValueError: it did not come from there.
    """
    if len(message) < 2:
        raise ValueError("too short")
    kind, length = message[0], message[1]
    if kind == _KEPT:
        return _decode_kept(message)
    start = 2 + length
    if len(message) < start:
        raise ValueError("too short for its head")
    exclude = message[2:start].decode("ascii") if length else None
    payload = message[start:]
    if kind == TEXT:
        text = payload.decode()
        return Message(TEXT, {"type": "websocket.send", "text": text}, entry_size(text), exclude)
    if kind == BYTES:
        event: Event = {"type": "websocket.send", "bytes": payload}
        return Message(BYTES, event, entry_size(payload), exclude)
    if kind == CLOSE:
        # Whoever wrote it could not have sent another code either.
        code = check_close_code(int.from_bytes(payload[:2]))
        return Message(CLOSE, {}, 0, exclude, code, payload[2:].decode())
    if kind == FORGOT and not payload:
        return Message(FORGOT, {}, 0, None)
    if kind == RESET and payload == RESET_HEAD[2:]:
        return Message(RESET, {}, 0, None)
    if message.startswith(PRESENCE_HEAD):
        changes = changes_of(message[len(PRESENCE_HEAD) :])
        return Message(PRESENCE, {}, 0, None, changes=changes)
    if kind in LETTERS:
        needs = f", version {payload[0]}" if payload else ""
        raise LaterVersion(f"kind {chr(kind)!r}{needs}")
    raise ValueError("unknown kind")


def _decode_kept(message: bytes) -> Message:
    if not message.startswith(KEPT):
        raise LaterVersion(f"kind 'm', version {message[2]}" if len(message) > 2 else "kind 'm'")
    entry = unkept(message)
    if entry.message[:1] == KEPT[:1]:
        raise ValueError("kept twice")
    found = decode(entry.message)
    found.position, found.previous = entry.position, entry.previous
    return found
