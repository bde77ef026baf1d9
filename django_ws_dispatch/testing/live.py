"""The site on a real server, in a thread of the tests' process and on their database."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from asgiref.sync import ThreadSensitiveContext
from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.exceptions import SuspiciousFileOperation
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest, HttpResponse
from django.test import TransactionTestCase, modify_settings
from django.utils._os import safe_join
from django.utils.functional import classproperty
from django.views.static import serve

from .. import lanes
from ..asgi import load_application
from ..dispatcher import WebSocketDispatcher
from ..management.protocols import DEFAULT, check_protocol
from ..typing import ASGIApplication

if TYPE_CHECKING:
    import uvicorn

__all__ = ["ASGILiveServer", "ASGILiveServerTestCase"]

logger = logging.getLogger("django_ws_dispatch.testing")

HOST = "127.0.0.1"
# Seconds for the start, and for the stop: handlers that stay are cancelled after the first half.
TIMEOUT = 20


class ASGILiveServer:
    """The site on uvicorn, in a thread, by default on a free port of 127.0.0.1.

    ::

        with ASGILiveServer() as server:
            urlopen(server.url + "/")

    It serves pages, sockets, what is in ``MEDIA_ROOT`` and, where ``django.contrib.staticfiles`` is
    installed, static files, on the test database. It sees what is committed: use it in a
    ``TransactionTestCase``, or take ``ASGILiveServerTestCase``. With SQLite in memory all sync code
    of the server runs in one thread, on the connection of the thread that started it.

    As a context manager it adds its host to ``ALLOWED_HOSTS``, too.

    Args:
        application: an ASGI application; without it the one that ``ASGI_APPLICATION`` names.
        host: the address or the name to listen on, which ``url`` has as well.
        port: 0 for any free one.
        ws: what serves the sockets, as uvicorn's ``--ws`` has it: a name that uvicorn knows, such
            as ``"auto"`` for uvicorn's own class, ``"module:Class"``, or a class.
    """

    def __init__(
        self,
        application: ASGIApplication | None = None,
        *,
        host: str = HOST,
        port: int = 0,
        ws: str | type[asyncio.Protocol] = DEFAULT,
    ) -> None:
        self._application = application
        self._host = host
        self._wanted_port = port
        self._ws = ws
        self._port: int | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._shared: dict[str, BaseDatabaseWrapper] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url if self._port else 'stopped'}>"

    def __str__(self) -> str:
        return self.url

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.allow_host())
            self.start()
            stack.callback(self.stop)
            self._leave = stack.pop_all().close
        return self

    def __exit__(self, *exc: object) -> None:
        self._leave()

    @property
    def url(self) -> str:
        """``http://host:port``, without a slash at the end.

        Raises:
            RuntimeError: the server is not started.
        """
        return f"http://{self._address()}"

    def websocket_url(self, path: str) -> str:
        """Return ``ws://host:port`` and the path.

        Args:
            path: begins with a slash.

        Raises:
            ValueError: it does not.
            RuntimeError: the server is not started.
        """
        if not path.startswith("/"):
            raise ValueError(
                f"websocket_url() takes a path that begins with a slash, not {path!r}."
            )
        return f"ws://{self._address()}{path}"

    def allow_host(self) -> AbstractContextManager[Any]:
        """Return a context manager that adds the server's host to ``ALLOWED_HOSTS``."""
        return cast(
            "AbstractContextManager[Any]", modify_settings(ALLOWED_HOSTS={"append": self._host})
        )

    def start(self) -> None:
        """Start the server; return once it listens.

        Raises:
            ImproperlyConfigured: there is no application.
            ImportError: uvicorn is not installed, or what ``ws`` needs.
            OSError: the port is taken.
            RuntimeError: it is started already, or its start-up failed.
            ValueError: ``ws`` is nothing that uvicorn can use.
        """
        if self._thread is not None:
            raise RuntimeError(f"The server is started already, at {self.url}.")
        server = self._make_server()
        listener = socket.create_server((self._host, self._wanted_port))
        self._port = listener.getsockname()[1]
        self._server, self._error = server, None
        self._ready.clear()
        self._shared = {
            connection.alias: connection
            for connection in connections.all()
            # Django's stubs do not know the backends' own methods.
            if connection.vendor == "sqlite" and cast(Any, connection).is_in_memory_db()
        }
        for connection in self._shared.values():
            connection.inc_thread_sharing()
        self._thread = threading.Thread(
            target=self._run, args=(server, listener), name="asgi-live-server", daemon=True
        )
        # Free-threaded Python gives a new thread its starter's context: an empty one.
        contextvars.Context().run(self._thread.start)
        self._ready.wait(TIMEOUT)
        if not server.started:
            error = self._error
            self.stop()
            raise RuntimeError("The live server did not start; see the log.") from error

    def stop(self) -> None:
        """Stop the server: sockets are closed with 1012, and their handlers have ended.

        Nothing happens where it is not started.

        Raises:
            RuntimeError: a handler or a view does not end.
        """
        thread, self._thread = self._thread, None
        if thread is None or self._server is None:
            return
        self._server.should_exit = True
        thread.join(TIMEOUT)
        self._port = self._server = None
        for connection in self._shared.values():
            connection.dec_thread_sharing()
        self._shared = {}
        if thread.is_alive():
            raise RuntimeError(
                f"The live server is still running {TIMEOUT} s after it was told to stop: a view "
                "or a handler blocks. Look for sync code in a coroutine."
            )

    def _address(self) -> str:
        if self._port is None:
            raise RuntimeError("The live server is not started: use it in a with statement.")
        return f"{self._host}:{self._port}"

    def _make_server(self) -> uvicorn.Server:
        try:
            import uvicorn
        except ModuleNotFoundError as exc:
            raise ModuleNotFoundError(
                'The live server needs uvicorn: pip install "django-ws-dispatch[uvicorn]".'
            ) from exc
        check_protocol(self._ws)

        async def note_start() -> None:
            self._ready.set()

        application = self._application or load_application()
        if isinstance(application, WebSocketDispatcher):
            # Its own one: a client in the same process has the other's lifespan.
            application = WebSocketDispatcher(application.http_application)
        application = cast(ASGIApplication, _MediaFilesHandler(cast(Any, application)))
        if apps.is_installed("django.contrib.staticfiles") and settings.STATIC_URL:
            application = cast(ASGIApplication, ASGIStaticFilesHandler(cast(Any, application)))
        config = uvicorn.Config(
            application,
            interface="asgi3",
            loop="asyncio",
            ws=self._ws,
            proxy_headers=False,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=TIMEOUT // 2,
            # uvicorn calls it as soon as it serves, and every now and then from there on.
            callback_notify=note_start,
        )
        return uvicorn.Server(config)

    # What follows runs in the server's thread.

    def _run(self, server: uvicorn.Server, listener: socket.socket) -> None:
        try:
            asyncio.run(self._serve(server, listener))
        except BaseException as exc:  # uvicorn exits where the start-up fails
            self._error = exc
            if self._ready.is_set():
                logger.exception("The live server failed.")
        finally:
            listener.close()
            self._ready.set()

    async def _serve(self, server: uvicorn.Server, listener: socket.socket) -> None:
        if not self._shared:
            try:
                await server.serve([listener])
            finally:
                # A test database with connections can not be dropped.
                lanes.shutdown()
            return
        executor = ThreadPoolExecutor(1, "asgi-live-server-sync", self._adopt_connections)
        # Django's handler enters a context of this kind for each request; the outermost one counts.
        try:
            async with ThreadSensitiveContext(executor=executor):
                with lanes.off():
                    await server.serve([listener])
        finally:
            executor.submit(connections.close_all)
            executor.shutdown()

    def _adopt_connections(self) -> None:
        for alias, connection in self._shared.items():
            connections[alias] = connection


class _MediaFilesHandler(ASGIStaticFilesHandler):
    """Serves what is in ``MEDIA_ROOT``, as Django's own live server does; all else is a page."""

    def get_base_url(self) -> str:
        return settings.MEDIA_URL

    def _should_handle(self, path: str) -> bool:
        if not settings.MEDIA_ROOT or not super()._should_handle(path):
            return False
        try:
            return os.path.isfile(safe_join(settings.MEDIA_ROOT, self.file_path(path)))
        except SuspiciousFileOperation:
            return False

    def serve(self, request: HttpRequest) -> HttpResponse:
        path = self.file_path(request.path)
        return cast(HttpResponse, serve(request, path, document_root=settings.MEDIA_ROOT))


class ASGILiveServerTestCase(TransactionTestCase):
    """A ``TransactionTestCase`` with an ``ASGILiveServer`` for all tests of the class.

    What Django's ``LiveServerTestCase`` is for pages; ``websocket_url()`` is for sockets.

    Attributes:
        host, port: where it listens, as in ``LiveServerTestCase``; 0 is any free port.
        ws: what serves the sockets, as for ``ASGILiveServer``.
        live_server: the server, while the tests of the class run.
    """

    host: ClassVar[str] = HOST
    port: ClassVar[int] = 0
    ws: ClassVar[str | type[asyncio.Protocol]] = DEFAULT
    live_server: ClassVar[ASGILiveServer]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        server = ASGILiveServer(host=cls.host, port=cls.port, ws=cls.ws)
        cls.live_server = cls.enterClassContext(server)

    @classproperty
    def live_server_url(cls) -> str:
        """``http://host:port``, without a slash at the end."""
        return cls.live_server.url

    @classmethod
    def websocket_url(cls, path: str) -> str:
        """Return ``ws://host:port`` and the path.

        Args:
            path: begins with a slash.
        """
        return cls.live_server.websocket_url(path)
