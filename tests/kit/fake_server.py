"""An ASGI server in memory, with one connection, that does what a test tells it to.

It behaves as the real ones do where they differ from each other: see ``HABITS``.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from django.core.signals import got_request_exception
from django.test import override_settings

from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.servers import quirks
from django_ws_dispatch.typing import ASGIApplication, Event, Receive, Scope, Send
from django_ws_dispatch.websockets import WebSocket, deadlines

from .waiting import DEADLINE, until

__all__ = [
    "HABITS",
    "FakeServer",
    "Habits",
    "Transport",
    "hurry",
    "no_pages",
    "only_socket",
    "serving",
]


class Habits(NamedTuple):
    """In what a server differs from the others."""

    extensions: bool = True
    """it takes denial responses"""
    send_fails: bool = True
    """``send()`` raises once the peer has left"""
    tells_of_close: bool = True
    """``receive()`` returns a disconnect once the application has closed"""
    repeats: bool = False
    """``receive()`` after a disconnect returns it again, instead of blocking"""


HABITS = {
    "uvicorn": Habits(),
    "hypercorn": Habits(send_fails=False, tells_of_close=False),
    "daphne": Habits(extensions=False, send_fails=False, tells_of_close=False),
    "granian": Habits(send_fails=False, repeats=True),
}


class ClientDisconnected(OSError):
    """What uvicorn raises in ``send()``."""


class Transport:
    """Where bytes wait for a client that does not read, until it is aborted."""

    def __init__(self, server: FakeServer, unsent: int) -> None:
        self._server = server
        self.unsent = unsent
        self.aborted = False
        self.given_up = False
        """the server has closed it, and waits for its buffer"""

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.given_up or self.aborted

    def abort(self) -> None:
        self.aborted, self.unsent = True, 0
        self._server.leave(1006)


class FakeServer:
    """One connection to an application.

    Args:
        application: ASGI.
        path: of the connection.
        server: a key of ``HABITS``.
        scope: what else is in the scope.
    """

    def __init__(
        self,
        application: ASGIApplication,
        path: str = "/ws/",
        *,
        server: str = "uvicorn",
        **scope: Any,
    ) -> None:
        self.application = application
        self.habits = HABITS[server]
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"testserver")],
            "client": ("127.0.0.1", 50000),
            "server": ("testserver", 80),
            "subprotocols": [],
            **scope,
        }
        if self.habits.extensions:
            self.scope.setdefault("extensions", {"websocket.http.response": {}})
        self.sent: list[Event] = []
        self.task: asyncio.Task[None] | None = None
        self.error: BaseException | None = None
        """what ``send()`` raises, if anything"""
        self.refused: BaseException | None = None
        """what ``send()`` raises for the text ``x``"""
        self.receive_error: Exception | None = None
        """what ``receive()`` raises, if anything"""
        self.transport: Transport | None = None
        self.one_reader = False
        """``receive()`` raises while another one waits"""
        self.waiting = 0
        """how many calls of ``receive()`` wait"""
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._writable = asyncio.Event()
        self._writable.set()
        self._last: Event | None = None
        self.feed({"type": "websocket.connect"})

    # What the application calls

    async def receive(self) -> Event:
        if self._last is not None and self.habits.repeats:
            return self._last
        if self.receive_error is not None:
            raise self.receive_error
        if self.one_reader and self.waiting:
            raise RuntimeError("another coroutine is already waiting for the next message")
        self.waiting += 1
        try:
            event = await self._events.get()
        finally:
            self.waiting -= 1
        if event["type"] == "websocket.disconnect":
            self._last = event
        return event

    async def send(self, event: Event) -> None:
        await self._writable.wait()
        if self.error is not None:
            raise self.error
        if self.refused is not None and event.get("text") == "x":
            raise self.refused
        self.sent.append(event)
        if event["type"] == "websocket.close" and self.habits.tells_of_close:
            self.feed({"type": "websocket.disconnect", "code": event.get("code", 1000)})

    # What a test does

    def start(self) -> FakeServer:
        """Call the application."""
        self.task = asyncio.create_task(self._call())
        return self

    async def _call(self) -> None:
        await self.application(self.scope, self.receive, self.send)

    def feed(self, *events: Event) -> None:
        for event in events:
            self._events.put_nowait(event)

    def message(self, *messages: str | bytes) -> None:
        """The client sends."""
        for message in messages:
            kind = "text" if isinstance(message, str) else "bytes"
            self.feed({"type": "websocket.receive", kind: message})

    def leave(self, code: int = 1001, reason: str = "") -> None:
        """The client closes, or the server stops."""
        if self.habits.send_fails:
            self.error = ClientDisconnected()
        self.feed({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._writable.set()

    def stall(self, unsent: int = 1000) -> Transport:
        """The client does not read, and the server shows how many bytes wait for it."""
        self.transport = Transport(self, unsent)
        return self.transport

    def block(self) -> None:
        """The client does not read any more: ``send()`` suspends."""
        self._writable.clear()

    def unblock(self) -> None:
        """The client reads again."""
        self._writable.set()

    @property
    def unread(self) -> int:
        """How many events the application has not received yet."""
        return self._events.qsize()

    @property
    def types(self) -> list[str]:
        """What the application has sent, without the ``websocket.``."""
        return [event["type"].removeprefix("websocket.") for event in self.sent]

    @property
    def data(self) -> list[str | bytes]:
        """The messages that the application has sent."""
        return [
            event["text"] if event.get("text") is not None else event["bytes"]
            for event in self.sent
            if event["type"] == "websocket.send"
        ]

    @property
    def closed(self) -> tuple[int, str] | None:
        """The code and the reason of the one close frame."""
        closes = [event for event in self.sent if event["type"] == "websocket.close"]
        assert len(closes) <= 1, closes
        return (closes[0].get("code", 1000), closes[0].get("reason", "")) if closes else None

    @property
    def denied(self) -> tuple[int, bytes] | None:
        """The status and the body of the denial."""
        for start, body in zip(self.sent, self.sent[1:], strict=False):
            if start["type"] == "websocket.http.response.start":
                assert body["type"] == "websocket.http.response.body"
                return start["status"], body["body"]
        return None

    async def sends(self, count: int) -> list[str | bytes]:
        """Wait until so many messages were sent."""
        await until(lambda: len(self.data) >= count)
        return self.data

    async def accepted(self) -> None:
        await until(lambda: "accept" in self.types)

    async def ended(self, deadline: float = DEADLINE) -> None:
        """Wait until the application has returned; raises what it raised."""
        assert self.task is not None
        done, _ = await asyncio.wait([self.task], timeout=deadline)
        assert done, "the application has not returned"
        await self.task


async def no_pages(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("this is no request for a page")


@asynccontextmanager
async def serving(
    handler: object,
    path: str = "/ws/",
    *,
    route: object = "ws/",
    server: str = "uvicorn",
    scope: Mapping[str, Any] | None = None,
    started: bool = True,
    **settings: Any,
) -> AsyncIterator[FakeServer]:
    """Connect to a site with one handler; at the end no task and no socket is left.

    Args:
        handler: of the one route.
        path: that is asked for.
        route: a route of the dict form, or the whole of ``WEBSOCKET_HANDLERS``.
        server: a key of ``HABITS``.
        scope: what else is in the scope.
        started: connect at once.
        settings: of Django, for as long as the connection lives.
    """
    before = asyncio.all_tasks()
    sockets = set(connections.local().sockets)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    failures: list[BaseException] = []

    def note(**kwargs: object) -> None:
        exc = sys.exception()
        if isinstance(exc, (AssertionError, TimeoutError, pytest.fail.Exception)):
            failures.append(exc)

    got_request_exception.connect(note)
    handlers = {route: handler} if isinstance(route, str) else route
    with override_settings(WEBSOCKET_HANDLERS=handlers, **settings):
        fake = FakeServer(WebSocketDispatcher(no_pages), path, server=server, **(scope or {}))
        if started:
            fake.start()
        try:
            yield fake
        finally:
            fake.leave()
            if fake.task is not None:
                await asyncio.wait([fake.task], timeout=DEADLINE)
                assert fake.task.done(), "the handler outlives its client"
            await until(lambda: not asyncio.all_tasks() - before)
            assert connections.local().sockets.keys() <= sockets
            gc.collect(1)
            got_request_exception.disconnect(note)
            assert not complaints, complaints
            for failure in failures:
                raise failure


def only_socket() -> WebSocket:
    """Return the one socket that is open."""
    (socket,) = connections.local().sockets
    return socket


def hurry(monkeypatch: pytest.MonkeyPatch, **constants: float) -> None:
    """Look after sockets all the time, and make the named constants something else."""
    monkeypatch.setattr(connections, "INTERVAL", 0.002)
    for name, value in constants.items():
        modules = (connections, deadlines, quirks)
        found = [module for module in modules if hasattr(module, name)]
        assert found, f"there is no constant {name}"
        for module in found:
            monkeypatch.setattr(module, name, value)
