"""What the development server's log says of pages and sockets."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from django_ws_dispatch import servers
from django_ws_dispatch.management.access_log import AccessLog


def answered(scope: dict[str, Any], *events: dict[str, Any], received: Any = None) -> Any:
    """Let an application answer a scope, behind the log."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if received is not None:
            await receive()
        for event in events:
            await send(event)

    async def receive() -> Any:
        return received

    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    asyncio.run(AccessLog(application)(scope, receive, send))
    assert sent == list(events)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    logger = logging.getLogger("django.server")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "django.server")
    yield lambda: [(record.levelname, record.getMessage()) for record in caplog.records]
    logger.removeHandler(caplog.handler)


def test_what_a_client_writes_into_a_url_can_not_forge_a_line(lines):
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/\x1b[31m\r\n\xff",
        "query_string": b"a=\n\xe9",
        "http_version": "1.1",
    }
    answered(
        scope,
        {"type": "http.response.start", "status": 500},
        {"type": "http.response.body", "body": b"12", "more_body": True},
        {"type": "http.response.body", "body": b"3"},
    )
    assert lines() == [
        ("ERROR", r'"GET /\x1b[31m\r\n\xff?a=\n\xe9 HTTP/1.1" 500 3'),
    ]


def test_what_a_client_writes_into_a_url_is_cut(lines):
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/" + "a" * 5000,
        "query_string": b"b" * 5000,
        "http_version": "1.1",
    }
    answered(scope, {"type": "http.response.start", "status": 404})
    answered({**SOCKET, "path": "/" + "a" * 5000}, {"type": "websocket.close"})
    url = f"/{'a' * 199}..."
    assert [text for _, text in lines()] == [
        f'"GET {url}?{"b" * 200}... HTTP/1.1" 404 0',
        f'"WebSocket {url}" 403',
    ]


SOCKET = {"type": "websocket", "path": "/ws/é/", "query_string": b"token=secret"}


ACCEPT = {"type": "websocket.accept"}


SHOWN = r'"WebSocket /ws/\xc3\xa9/"'


def test_a_socket_is_logged_when_it_opens_and_when_it_is_over(lines):
    close = {"type": "websocket.close", "code": 4401}
    answered(SOCKET, ACCEPT, {"type": "websocket.send", "text": "1"}, close)
    assert lines() == [("INFO", f"{SHOWN} 101"), ("INFO", f"{SHOWN} closed 4401")]


def test_a_socket_that_the_client_closes_is_logged_with_its_code(lines):
    answered(SOCKET, ACCEPT, received={"type": "websocket.disconnect", "code": 1001})
    assert lines() == [("INFO", f"{SHOWN} 101"), ("INFO", f"{SHOWN} closed 1001")]


def test_a_denial_is_logged_with_its_status(lines):
    answered(SOCKET, {"type": "websocket.close"})
    answered(SOCKET, {"type": "websocket.http.response.start", "status": 503})
    assert lines() == [("WARNING", f"{SHOWN} 403"), ("ERROR", f"{SHOWN} 503")]


def test_an_answer_that_never_came_and_the_lifespan_are_not_logged(lines):
    answered({**SOCKET, "type": "http"})
    answered({"type": "lifespan"}, {"type": "lifespan.startup.complete"})
    assert lines() == []


def test_a_client_that_is_stuck_can_be_cut_off_through_the_log():
    class Transport(asyncio.Transport):
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    class Protocol:
        transport = Transport()

        async def send(self, event: Any) -> None: ...

    Protocol.__module__ = "uvicorn.protocols.websockets"
    protocol = Protocol()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert servers.of(send, {}).abort()

    async def receive() -> Any: ...

    asyncio.run(AccessLog(application)(SOCKET, receive, protocol.send))
    assert protocol.transport.aborted
