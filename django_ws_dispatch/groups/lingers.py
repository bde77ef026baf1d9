"""Who left a group a moment ago, and is to be swept if it does not come back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from .watch import TOLD_EVERY

__all__ = ["Lingers"]

# Seconds after the end of a linger at which it is swept: no clock is exact.
SLACK = 0.05


class Lingers:
    """When lingers end that began in this event loop.

    Args:
        linger: seconds.
        sweep: called after some have ended; at most so often as changes are told, since many go in
            one call.
    """

    def __init__(self, linger: float, sweep: Callable[[], None]) -> None:
        self._linger = linger
        self._sweep = sweep
        self._loop = asyncio.get_running_loop()
        self._ends: deque[float] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._swept_at = 0.0

    def __bool__(self) -> bool:
        return bool(self._ends)

    def begin(self) -> None:
        """Somebody has left, as the broker knows by now."""
        if self._linger:
            self._ends.append(self._loop.time() + self._linger + SLACK)
            self._wait()

    def _wait(self) -> None:
        if self._ends and self._timer is None:
            due = max(self._ends[0], self._swept_at + TOLD_EVERY)
            self._timer = self._loop.call_at(due, self._end)

    def _end(self) -> None:
        self._timer = None
        self._swept_at = now = self._loop.time()
        while self._ends and self._ends[0] <= now:
            self._ends.popleft()
        self._sweep()
        self._wait()

    def close(self) -> None:
        """Leave it to others."""
        self._ends.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
