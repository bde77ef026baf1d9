"""The newest messages of a group with history, as one event loop has delivered them.

Sockets that come back together share what was delivered, or read, once. It never has what its store
would not have: no more messages, and none that are too old.
"""

from __future__ import annotations

from collections import deque
from time import monotonic

from .history import MOST_BYTES, MOST_ENTRIES
from .messages import FORGOT, Message
from .options import GroupOptions

__all__ = ["Tail"]


class Tail:
    """The messages, orders among them, each behind the one before."""

    def __init__(self, options: GroupOptions) -> None:
        self._most = min(options.history, MOST_ENTRIES)
        self._ttl = options.ttl
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._newest_at = 0.0

    def add(self, message: Message) -> None:
        """Add the newest one."""
        self._expire()
        self._messages.append(message)
        self._newest_at = monotonic()
        self._bytes += message.size
        self._cut()

    def prepend(self, messages: list[Message], position: str) -> None:
        """Add what was read from the store, as far as the tail, or the group's position, goes on
        there.
        """
        first = self._messages[0].previous if self._messages else position
        fits = [index for index, one in enumerate(messages) if one.position == first]
        messages = messages[: fits[0] + 1] if fits else []
        # Nothing is known behind what came before FORGOT.
        forgotten = [index for index, one in enumerate(messages) if one.kind == FORGOT]
        if forgotten:
            messages = messages[forgotten[-1] + 1 :]
        if not messages:
            return
        if not self._messages:
            self._newest_at = monotonic()
        self._messages.extendleft(reversed(messages))
        self._bytes += sum(message.size for message in messages)
        self._cut()

    def behind(self, position: str) -> list[Message] | None:
        """Return what is behind a position, ``None`` where that is not known here."""
        self._expire()
        found: list[Message] = []
        for message in reversed(self._messages):
            found.append(message)
            if message.previous == position:
                return found[::-1]
        return None

    @property
    def is_full(self) -> bool:
        """Whether what is further back would not stay."""
        return len(self._messages) >= self._most or self._bytes > MOST_BYTES // 2

    def clear(self) -> None:
        """Forget all."""
        self._messages.clear()
        self._bytes = 0

    def _expire(self) -> None:
        if self._messages and monotonic() - self._newest_at > self._ttl:
            self.clear()

    def _cut(self) -> None:
        messages = self._messages
        while messages and (len(messages) > self._most or self._bytes > MOST_BYTES):
            self._bytes -= messages.popleft().size
