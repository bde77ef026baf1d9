"""Django's connection pool, which pages and sockets share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.kit.postgres import PostgresServer
from tests.kit.server import DEADLINE, Server

from .test_must_show import ask, page, serve, sockets_of

pytestmark = [pytest.mark.live, pytest.mark.asyncio]

pytest.importorskip("psycopg_pool")

NAME = "pools"
HANDLERS = 8
PAGES = 20


# As many connections as there are lanes, and a few more, as the check wants them.
SIZES = pytest.mark.parametrize("size", [4, 6])


@contextmanager
def serving(server: PostgresServer, size: int) -> Iterator[Server]:
    with server.connect() as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {NAME}")
    pool = {"min_size": size, "max_size": size, "timeout": DEADLINE}
    with serve({**server.settings, "NAME": NAME, "OPTIONS": {"pool": pool}}) as site:
        yield site


async def available(server: Server) -> int:
    """How many connections of the pool nobody has. That of a page is back after its answer."""

    def get() -> int:
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)) as connection:
            connection.request("GET", "/pool/")
            number: int = json.load(connection.getresponse())["pool_available"]
        return number

    return await asyncio.to_thread(get)


@asynccontextmanager
async def querying(server: Server, count: int) -> Any:
    """Have sockets query all the time."""
    over = asyncio.Event()

    async def query(socket: Any) -> None:
        while not over.is_set():
            assert await ask([socket], "orm") == ["1"]

    async with sockets_of(server, count) as sockets:
        tasks = [asyncio.create_task(query(socket)) for socket in sockets]
        try:
            yield
        finally:
            over.set()
            await asyncio.gather(*tasks)


@SIZES
async def test_pages_have_the_pool_while_handlers_wait_for_something_else(
    postgres: PostgresServer,
    size: int,
) -> None:
    with serving(postgres, size) as server:
        await page(server, "/count/")  # which opens it
        async with asyncio.timeout(DEADLINE):
            while await available(server) < size:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        async with sockets_of(server, HANDLERS) as waiting, sockets_of(server, 1) as (other,):
            for question in ("orm", "query and wait"):
                assert await ask(waiting, question) == ["1"] * HANDLERS
                assert await available(server) == size
            for _ in range(PAGES):
                await page(server, "/count/")
            await other.send("release")


@SIZES
async def test_pages_and_sockets_that_query_all_the_time_take_turns(
    postgres: PostgresServer,
    size: int,
) -> None:
    with serving(postgres, size) as server:
        async with sockets_of(server, HANDLERS) as waiting, sockets_of(server, 1) as (other,):
            assert await ask(waiting, "query and wait") == ["1"] * HANDLERS
            async with querying(server, 20):
                for _ in range(PAGES):
                    await page(server, "/count/")
                await asyncio.gather(*(page(server, "/count/") for _ in range(PAGES)))
            await other.send("release")
