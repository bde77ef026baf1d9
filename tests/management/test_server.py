"""uvicorn as a development server."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

import pytest

from django_ws_dispatch.management.commands import runserver
from tests.kit.waiting import DEADLINE, wait_until


def test_an_address_that_can_not_be_had_is_an_oserror_and_leaves_nothing_open():
    server = pytest.importorskip("django_ws_dispatch.management.server")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        server.DevelopmentServer(taken.getsockname())


def test_stopping_a_server_that_has_not_started_returns_at_once():
    server = pytest.importorskip("django_ws_dispatch.management.server")
    bound = server.DevelopmentServer(("127.0.0.1", 0))
    assert bound.server_port > 0
    bound.stop()
    bound.socket.close()
    runserver.Command().stop()


@contextmanager
def serving(application: Any, **options: Any) -> Iterator[tuple[Any, str]]:
    """An application that is served in a thread, and its URL."""
    module = pytest.importorskip("django_ws_dispatch.management.server")
    server = module.DevelopmentServer(("127.0.0.1", 0), **options)
    server.set_app(application)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        wait_until(lambda: server.server is not None and server.server.started)
        yield server, f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """A page; a lifespan it has not."""
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["scheme"].encode()})


def test_it_serves_what_it_was_given_and_believes_no_proxy():
    with serving(hello) as (_, url):
        request = Request(url, headers={"X-Forwarded-Proto": "https"})
        with urlopen(request, timeout=DEADLINE) as response:
            assert response.read() == b"http"


async def named(scope: Any, receive: Any, send: Any) -> None:
    """A socket that says which class serves it; a lifespan it has not."""
    if scope["type"] != "websocket":
        raise ValueError(scope["type"])
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": type(receive.__self__).__module__})
    await send({"type": "websocket.close"})


@pytest.mark.parametrize(
    ("options", "package"),
    [
        ({}, "django_ws_dispatch.uvicorn"),
        ({"ws": "websockets-sansio"}, "uvicorn.protocols.websockets"),
    ],
)
def test_its_sockets_are_served_by_the_class_that_it_was_given(options, package):
    client = pytest.importorskip("websockets.sync.client")
    with (
        serving(named, **options) as (_, url),
        client.connect(url.replace("http", "ws", 1)) as one,
    ):
        assert one.recv(DEADLINE).startswith(f"{package}.")


def test_once_it_has_stopped_its_port_can_be_had_again():
    with serving(hello) as (server, _):
        server.stop()
        assert server.ended.is_set()
        socket.create_server(("127.0.0.1", server.server_port)).close()


def test_a_page_that_does_not_end_is_cancelled_when_it_stops(monkeypatch):
    module = pytest.importorskip("django_ws_dispatch.management.server")
    monkeypatch.setattr(module, "CLEAN_UP", 3600)  # until uvicorn itself does it
    began, cancelled = threading.Event(), threading.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError(scope["type"])
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def ask(url: str) -> None:
        with pytest.raises(OSError, match=r"."):
            urlopen(url, timeout=DEADLINE)

    with serving(endless) as (server, url):
        asking = threading.Thread(target=ask, args=(url,))
        asking.start()
        assert began.wait(DEADLINE)
        server.stop()
        assert cancelled.wait(DEADLINE)
        asking.join(DEADLINE)


def test_a_server_on_ipv6_listens_on_ipv4_too_where_the_system_can():
    module = pytest.importorskip("django_ws_dispatch.management.server")
    try:
        server = module.DevelopmentServer(("::1", 0), ipv6=True)
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert server.socket.family == socket.AF_INET6
    server.socket.close()
