"""The life of a server process (ASGI spec, "Lifespan"), and ``WEBSOCKET_LIFESPAN`` in it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from ..conf import conf, import_setting
from ..groups import members
from ..typing import Receive, Scope, Send
from . import sweep as connections

__all__ = ["Lifespan", "load_lifespan"]

logger = logging.getLogger("django_ws_dispatch.lifespan")

Factory = Callable[[], AbstractAsyncContextManager[Mapping[str, Any] | None]]


def load_lifespan() -> Factory | None:
    """Return the function that ``WEBSOCKET_LIFESPAN`` names, or raise ``ImproperlyConfigured``."""
    path = conf.lifespan
    if path is None:
        return None
    remedy = "Write the dotted path of an @asynccontextmanager function."
    factory: Factory = import_setting("WEBSOCKET_LIFESPAN", path, remedy)
    # contextlib's decorator leaves the generator function below the function that it returns.
    wrapped = getattr(factory, "__wrapped__", None)
    if (
        not callable(factory)
        or inspect.isgeneratorfunction(wrapped)
        or (wrapped is None and not hasattr(factory, "__aenter__"))
    ):
        raise ImproperlyConfigured(
            f"WEBSOCKET_LIFESPAN: {path!r} is not an @asynccontextmanager function. Decorate an "
            "async generator function that yields once with contextlib.asynccontextmanager."
        )
    try:
        inspect.signature(factory).bind()
    except TypeError as exc:
        raise ImproperlyConfigured(
            f"WEBSOCKET_LIFESPAN: {path!r} is called without arguments, but: {exc}. Remove its "
            "parameters."
        ) from exc
    except ValueError:
        pass  # written in C
    return factory


class Lifespan:
    """Enters ``WEBSOCKET_LIFESPAN`` at the start of a server and leaves it at the stop.

    On a server without the lifespan protocol it is entered before the first connection, and left
    when its event loop ends. Where it ends by itself, sockets go on with the state that it yielded.
    """

    # Of the task that enters and leaves.
    _entered: asyncio.Future[None]
    _stop: asyncio.Event

    def __init__(self, factory: Factory | None) -> None:
        self.factory = factory
        self.started = factory is None
        self.state: dict[str, Any] = {}
        self._entering: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a ``lifespan`` scope."""
        await receive()  # lifespan.startup
        try:
            await self.start()
        except Exception as exc:
            logger.exception("The start-up failed")
            await send({"type": "lifespan.startup.failed", "message": f"{exc!r}"})
            return
        if "state" in scope:
            scope["state"].update(self.state)
        connections.local().watch.begin()
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        try:
            await self.stop()
        except Exception as exc:
            logger.exception("The shutdown failed")
            await send({"type": "lifespan.shutdown.failed", "message": f"{exc!r}"})
            return
        await send({"type": "lifespan.shutdown.complete"})

    async def start(self) -> None:
        """Enter the context, once; wait until somebody else has entered it.

        Raises:
            Exception: what the context manager raised. The next call tries again.
        """
        if self.started or self.factory is None:
            return
        if self._entering is None:
            # A task of its own enters and leaves: a cancel scope in the context manager, say an
            # anyio task group, belongs to one task.
            loop = asyncio.get_running_loop()
            self._entered, self._stop = loop.create_future(), asyncio.Event()
            self._entering = loop.create_task(self._live(self.factory, self._entered, self._stop))
        await asyncio.shield(self._entered)

    async def _live(
        self, factory: Factory, entered: asyncio.Future[None], stop: asyncio.Event
    ) -> None:
        failure = None
        try:
            async with factory() as state:
                self.state = dict(state or {})
                self.started = True
                entered.set_result(None)
                await stop.wait()
        except BaseException as exc:
            if not entered.done():
                self._entering = None
                if isinstance(exc, Exception):
                    entered.set_exception(exc)
                    return
                entered.cancel()
            if stop.is_set() or not isinstance(exc, Exception):
                raise
            failure = exc
        if not stop.is_set():
            # Nobody waits for this task before the stop: it would come hours too late.
            logger.error(
                "The context of WEBSOCKET_LIFESPAN has ended while the server runs. Sockets go on "
                "with the state that it yielded, though what it held may be closed: restart the "
                "server.",
                exc_info=failure,
            )

    async def stop(self) -> None:
        """See the handlers out that are left, release what groups hold, and leave the context."""
        await connections.local().stop()
        await members.aclose()
        if self._entering is not None:
            self._stop.set()
            task, self._entering, self.started = self._entering, None, False
            await task
