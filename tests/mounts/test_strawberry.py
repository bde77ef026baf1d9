"""GraphQL subscriptions of Strawberry (graphql-transport-ws), with gql as the client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gql
import pytest
from gql.transport.exceptions import TransportConnectionFailed
from gql.transport.websockets import WebsocketsTransport

from tests.kit.server import Server

from .site import run, serve

pytestmark = pytest.mark.live

COUNT = gql.gql("subscription { count(target: 3) }")


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("site"), "tests.mounts.frameworks") as server:
        yield server


def client(server: Server) -> Any:
    transport = WebsocketsTransport(
        url=f"{server.url}/graphql/",
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
        connect_args={"origin": server.http_url, "proxy": None},
    )
    return gql.Client(transport=transport)


def test_queries_and_subscriptions(server: Server) -> None:
    async def scenario() -> None:
        async with client(server) as session:
            assert await session.execute(gql.gql("{ hello }")) == {"hello": "world"}
            counted = []
            async for result in session.subscribe(COUNT):
                counted.append(result["count"])
                if len(counted) == 3:
                    break
            assert counted == [0, 1, 2]

    run(scenario)
    server.wait_for_notes("count ends")


def test_a_client_that_is_cut_off_ends_its_subscription(server: Server) -> None:
    async def scenario() -> None:
        connecting = client(server)
        session = await connecting.connect_async()
        subscription = session.subscribe(COUNT)
        # Strawberry logs an error where it finds out by a send, so let it have sent everything.
        for number in range(3):
            assert await anext(subscription) == {"count": number}
        connecting.transport.adapter.websocket.transport.abort()
        await connecting.close_async()

    run(scenario)
    server.wait_for_notes("count ends")


def test_the_stop_of_the_server_ends_subscriptions(server: Server) -> None:
    async def scenario() -> None:
        connecting = client(server)
        session = await connecting.connect_async()
        subscription = session.subscribe(COUNT)
        for number in range(3):
            assert await anext(subscription) == {"count": number}
        server.terminate()
        socket = connecting.transport.adapter.websocket
        with pytest.raises(TransportConnectionFailed):
            await anext(subscription)
        assert socket.close_code == 1012
        await connecting.close_async()

    run(scenario)
    server.wait()
    assert server.notes.count("count ends") == 1
