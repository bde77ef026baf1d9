"""The frames of the subprotocol ``django-ws-dispatch.v1``, as a server sends them.

Each is a head, a line feed and a payload. The head is empty, or a JSON array on one line::

    (empty)                                what a handler sends, and a group that is only a name
    ["hello", id, {"ping": seconds}]       the first frame
    ["m", group, position]                 a message of a group of ``WEBSOCKET_GROUPS``
    ["j", group, position, recovered]      it was joined; the payload has who is here
    ["l", group]                           it was left
    ["p", group]                           who came or went
    ["g", group, position]                 messages are lost
    ["pong", n]

A message gets its envelope once in a process, whatever the number of its members.
"""

from __future__ import annotations

import json
from typing import Any, Final

from ..limits import entry_size
from .messages import BYTES, GAP, PRESENCE, TEXT, Message

__all__ = ["SINCE", "SUBPROTOCOL", "Framed", "enveloped", "framed", "plain"]

SUBPROTOCOL: Final = "django-ws-dispatch.v1"
SINCE: Final = "since."
"""What is offered beside it: this, and a token."""

_LETTERS = {TEXT: "m", BYTES: "m", GAP: "g", PRESENCE: "p"}


class Framed(dict[str, Any]):
    """An event whose message is in its envelope already."""

    __slots__ = ()


def plain(payload: str | bytes) -> str | bytes:
    """Return a message of a handler in its envelope."""
    return "\n" + payload if isinstance(payload, str) else b"\n" + payload


def framed(head: list[Any] | None, payload: str | bytes = "") -> Message:
    """Return a frame as a message, with ``None`` for the empty head."""
    start = "" if head is None else json.dumps(head, separators=(",", ":"))
    if isinstance(payload, str):
        text = f"{start}\n{payload}"
        return Message(TEXT, Framed(type="websocket.send", text=text), entry_size(text), None)
    data = start.encode() + b"\n" + payload
    return Message(BYTES, Framed(type="websocket.send", bytes=data), entry_size(data), None)


def enveloped(message: Message, name: str | None) -> Message:
    """Return a group's message in its envelope, the same one for all who ask for it.

    Args:
        message: of a group.
        name: what the client calls the group; ``None`` for one that is only a name.
    """
    if message.envelopes is None:
        message.envelopes = {}
    found = message.envelopes.get(name)
    if found is None:
        head: list[Any] | None = None
        if name is not None:
            head = [_LETTERS[message.kind], name]
            if message.kind != PRESENCE:
                head.append(message.position)
        text = message.event.get("text")
        payload = message.event.get("bytes", "") if text is None else text
        found = message.envelopes[name] = framed(head, payload)
    return found
