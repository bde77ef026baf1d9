"""Every open socket of this process: the sweep, counts, and closing from elsewhere.

One ``Connections`` for each event loop; a process has one, but for tests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable
from itertools import cycle
from time import monotonic
from typing import Any

from django.conf import settings

from ..auth import watch
from ..limits import ConnectionCount
from ..loops import PerLoop
from ..websockets import WebSocket, deadlines
from .lag import LagWatch

__all__ = ["Connections", "aclose", "count", "local"]

logger = logging.getLogger("django_ws_dispatch.connection")

# Seconds between two sweeps.
INTERVAL = 0.25
# One sweep in so many looks at every transport.
CLOSE_LOOK = 16

counts = ConnectionCount()
"""per handler and per user, in this process"""


def count() -> int:
    """Return how many sockets are open in this process."""
    return sum(len(connections.sockets) for connections in local.values())


async def aclose() -> None:
    """Release what is held for the running event loop, once its last socket is closed.

    A server's process need not. A test does: the next one has another loop.
    """
    connections = local.pop()
    if connections is not None:
        await connections.aclose()


class Connections:
    """The open sockets of one event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.watch = watch.local()
        self.sockets: dict[WebSocket, tuple[Hashable, ...]] = {}  # with what each is counted for
        self._timer: asyncio.TimerHandle | None = None
        self._turns = cycle(range(CLOSE_LOOK))
        self._lag_watch: LagWatch | None = None

    def add(self, socket: WebSocket) -> None:
        socket.watch = self.watch
        self.sockets[socket] = ()
        if self._timer is None:
            self._timer = self.loop.call_later(INTERVAL, self._sweep)
            if settings.DEBUG:
                self._lag_watch = LagWatch(self.loop, self._blame)
                self._lag_watch.start()

    def count(self, socket: WebSocket, key: Hashable, most: int) -> bool:
        """Count a socket as long as it is open; ``False`` if there are ``most`` already."""
        if not counts.enter(key, most):
            return False
        self.sockets[socket] += (key,)
        return True

    def remove(self, socket: WebSocket) -> None:
        for key in self.sockets.pop(socket, ()):
            counts.leave(key)
        socket.watch = None
        if socket.watched is not None:
            self.watch.forget(socket)

    def _sweep(self) -> None:
        now = monotonic()
        if self.sockets and next(iter(self.sockets)).connection.server_stops:
            for socket in list(self.sockets):
                socket.connection.stop()
        closely = next(self._turns) == 0
        for socket in list(self.sockets):
            try:
                deadlines.check(socket.connection, now, closely=closely)
            except Exception:  # The others must not pay for it.
                logger.exception("Looking after %s failed", socket.path)
        self.watch.sweep(now)
        self._timer = self.loop.call_later(INTERVAL, self._sweep) if self.sockets else None
        if self._timer is None:
            self._end_lag_watch()

    def _blame(self, task: asyncio.Task[Any], where: str) -> None:
        for socket in list(self.sockets):
            if socket.connection.runs_in(task):
                logger.warning(
                    "The handler of %s blocks the event loop, at %s: every socket of this process "
                    "waits. Call what blocks with sync_to_async().",
                    socket.path,
                    where,
                    extra={"path": socket.path},
                )

    def _end_lag_watch(self) -> None:
        if self._lag_watch is not None:
            self._lag_watch.over.set()
            self._lag_watch = None

    async def stop(self) -> None:
        """The server has stopped, and not waited for its sockets: see their handlers out."""
        connections = [socket.connection for socket in self.sockets]
        tasks = [task for one in connections if (task := one.stop(gone=True)) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=deadlines.STOP_GRACE + deadlines.CANCEL_AGAIN)

    async def aclose(self) -> None:
        """Look after nobody any more."""
        self._end_lag_watch()
        if self._timer is not None:
            self._timer.cancel()
        await self.watch.aclose()


local = PerLoop(Connections)
"""The sockets of the running event loop."""
