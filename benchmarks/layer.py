"""The layer alone, in one process, over bare ASGI: ``python -m benchmarks --only layer``.

The server is a pair of coroutine functions that never suspend, so that whatever is over the bare
application is this package's. Numbers are microseconds of CPU.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

from .measure import Sample, cpu_us, interleave
from .report import Table

BARE = "bare ASGI"
WEBSOCKET = "WebSocket handler"
RAW = "raw handler"
LAST = "last of 1,000 routes"

HOST = (b"host", b"testserver")
# What Firefox sends, in its order.
BROWSER = [
    HOST,
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"*/*"),
    (b"accept-language", b"en-US,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"sec-websocket-version", b"13"),
    (b"origin", b"http://testserver"),
    (b"sec-websocket-extensions", b"permessage-deflate"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"connection", b"keep-alive, Upgrade"),
    (b"sec-fetch-mode", b"websocket"),
    (b"upgrade", b"websocket"),
]

CONNECT = {"type": "websocket.connect"}
DISCONNECT = {"type": "websocket.disconnect", "code": 1005, "reason": ""}
MESSAGE = {"type": "websocket.receive", "text": "ping"}

Headers = list[tuple[bytes, bytes]]


def scope_of(path: str, headers: Headers) -> dict[str, Any]:
    """Return a scope as uvicorn makes it."""
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "subprotocols": [],
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }


async def ignore(event: dict[str, Any]) -> None:
    """A server's ``send``."""


async def converse(app: Any, scope: dict[str, Any], messages: int) -> None:
    """Connect once, send so many messages, leave."""
    pop = deque([CONNECT, *[MESSAGE] * messages, DISCONNECT]).popleft

    async def receive() -> dict[str, Any]:
        return pop()

    await app(scope, receive, ignore)


async def connect(app: Any, scopes: list[dict[str, Any]]) -> None:
    """Connect and leave, once for each scope."""
    for scope in scopes:
        pop = deque((CONNECT, DISCONNECT)).popleft

        async def receive(pop: Any = pop) -> dict[str, Any]:
            return pop()

        await app(scope, receive, ignore)


class Layer:
    """The workloads, on one event loop.

    Args:
        runner: the loop.
        quick: fewer turns.
    """

    def __init__(self, runner: asyncio.Runner, quick: bool) -> None:
        from django_ws_dispatch.asgi import get_asgi_application

        from . import handlers

        self.run = runner.run
        self.turns = 7 if quick else 25
        self.bare = handlers.raw_echo
        self.ours = get_asgi_application()
        from .accounts import amake_session  # models: after the application

        self.session = runner.run(amake_session())

    def tables(self) -> Iterator[Table]:
        """Run one workload after the other."""
        yield self.messages()
        for title, headers in (("Host", [HOST]), ("a browser's headers", BROWSER)):
            yield self.connects(title, headers)
        yield self.http()
        yield from self.routing()
        yield self.steps()

    def _messages(self, app: Any, path: str) -> Sample:
        count = 10_000
        return cpu_us(lambda: self.run(converse(app, scope_of(path, BROWSER), count)), count)

    def _connects(self, app: Any, path: str, headers: Headers, count: int = 1_000) -> Sample:
        # Every connection has a scope and header objects of its own, made beforehand.
        scopes = [scope_of(path, list(headers)) for _ in range(count)]
        return cpu_us(lambda: self.run(connect(app, scopes)), count)

    def messages(self) -> Table:
        rows = interleave(
            {
                BARE: partial(self._messages, self.bare, "/ws/echo/"),
                RAW: partial(self._messages, self.ours, "/ws/raw/"),
                WEBSOCKET: partial(self._messages, self.ours, "/ws/echo/"),
            },
            self.turns,
        )
        return Table("Per message, in process", "us", rows, over={RAW: 0.2, WEBSOCKET: 0.45})

    def connects(self, title: str, headers: Headers) -> Table:
        rows = interleave(
            {
                BARE: partial(self._connects, self.bare, "/ws/echo/", headers),
                RAW: partial(self._connects, self.ours, "/ws/raw/", headers),
                WEBSOCKET: partial(self._connects, self.ours, "/ws/echo/", headers),
            },
            self.turns,
        )
        return Table(f"Per connect with {title}, in process", "us", rows, over={WEBSOCKET: 3.0})

    def http(self) -> Table:
        count = 10_000
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [HOST]}

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def requests(app: Any) -> None:
            for _ in range(count):
                await app(scope, None, ignore)

        ours = type(self.ours)(application)
        rows = interleave(
            {
                BARE: lambda: cpu_us(lambda: self.run(requests(application)), count),
                "through the dispatcher": lambda: cpu_us(lambda: self.run(requests(ours)), count),
            },
            self.turns,
        )
        limits = {"through the dispatcher": 0.15}
        return Table("Per HTTP request passed through, in process", "us", rows, over=limits)

    def routing(self) -> Iterator[Table]:
        from django_ws_dispatch.routing.routes import Routes

        async def handler(websocket: object, room: str = "") -> None:
            pass

        def find(routes: Routes, path: str, count: int) -> Sample:
            scope = scope_of(path, BROWSER)

            def work() -> None:
                for _ in range(count):
                    routes.find(scope)

            return cpu_us(work, count)

        # Name, the n-th route, a path for it, the most that the last of 1,000 may take.
        for name, route, path, most in (
            ("literal", "ws/route{}/", "/ws/route{}/", {LAST: 1.0}),
            ("with a converter", "ws/route{}/<slug:room>/", "/ws/route{}/room/", {LAST: 12.0}),
            ("beginning with a converter", "ws/<slug:room>/{}/", "/ws/room/{}/", {}),
        ):
            targets = {}
            for size in (10, 100, 1_000):
                routes = Routes({route.format(number): handler for number in range(size)})
                count = 2_000 if most else 100
                last = path.format(size - 1)
                targets[f"last of {size:,} routes"] = partial(find, routes, last, count)
            rows = interleave(targets, self.turns)
            yield Table(f"Finding a route, {name}", "us", rows, values=most)

    def steps(self) -> Table:
        """What each step of a handshake costs. A user is a thread hop and two queries."""
        from django.conf import settings

        cookie = (b"cookie", f"sessionid={self.session}".encode())
        chain = ["django.middleware.locale.LocaleMiddleware"]
        settings.WEBSOCKET_MIDDLEWARE = chain
        with_middleware = type(self.ours)(self.ours.http_application)
        settings.WEBSOCKET_MIDDLEWARE = []
        connects = partial(self._connects, count=100)
        user = [*BROWSER, cookie]
        rows = interleave(
            {
                BARE: partial(connects, self.bare, "/ws/echo/", BROWSER),
                "no header at all": partial(connects, self.ours, "/ws/echo/", []),
                "Host": partial(connects, self.ours, "/ws/echo/", [HOST]),
                "Host and Origin": partial(connects, self.ours, "/ws/echo/", BROWSER),
                "logged in, user not asked for": partial(connects, self.ours, "/ws/echo/", user),
                "LocaleMiddleware": partial(connects, with_middleware, "/ws/echo/", BROWSER),
                "request built": partial(connects, self.ours, "/ws/request/", BROWSER),
                "session loaded (database)": partial(connects, self.ours, "/ws/session/", user),
                "user loaded (database)": partial(connects, self.ours, "/ws/user/", user),
            },
            self.turns,
        )
        return Table("Steps of a handshake, in process", "us", rows)
