"""Limits on what a client may do. They take plain values and know no socket."""

from __future__ import annotations

import re
import reprlib
import sys
from collections.abc import Callable, Hashable
from time import monotonic
from typing import NamedTuple

__all__ = [
    "ENTRY_OVERHEAD",
    "ConnectionCount",
    "Limits",
    "Meter",
    "Rate",
    "TokenBucket",
    "entry_size",
    "held_size",
    "parse_rate",
    "text_size",
]

# What a message that waits in a queue is counted as, beyond the object that has its payload: the
# event, the tuple and the place in the queue that go with it (240 to 280 bytes on CPython 3.11 to
# 3.14), whatever of them it has.
ENTRY_OVERHEAD = 256
_EMPTY = {str: sys.getsizeof(""), bytes: sys.getsizeof(b"")}

_RATE = re.compile(r"0*([0-9]+)\s*/\s*(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_MOST = 1_000_000_000


class Rate(NamedTuple):
    """``messages`` in ``seconds``."""

    messages: int
    seconds: int


class Limits(NamedTuple):
    """What one client of a handler may do."""

    max_message_size: int
    """bytes in one incoming message"""
    rate: Rate | None
    idle_timeout: float | None
    """seconds without a message"""
    outbox_size: int
    """bytes of memory, after ``entry_size()``, of group messages that may wait for the client"""


def parse_rate(value: object) -> Rate:
    """Return the rate that ``"20/s"``, ``"600/m"`` or ``"5000/h"`` stands for.

    Raises:
        ValueError: it is not written like that, or allows nothing, or more than a billion messages.
    """
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[1] == "0":
        raise ValueError(f'a rate is written like "20/s", "600/m" or "5000/h", not {value!r}')
    # int() refuses thousands of digits in words of its own.
    if len(match[1]) > len(str(_MOST)) or int(match[1]) > _MOST:
        raise ValueError(f"a rate has at most {_MOST} messages, not {reprlib.repr(value)}")
    return Rate(int(match[1]), _SECONDS[match[2]])


class TokenBucket:
    """As deep as the rate's number, full at first, refilled evenly."""

    __slots__ = ("_clock", "_depth", "_filled", "_per_second", "_tokens")

    def __init__(self, rate: Rate, clock: Callable[[], float] = monotonic) -> None:
        self._depth = self._tokens = float(rate.messages)
        self._per_second = rate.messages / rate.seconds
        self._clock = clock
        self._filled = clock()

    def take(self) -> bool:
        """Take one token; ``False`` if there is none."""
        now = self._clock()
        tokens = self._tokens + (now - self._filled) * self._per_second
        self._filled = now
        if tokens > self._depth:
            tokens = self._depth
        if tokens < 1.0:
            self._tokens = tokens
            return False
        self._tokens = tokens - 1.0
        return True


class Meter:
    """What is measured of a client that has a rate or an idle limit.

    Attributes:
        heard: when it said something last (monotonic), or could not.
    """

    __slots__ = ("_bucket", "heard")

    def __init__(self, limits: Limits) -> None:
        self._bucket = None if limits.rate is None else TokenBucket(limits.rate)
        self.touch()

    def touch(self) -> None:
        self.heard = monotonic()

    def is_over_rate(self) -> bool:
        """Count one message more, and return whether it is one too many."""
        return self._bucket is not None and not self._bucket.take()


class ConnectionCount:
    """How many connections there are per key, in this process."""

    def __init__(self) -> None:
        self._counts: dict[Hashable, int] = {}

    def enter(self, key: Hashable, most: int) -> bool:
        """Count one more for ``key``; ``False`` (and not counted) if there are ``most`` already."""
        count = self._counts.get(key, 0)
        if count >= most:
            return False
        self._counts[key] = count + 1
        return True

    def leave(self, key: Hashable) -> None:
        """Count one fewer for ``key``."""
        count = self._counts[key] - 1
        if count:
            self._counts[key] = count
        else:
            del self._counts[key]


def text_size(text: str) -> int:
    """Return the bytes that ``text`` takes on the wire (UTF-8)."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def held_size(payload: str | bytes) -> int:
    """Return the bytes of memory that the characters of ``payload`` take.

    A ``str`` takes one, two or four for each, as its widest one needs: with a single emoji four.
    """
    return sys.getsizeof(payload) - _EMPTY.get(type(payload), 0)


def entry_size(payload: str | bytes) -> int:
    """Return the bytes of memory that a message takes while it waits in a queue."""
    return sys.getsizeof(payload) + ENTRY_OVERHEAD
