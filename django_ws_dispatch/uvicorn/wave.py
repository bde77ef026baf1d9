"""How a fan-out leaves: a few connections in a turn of the loop, each with all that it lacks.

A frame for a thousand members is put where each of them joins what it sends; writing it is what
takes time. Meanwhile the loop has its turns, and what comes later for a connection that waits
leaves with what it waits for, in one write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

__all__ = ["Wave", "Waved"]

# Connections in a turn of the loop.
WIDTH = 64


class Waved(Protocol):
    """A connection that has something to send."""

    def wave_comes(self) -> None:
        """Send it."""


class Wave:
    """The connections of one loop that wait for their turn, the longest first."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Waved] = deque()
        self._goes = False

    def add(self, connection: Waved) -> None:
        """Have it send once its turn has come; it is not there yet."""
        self._waiting.append(connection)
        if not self._goes:
            self._goes = True
            self._loop.call_soon(self._go)

    def _go(self) -> None:
        waiting = self._waiting
        try:
            for _ in range(min(WIDTH, len(waiting))):
                waiting.popleft().wave_comes()
        finally:
            self._goes = bool(waiting)
            if waiting:
                self._loop.call_soon(self._go)
