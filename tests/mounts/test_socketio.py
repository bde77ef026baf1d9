"""Socket.IO, with its own client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import socketio

from tests.kit.server import Server

from .site import run, serve

pytestmark = pytest.mark.live


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("site"), "tests.mounts.frameworks") as server:
        yield server


async def connected(server: Server) -> tuple[socketio.AsyncClient, asyncio.Queue[str]]:
    client = socketio.AsyncClient(reconnection=False)
    said: asyncio.Queue[str] = asyncio.Queue()
    client.on("said", said.put)
    await client.connect(
        server.http_url, transports=["websocket"], headers={"Origin": server.http_url}
    )
    return client, said


def test_events_acknowledgements_and_rooms(server: Server) -> None:
    async def scenario() -> None:
        (one, said_to_one), (two, said_to_two) = [await connected(server) for _ in range(2)]
        assert await one.call("say", "hello") == "heard hello"
        assert await said_to_one.get() == await said_to_two.get() == "hello"
        await one.disconnect()
        await two.disconnect()

    run(scenario)
    server.wait_for_notes("sio ends", 2)


def test_a_client_that_is_cut_off_is_no_error(server: Server) -> None:
    async def scenario() -> None:
        client, _ = await connected(server)
        assert await client.call("say", "hello") == "heard hello"
        client.eio.ws._response.connection.transport.abort()
        await client.wait()

    run(scenario)
    server.wait_for_notes("sio ends")


def test_the_stop_of_the_server_ends_it(server: Server) -> None:
    async def scenario() -> None:
        clients = [(await connected(server))[0] for _ in range(5)]
        for client in clients:
            assert await client.call("say", "hello") == "heard hello"
        server.terminate()
        for client in clients:
            await client.wait()

    run(scenario)
    server.wait()
    assert server.notes.count("sio ends") == 5
