"""Django's test client with ``connect()``: a site's sockets in a test, without a server."""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, overload
from urllib.parse import quote, unquote, urlsplit

from django.test import AsyncClient

from ..asgi import load_application
from ..groups.envelopes import SINCE, SUBPROTOCOL
from ..typing import ASGIApplication, Scope
from .envelopes import EnvelopeSocket
from .serving import serving
from .sockets import ClientSocket, HandshakeDenied, join_headers
from .wire import Wire

__all__ = ["HandshakeDenied", "WebSocketClient"]


class WebSocketClient(AsyncClient):
    """Django's ``AsyncClient``, which also opens sockets.

    It runs the site's own application in the event loop of the test, without a server. Sync code of
    handlers runs where the test's own runs, so that both see one transaction.

    ``WEBSOCKET_LIFESPAN`` is entered before the first socket of an event loop and left after its
    last, whichever application that is of. What groups hold in the loop is released then, too: a
    ``Group.subscribe()`` of the test belongs into the block of a socket.

    Args:
        application: an ASGI application; without it the one that ``ASGI_APPLICATION`` names.
        args, kwargs: those of ``AsyncClient``. With ``raise_request_exception=False`` the test sees
            what a client sees when a handler or a middleware fails: a denial with 500, or the close
            code 1011.
    """

    def __init__(
        self, *args: Any, application: ASGIApplication | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._application = application

    @overload
    def connect(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        subprotocols: Iterable[str] = (),
        secure: bool = False,
        timeout: float = 5,
        envelope: Literal[False] = False,
    ) -> AbstractAsyncContextManager[ClientSocket]: ...

    @overload
    def connect(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        subprotocols: Iterable[str] = (),
        secure: bool = False,
        timeout: float = 5,
        envelope: Literal[True],
        since: str = "",
    ) -> AbstractAsyncContextManager[EnvelopeSocket]: ...

    @asynccontextmanager
    async def connect(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        subprotocols: Iterable[str] = (),
        secure: bool = False,
        timeout: float = 5,
        envelope: bool = False,
        since: str = "",
    ) -> AsyncIterator[Any]:
        """Open a socket: ``async with client.connect("/ws/ping/") as socket``.

        Leaving the block closes it with 1001, as a browser does whose page is left, and waits for
        the handler to end. Cookies that the application sets go to ``client.cookies``.

        Args:
            path: with a query string if need be; or a whole URL, ``ws://host/path``.
            headers: more headers. There is no ``Origin`` unless it is given here.
            subprotocols: that the client offers.
            secure: ``wss`` instead of ``ws``.
            timeout: seconds for the handshake, and for the handler to end after the block.
            envelope: speak ``django-ws-dispatch.v1``, as the JavaScript client does; the socket is
                an ``EnvelopeSocket`` then.
            since: a token of ``since_token()``, or the ``since`` of an earlier socket; only with
                ``envelope``.

        Raises:
            HandshakeDenied: the application denied the handshake.
            TimeoutError: it did not answer in time, or the handler did not end.
            ValueError: the path does not begin with a slash.
            TypeError: a header is not ``str``, or ``subprotocols`` is one ``str``.
            AssertionError: the handler has chosen another subprotocol, with ``envelope``.
            Exception: what the handler, or a middleware, raised.
        """
        if isinstance(subprotocols, str):
            raise TypeError(
                f"connect() takes a list of subprotocols, not a str: [{subprotocols!r}]."
            )
        for name, value in (headers or {}).items():
            if not (isinstance(name, str) and isinstance(value, str)):
                raise TypeError(f"connect() takes headers of str, not {name!r}: {value!r}.")
        application = self._application or load_application()
        every = list(subprotocols)
        if envelope:
            every += [SUBPROTOCOL, SINCE + since] if since else [SUBPROTOCOL]
        scope = self._websocket_scope(str(path), headers or {}, every, secure)
        async with serving(application) as state:
            scope["state"] = state
            wire = Wire(application, scope)
            raises = self.raise_request_exception
            socket = ClientSocket(wire, raises=raises)
            if envelope:
                socket = EnvelopeSocket(wire, raises=raises, since=since)
            failed: BaseException | None = None
            try:
                await wire.open(timeout)
                self._take_cookies(wire)
                if wire.accepted:
                    if isinstance(socket, EnvelopeSocket):
                        await socket.begin(timeout)
                    yield socket
            except BaseException as exc:
                failed = exc
                raise
            finally:
                try:
                    await wire.leave(timeout)
                except TimeoutError as exc:
                    if failed is None:
                        raise
                    failed.add_note(str(exc))
                if failed is None:
                    socket.raise_failure()
                elif socket.failure is not None:
                    failed.add_note(f"The handler of {wire.path} failed: {socket.failure!r}")
            if not wire.accepted:
                raise HandshakeDenied(wire.status or 403, join_headers(wire.headers), wire.body)

    def _take_cookies(self, wire: Wire) -> None:
        for name, value in wire.headers:
            if name.lower() == b"set-cookie":
                self.cookies.load(value.decode("latin-1"))

    def _websocket_scope(
        self, path: str, headers: Mapping[str, str], subprotocols: list[str], secure: bool
    ) -> Scope:
        url = urlsplit(path)
        if not url.path.startswith("/"):
            raise ValueError(
                f"connect() takes a path that begins with a slash, or a whole URL, not {path!r}."
            )
        secure = secure or url.scheme in ("wss", "https")
        raw_path = quote(url.path, safe="/%:@!$&'()*+,;=~-._").encode("ascii")
        all_headers = {
            "host": url.netloc or "testserver",
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": base64.b64encode(secrets.token_bytes(16)).decode(),
        }
        if subprotocols:
            all_headers["sec-websocket-protocol"] = ", ".join(subprotocols)
        if self.cookies:
            all_headers["cookie"] = "; ".join(
                f"{morsel.key}={morsel.coded_value}" for morsel in self.cookies.values()
            )
        for name, value in [*self.defaults.items(), *headers.items()]:
            if isinstance(value, str):
                # Django keeps the headers of a client as WSGI names them.
                name = name.removeprefix("HTTP_").replace("_", "-").lower()
                all_headers[name] = value
        return {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if secure else "ws",
            "path": unquote(url.path),
            "raw_path": raw_path,
            "query_string": url.query.encode(),
            "root_path": "",
            "headers": [
                (name.encode("ascii"), value.encode("latin-1"))
                for name, value in all_headers.items()
            ],
            "client": ("127.0.0.1", 50000),
            "server": ("testserver", 443 if secure else 80),
            "subprotocols": subprotocols,
            "extensions": {"websocket.http.response": {}},
        }
