"""The class on the oldest uvicorn that it knows, as a process: ``tox run -e uvicorn_oldest``."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.kit.server import DEADLINE, OURS, Server

APPLICATION = "tests.uvicorn_suite.app:app"
MIB = 2**20


@pytest.fixture(params=[("asyncio", "h11"), ("uvloop", "httptools")], ids="-".join)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    loop, http = request.param
    options = ["--ws", OURS, "--loop", loop, "--http", http, "--lifespan", "off"]
    with Server(*options, application=APPLICATION) as server:
        yield server


def opened(server: Server, compression: str | None = "deflate") -> ClientConnection:
    socket = connect(server.url, compression=compression, max_size=None, proxy=None)
    assert socket.response is not None
    assert socket.response.headers["X-Class"] == "django_ws_dispatch.uvicorn.protocol"
    assert bool(socket.protocol.extensions) == (compression is not None)
    return socket


def end_of(socket: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as caught:
        socket.recv(DEADLINE)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


@pytest.mark.parametrize("compression", ["deflate", None])
def test_text_and_binary_of_every_size_come_back(server: Server, compression: str | None) -> None:
    texts = ["", "a", "€" * 1000, "x" * MIB]
    messages = [*texts, *(text.encode() for text in texts), os.urandom(MIB)]
    with opened(server, compression) as socket:
        for message in messages:
            socket.send(message)
            assert socket.recv(DEADLINE) == message
        socket.send(["fr", "ag", "ments"])
        assert socket.recv(DEADLINE) == "fragments"
        assert socket.ping().wait(DEADLINE)


def test_the_application_hears_how_the_client_closes(server: Server) -> None:
    with opened(server) as socket:
        socket.close(4321, "gone home")
    server.wait_for_notes("4321 gone home")


def test_the_client_hears_how_the_application_closes(server: Server) -> None:
    with opened(server) as socket:
        socket.send("close")
        assert end_of(socket) == (4001, "asked to")
    server.wait_for_notes("4001 asked to")


def test_everybody_is_told_that_the_server_stops(server: Server) -> None:
    with opened(server) as one, opened(server, None) as another:
        for socket in (one, another):
            socket.send("here")
            assert socket.recv(DEADLINE) == "here"
        server.terminate()
        assert [end_of(one), end_of(another)] == [(1012, "")] * 2
        server.wait()
    assert server.notes == ["1012 None"] * 2
