"""The application's life in the event loop of a test, as a server gives it one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from .. import lanes
from ..dispatcher import sweep as connections
from ..groups import members
from ..loops import PerLoop
from ..typing import ASGIApplication, Event

__all__ = ["serving"]

logger = logging.getLogger("django_ws_dispatch.lifespan")

# Seconds for the start-up and for the shutdown.
TIMEOUT = 10.0


class _Life:
    """The ASGI lifespan of one application in one event loop (ASGI spec, "Lifespan")."""

    def __init__(self, application: ASGIApplication) -> None:
        self.application = application
        self.state: dict[str, Any] = {}
        self._begun = False
        self._task: asyncio.Task[None] | None = None
        self._to_application: asyncio.Queue[Event] = asyncio.Queue()
        self._to_server: asyncio.Queue[Event | None] = asyncio.Queue()

    async def begin(self) -> None:
        """Begin, once. After a caller that was cancelled the next one waits for the same answer."""
        if self._begun:
            return
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._to_application.put_nowait({"type": "lifespan.startup"})
        await self._wait_for("startup", "start-up")
        self._begun = True

    async def end(self) -> None:
        if self._task is not None and not self._begun:
            await self.begin()  # whoever began was cancelled: the start-up's answer comes first
        self._to_application.put_nowait({"type": "lifespan.shutdown"})
        try:
            await self._wait_for("shutdown", "shutdown")
        finally:
            await self._end_task()

    async def _wait_for(self, kind: str, name: str) -> None:
        """Wait until the application has answered, or turns out to have no lifespan."""
        try:
            async with asyncio.timeout(TIMEOUT):
                event = await self._to_server.get()
        except TimeoutError:
            await self._end_task()
            raise TimeoutError(
                f"The application did not answer lifespan.{kind} within {TIMEOUT:g} s."
            ) from None
        if event is None:
            self._to_server.put_nowait(None)
        elif event["type"] == f"lifespan.{kind}.failed":
            await self._end_task()
            raise RuntimeError(
                f"The application's {name} failed: {event.get('message') or 'see the log'}"
            )

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


class _Server:
    """What a server is to the applications of one event loop.

    All of them live until nobody is left in the loop: what an application ends at its shutdown,
    sockets and the subscriptions of groups, it ends for the whole loop.
    """

    def __init__(self) -> None:
        self.users = 0
        # Held while something begins or ends: who comes then waits, and finds it whole.
        self.lock = asyncio.Lock()
        self._lives: dict[int, _Life] = {}

    async def life(self, application: ASGIApplication) -> _Life:
        life = self._lives.setdefault(id(application), _Life(application))
        try:
            await life.begin()
        except Exception:
            del self._lives[id(application)]
            raise
        return life

    async def stop(self) -> None:
        lives, self._lives = self._lives, {}
        async with AsyncExitStack() as stack:
            stack.push_async_callback(members.aclose)
            stack.push_async_callback(connections.aclose)
            for life in lives.values():
                stack.push_async_callback(life.end)


_server_of_loop = PerLoop(_Server)


@asynccontextmanager
async def serving(application: ASGIApplication) -> AsyncIterator[dict[str, Any]]:
    """Begin the life of an application before its first socket in this loop.

    It ends after the loop's last socket, whichever application that is of.

    Yields:
        A copy of the state that the application made at its start-up.
    """
    server = _server_of_loop()
    server.users += 1
    try:
        async with server.lock:
            life = await server.life(application)
        yield dict(life.state)
    finally:
        server.users -= 1
        if not server.users:
            async with server.lock:
                if not server.users:  # nobody has come meanwhile
                    await server.stop()
