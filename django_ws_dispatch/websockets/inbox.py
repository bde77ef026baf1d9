"""What a client said while its handler did something else, as far as it is kept."""

from __future__ import annotations

from collections import deque
from time import monotonic

from ..limits import held_size

__all__ = ["Inbox"]

MESSAGES = 64


class Inbox:
    """Messages that were read ahead.

    Args:
        capacity: bytes of memory that their characters may take.

    Attributes:
        size: what they take.
        full_since: since when nothing more is read (monotonic), if so.
        discarded: how many were thrown away for a handler that has never read.
    """

    __slots__ = ("_capacity", "_messages", "discarded", "full_since", "size")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._messages: deque[tuple[str | bytes, int]] = deque()
        self.size = 0
        self.full_since: float | None = None
        self.discarded = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: str | bytes, *, keep: bool) -> None:
        """Add one more.

        Args:
            message: the newest.
            keep: stop to read once it is full, instead of discarding the oldest.
        """
        # There are few of them: what each takes beyond its characters is bounded by their number.
        size = held_size(message)
        self._messages.append((message, size))
        self.size += size
        if keep and self._is_full:
            self.full_since = monotonic()
        while not keep and self._is_full:
            self._pop()
            self.discarded += 1

    @property
    def _is_full(self) -> bool:
        return len(self._messages) >= MESSAGES or self.size >= self._capacity

    def take(self) -> str | bytes:
        """Return the oldest."""
        self.full_since = None
        return self._pop()

    def _pop(self) -> str | bytes:
        message, size = self._messages.popleft()
        self.size -= size
        return message

    def clear(self) -> None:
        """Throw all away."""
        self._messages.clear()
        self.size = 0
        self.full_since = None
