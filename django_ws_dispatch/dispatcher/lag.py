"""Which task blocks an event loop, and where: no server tells. For development, with ``DEBUG``."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["LagWatch"]

# Seconds that a task may keep the event loop to itself, and between two looks at it.
LAG = 0.1
LAG_INTERVAL = 0.05


class LagWatch(threading.Thread):
    """Calls ``blame`` in this thread, with the task that blocks the running loop and the place."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, blame: Callable[[asyncio.Task[Any], str], None]
    ) -> None:
        super().__init__(name="websocket-lag", daemon=True)
        self.over = threading.Event()
        self._loop = loop
        self._blame = blame
        self._watched = threading.get_ident()

    def run(self) -> None:
        with suppress(RuntimeError):  # the loop is closed
            while not self.over.wait(LAG_INTERVAL):
                beat = threading.Event()
                self._loop.call_soon_threadsafe(beat.set)
                if not beat.wait(LAG):
                    task = asyncio.current_task(self._loop)
                    frame = sys._current_frames().get(self._watched)
                    if task is not None and frame is not None:
                        self._blame(task, f"{frame.f_code.co_filename}:{frame.f_lineno}")
                    while not beat.wait(1) and not self._loop.is_closed():
                        pass
