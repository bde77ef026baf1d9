"""What a broker remembers of a channel: positions, entries, pages; and how an entry travels.

A position is ``epoch.ms-seq``. The epoch is the time (us) at which the memory began, the rest that
of the message, and never below the last one, all by the store's clock: so it never names two
messages, even where the store went back in time or lost everything, and positions have an order.

A message that is kept is published with the position before it, so that a hole is seen at once::

    m (1 byte) | 0 | version (1 byte) | length | position before it | length | position | message

``r`` with the same head and nothing else asks who hears it to compare its position with the store's
(``RESET``). A message that begins with ``f`` (``FORGOTTEN``) says that what came before is dropped.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

__all__ = [
    "FORGOTTEN",
    "KEPT",
    "RESET",
    "Entry",
    "Keep",
    "Page",
    "Top",
    "is_before",
    "kept",
    "order_of",
    "unkept",
]

KEPT_VERSION = 1
KEPT = bytes((ord("m"), 0, KEPT_VERSION))
"""The head of a message that is kept, as it is published."""
RESET = bytes((ord("r"), 0, KEPT_VERSION))
"""Published where the store has found that it went back in time."""
FORGOTTEN = b"f\x00"
"""The entry that ``forget()`` leaves: an order, and no message."""

MOST_POSITION = 64
# Beyond these a position can be none of ours: a client may bring anything.
_MOST_DIGITS = 20


class Keep(NamedTuple):
    """How a channel is kept."""

    messages: int
    """how many are kept"""
    ttl: float
    """seconds after its last message"""


class Top(NamedTuple):
    """Where a channel stands."""

    position: str
    """of the newest entry"""
    orders: int
    """how many entries of this epoch were no messages, but orders: to close, or ``FORGOTTEN``"""


class Entry(NamedTuple):
    """One message, or order, as it is kept."""

    position: str
    previous: str
    """the position before it"""
    message: bytes
    """as it was published"""

    @property
    def sent_at(self) -> datetime:
        """When, by the store's clock."""
        return datetime.fromtimestamp((order_of(self.position) or (0, 0, 0))[1] / 1000, UTC)


class Page(NamedTuple):
    """What was read of a channel."""

    entries: list[Entry]
    """oldest first"""
    top: Top
    known: bool
    """what it was read from is known: nothing behind that is missing. Else there are no entries."""


def order_of(position: str) -> tuple[int, int, int] | None:
    """Return what positions are ordered by, ``None`` where it is no position."""
    if not position.isascii() or len(position) > MOST_POSITION:
        return None
    epoch, _, rest = position.partition(".")
    ms, _, seq = rest.partition("-")
    parts = (epoch, ms, seq)
    # What can be read in two ways is no position: it is compared as a text, too.
    if not all(
        one.isdigit() and len(one) <= _MOST_DIGITS and (one == "0" or one[0] != "0")
        for one in parts
    ):
        return None
    return int(epoch), int(ms), int(seq)


def is_before(position: str, other: str) -> bool:
    """Return whether a position is before another one; ``False`` where one of them is none."""
    one, two = order_of(position), order_of(other)
    return one is not None and two is not None and one < two


def kept(previous: str, position: str, message: bytes) -> bytes:
    """Return a message that is kept as it is published."""
    before, own = previous.encode(), position.encode()
    return b"".join((KEPT, bytes((len(before),)), before, bytes((len(own),)), own, message))


def unkept(message: bytes) -> Entry:
    """Return what ``kept()`` has made a message of.

    Raises:
        ValueError: it did not come from there.
    """
    start = len(KEPT)
    positions = []
    for _ in range(2):
        if len(message) <= start:
            raise ValueError("too short for its position")
        end = start + 1 + message[start]
        if len(message) < end:
            raise ValueError("too short for its position")
        position = message[start + 1 : end].decode("ascii")
        if order_of(position) is None:
            raise ValueError("no position")
        positions.append(position)
        start = end
    previous, position = positions
    return Entry(position, previous, message[start:])
