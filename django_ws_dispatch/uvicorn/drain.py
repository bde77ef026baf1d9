"""How a server that stops tells its connections: one after the other, where it has time."""

from __future__ import annotations

import asyncio
import signal
from functools import cached_property
from typing import Any, Protocol

from ..servers.quirks import uvicorn_server

__all__ = ["Drain", "Drained"]

# Seconds between two looks at whether there is still time.
LOOK = 0.05


class Drained(Protocol):
    """A connection that can be told that the server stops."""

    def restart(self) -> None:
        """Send 1012."""


class Drain:
    """Who waits for its turn. It begins with the first one, and ends with the last.

    Args:
        loop: the server's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[Drained, None] = {}
        self._timer: asyncio.Handle | None = None
        self._next = self._ends = 0.0
        self._begun = False

    @property
    def is_stopping(self) -> bool:
        """Whether the server has been told to stop."""
        return self._begun or bool(getattr(self._server, "should_exit", False))

    @cached_property
    def _server(self) -> Any:
        """uvicorn's, where it handles the signals of this process: it did before it served."""
        return uvicorn_server()

    @property
    def _is_hurried(self) -> bool:
        """Whether it was told so by Ctrl-C, or for the second time."""
        return bool(
            getattr(self._server, "force_exit", False)
            or signal.SIGINT in getattr(self._server, "_captured_signals", ())
        )

    def add(self, connection: Drained, seconds: float) -> None:
        """Tell a connection that the server stops.

        Args:
            connection: that one.
            seconds: in which all are told; 0 to tell it at once.
        """
        self._begun = True
        if not seconds or self._is_hurried:
            connection.restart()
            return
        self._waiting[connection] = None
        if self._timer is None:
            self._next = self._loop.time()
            self._ends = self._next + seconds
            self._timer = self._loop.call_soon(self._tell)  # once it has told all of them

    def remove(self, connection: Drained) -> None:
        """It is over."""
        if self._waiting:
            self._waiting.pop(connection, None)

    def _tell(self) -> None:
        """Tell those whose turn has come: the first at once, the last at the end."""
        self._timer = None
        now = self._loop.time()
        hurried = self._is_hurried
        while self._waiting and (hurried or now >= self._next):
            connection = next(iter(self._waiting))
            del self._waiting[connection]
            connection.restart()
            if self._waiting:
                self._next += max(0.0, self._ends - self._next) / len(self._waiting)
        if self._waiting:
            self._timer = self._loop.call_at(min(self._next, now + LOOK), self._tell)
