"""The client of docs/howto/native-clients.md, as it stands there, and servers that restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.docs.pages import DOCS, blocks
from tests.kit.server import DEADLINE, Server
from tests.kit.valkey import Valkey

pytestmark = [pytest.mark.live, pytest.mark.asyncio]

Messages = Callable[..., AsyncIterator[tuple[str | None, str | None]]]
GROUPS = {"WEBSOCKET_GROUPS": json.dumps({"lobby": {"history": 100}})}


@pytest.fixture(scope="module")
def messages() -> Messages:
    (block,) = (
        one for one in blocks(DOCS / "howto" / "native-clients.md") if one.file == "comeback.py"
    )
    namespace: dict[str, Any] = {}
    exec(compile(block.text, "comeback.py", "exec"), namespace)
    client: Messages = namespace["messages"]
    return client


@pytest.fixture
def broker() -> Iterator[dict[str, str]]:
    """The settings of a broker that outlives the servers."""
    with Valkey(None) as valkey:
        backend = "django_ws_dispatch.brokers.redis.RedisBroker"
        brokers = {"default": {"BACKEND": backend, "LOCATION": valkey.url}}
        yield {"WEBSOCKET_BROKERS": json.dumps(brokers)}


async def say(server: Server, *words: str) -> None:
    """Have members of the lobby say something, and hear it."""
    async with connect(f"{server.url}/ws/member/", proxy=None) as socket:
        for word in words:
            await socket.send(word)
            while await socket.recv() != word:
                pass


@contextlib.asynccontextmanager
async def following(
    messages: Messages, url: str, positions: dict[str, str | None]
) -> AsyncIterator[Callable[[], Any]]:
    """Yield a function that waits for the next thing that the client has."""
    client = messages(url, positions, proxy=None, open_timeout=DEADLINE)
    async with contextlib.aclosing(client):  # type: ignore[type-var]

        async def next_one() -> tuple[str | None, str | None]:
            async with asyncio.timeout(DEADLINE):
                return await anext(client)

        yield next_one


async def test_it_goes_on_where_it_was_when_its_server_has_been_restarted(
    messages: Messages, broker: dict[str, str]
) -> None:
    environment = {**GROUPS, **broker}
    with Server(environment=environment) as other, Server(environment=environment) as server:
        address, port = f"{server.url}/ws/member/", server.port
        async with following(messages, address, {}) as next_one:
            assert await next_one() == (None, "joined")
            await say(other, "one")
            assert await next_one() == ("lobby", "one")
            reading = asyncio.create_task(next_one())
            await asyncio.to_thread(server.stop)
            await say(other, "two", "three")
            with Server("--port", str(port), environment=environment):
                assert await reading == ("lobby", "two")
                assert await next_one() == ("lobby", "three")
                assert await next_one() == (None, "joined")
                await say(other, "four")
                assert await next_one() == ("lobby", "four")


async def test_it_is_told_where_a_server_has_forgotten_what_it_missed(messages: Messages) -> None:
    with Server(environment=GROUPS) as server:
        address, port = f"{server.url}/ws/member/", server.port
        async with following(messages, address, {}) as next_one:
            assert await next_one() == (None, "joined")
            await say(server, "one")
            assert await next_one() == ("lobby", "one")
            reading = asyncio.create_task(next_one())
            await asyncio.to_thread(server.stop)
            with Server("--port", str(port), environment=GROUPS) as again:
                assert await reading == ("lobby", None)
                assert await next_one() == (None, "joined")
                await say(again, "two")
                assert await next_one() == ("lobby", "two")


async def test_positions_that_were_kept_outlive_the_client(messages: Messages) -> None:
    positions: dict[str, str | None] = {}
    with Server(environment=GROUPS) as server:
        address = f"{server.url}/ws/member/"
        async with following(messages, address, positions) as next_one:
            assert await next_one() == (None, "joined")
            await say(server, "one", "two")
            assert await next_one() == ("lobby", "one")
            assert await next_one() == ("lobby", "two")
        # It was left while it had the second: that is not behind it.
        async with following(messages, address, positions) as next_one:
            assert await next_one() == ("lobby", "two")
            assert await next_one() == (None, "joined")


async def test_it_ends_where_it_is_told_to_stay_away(messages: Messages) -> None:
    with Server(environment=GROUPS) as server:
        async with following(messages, f"{server.url}/ws/nowhere/", {}) as next_one:
            with pytest.raises(InvalidStatus):
                await next_one()
        async with following(messages, f"{server.url}/ws/ends/open-return/", {}) as next_one:
            with pytest.raises(StopAsyncIteration):
                await next_one()
