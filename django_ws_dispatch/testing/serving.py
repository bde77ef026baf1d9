"""The application's life in the event loop of a test, as a server gives it one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from .. import connections, groups, lanes
from ..typing import ASGIApplication, Event

__all__ = ["serving"]

logger = logging.getLogger("django_ws_dispatch.lifespan")

# Seconds for the start-up and for the shutdown.
TIMEOUT = 10.0


class _Life:
    """The ASGI lifespan of one application in one event loop (ASGI spec, "Lifespan")."""

    def __init__(self, application: ASGIApplication) -> None:
        self.application = application
        self.users = 0
        self.lock = asyncio.Lock()
        self.state: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._to_application: asyncio.Queue[Event] = asyncio.Queue()
        self._to_server: asyncio.Queue[Event | None] = asyncio.Queue()

    @property
    def begun(self) -> bool:
        return self._task is not None

    async def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        event = await self._tell("lifespan.startup")
        if event is not None and event["type"] == "lifespan.startup.failed":
            await self._end_task()
            raise RuntimeError(
                f"The application's start-up failed: {event.get('message') or 'see the log'}"
            )

    async def end(self) -> None:
        event = await self._tell("lifespan.shutdown") if self._task is not None else None
        await self._end_task()
        if event is not None and event["type"] == "lifespan.shutdown.failed":
            raise RuntimeError(
                f"The application's shutdown failed: {event.get('message') or 'see the log'}"
            )

    async def _tell(self, kind: str) -> Event | None:
        """Return the application's answer; ``None`` if it has no lifespan."""
        self._to_application.put_nowait({"type": kind})
        try:
            async with asyncio.timeout(TIMEOUT):
                event = await self._to_server.get()
        except TimeoutError:
            await self._end_task()
            raise TimeoutError(
                f"The application did not answer {kind} within {TIMEOUT:g} s."
            ) from None
        if event is None:
            self._to_server.put_nowait(None)
        return event

    async def _end_task(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            if not task.done():
                await asyncio.wait([task], timeout=0.1)
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        try:
            with lanes.off():
                await self.application(
                    {**scope, "state": self.state}, self._to_application.get, self._to_server.put
                )
        except Exception as exc:
            # Servers take it for an application without a lifespan as well.
            logger.debug("The application has no lifespan: %r", exc)
        finally:
            self._to_server.put_nowait(None)


_lives: dict[tuple[asyncio.AbstractEventLoop, int], _Life] = {}


@asynccontextmanager
async def serving(application: ASGIApplication) -> AsyncIterator[dict[str, Any]]:
    """Begin the life of an application before its first socket in this loop, end it after its last.

    Yields:
        A copy of the state that the application made at its start-up.
    """
    for key in [key for key in _lives if key[0].is_closed()]:
        del _lives[key]
    key = (asyncio.get_running_loop(), id(application))
    life = _lives.get(key)
    if life is None:
        life = _lives[key] = _Life(application)
    life.users += 1
    try:
        async with life.lock:
            if not life.begun:
                await life.begin()
        yield dict(life.state)
    finally:
        life.users -= 1
        async with life.lock:
            if not life.users:
                _lives.pop(key, None)
                try:
                    await life.end()
                finally:
                    await connections.aclose()
                    await groups.aclose()
