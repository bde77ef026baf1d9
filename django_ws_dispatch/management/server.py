"""uvicorn as a development server: the shape of Django's, and an end that waits for nobody."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import Any

import uvicorn
from django.core.exceptions import RequestAborted

from ..typing import ASGIApplication
from .protocols import DEFAULT
from .reload import END, exit_within

__all__ = ["DevelopmentServer"]

# Seconds from Ctrl-C on until what has not ended is cancelled, and until it has to have cleaned up.
GRACE = 0.2
CLEAN_UP = 2


class Server(uvicorn.Server):
    """A uvicorn that, when it is told to stop, ends whatever runs."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if threading.current_thread() is threading.main_thread():
            exit_within(END, 0)
        # From here on it tells of what it waits for, and of each handler that is cancelled.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        asyncio.get_running_loop().set_exception_handler(_handle)
        ending = asyncio.create_task(self._end_tasks())
        await super().shutdown(sockets)
        ending.cancel()

    async def _end_tasks(self) -> None:
        # Sockets get their 1012 meanwhile; a handler that reads ends by itself.
        await asyncio.sleep(GRACE)
        for task in list(self.server_state.tasks):
            task.cancel()


def _handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # Django 5.2 leaves the task that watched for the disconnect of a request behind.
    if not isinstance(context.get("exception"), RequestAborted):
        loop.default_exception_handler(context)


class DevelopmentServer:
    """What ``django.core.servers.basehttp.run()`` takes for a server class.

    Binds at once, so that Django's runserver says which address can not be had (``OSError``).
    ``ws`` is what uvicorn's ``--ws`` takes.
    """

    def __init__(
        self,
        address: tuple[str, int],
        handler_class: object = None,
        ipv6: bool = False,
        *,
        ws: str = DEFAULT,
    ) -> None:
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        both = ipv6 and socket.has_dualstack_ipv6()
        self.socket = socket.create_server(address, family=family, dualstack_ipv6=both)
        self.server_port: int = self.socket.getsockname()[1]
        self.ws = ws
        self.application: Any = None
        self.server: Server | None = None
        self.ended = threading.Event()

    def set_app(self, application: ASGIApplication) -> None:
        self.application = application

    def serve_forever(self) -> None:
        config = uvicorn.Config(
            self.application,
            interface="asgi3",
            ws=self.ws,
            # What a proxy says is believed where the settings say so (SECURE_PROXY_SSL_HEADER).
            proxy_headers=False,
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=CLEAN_UP,
        )
        self.server = Server(config)
        try:
            self.server.run([self.socket])
        finally:
            self.socket.close()
            self.ended.set()

    def stop(self) -> None:
        """Stop it, from another thread; return once it has ended."""
        if self.server is not None:
            self.server.should_exit = True
            self.ended.wait(END)
