"""The database crashes, or falls silent, while sockets use it."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.kit.postgres import PostgresServer
from tests.kit.server import DEADLINE

from .classes import on_ours
from .faults.clients import close_code, opened, undisturbed
from .proxy import Proxy
from .test_must_show import ask, page, serve, sockets_of

pytestmark = [pytest.mark.live, pytest.mark.asyncio, pytest.mark.usefixtures("ws"), on_ours]

# What was measured: --log-cli-level=INFO
logger = logging.getLogger("faults")

SETTINGS = "tests.live.faults.settings"
NAME = "faults"
LANES = 4
MANY = 20
# Seconds for an answer that waits for nothing, on a busy machine.
SOON = 5.0


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[dict[str, Any]]:
    """A new database, as ``DATABASES`` has it."""
    with postgres.database(NAME) as settings:
        yield settings


@contextmanager
def crashed(server: PostgresServer) -> Iterator[None]:
    """As after ``pg_ctl stop -m immediate``; at the end it is started again."""
    server.stop(signal.SIGQUIT)
    try:
        yield
    finally:
        server.start()


def wait_for_sleepers(server: PostgresServer) -> None:
    """Return once every lane waits for a query."""
    asking = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND state = 'active'"
    ends = monotonic() + DEADLINE
    with server.connect() as connection:
        while connection.execute(asking, ["SELECT pg_sleep%"]).fetchone() != (LANES,):
            assert monotonic() < ends
            time.sleep(0.02)


async def status_of(url: str, cookie: str) -> tuple[int, float]:
    """Shake hands. Return the status of the answer and how many seconds it took."""
    began = monotonic()
    try:
        async with opened(url, additional_headers={"Cookie": cookie}):
            return 101, monotonic() - began
    except InvalidStatus as exc:
        return exc.response.status_code, monotonic() - began


@pytest.mark.parametrize("max_age", [0, 600])
async def test_sockets_outlive_a_crash_of_their_database(
    postgres: PostgresServer,
    database: dict[str, Any],
    max_age: int,
) -> None:
    environment = {"DJANGO_SETTINGS_MODULE": SETTINGS}
    with serve({**database, "CONN_MAX_AGE": max_age}, **environment) as server:
        cookie = await page(server, "/login/?user=ann")
        headers = {"Cookie": cookie}
        async with (
            undisturbed(server) as neighbour,
            sockets_of(server, MANY, "/ws/queries/") as careful,
            opened(f"{server.url}/ws/relies/") as careless,
            opened(f"{server.url}/ws/asks-who-later/", additional_headers=headers) as curious,
            opened(f"{server.url}/ws/rechecked/", additional_headers=headers) as rechecked,
        ):
            assert await rechecked.recv() == "ann"
            assert await ask([*careful, careless], "count") == ["1"] * (MANY + 1)
            for socket in careful[:LANES]:
                await socket.send("sleep")
            await asyncio.to_thread(wait_for_sleepers, postgres)
            with crashed(postgres):
                assert [await socket.recv() for socket in careful[:LANES]] == ["sorry"] * LANES
                assert await ask(careful, "count") == ["sorry"] * MANY
                for socket in (careless, curious):
                    await socket.send("count")
                    assert await close_code(socket) == 1011
                for path in ("guarded", "asks-who"):
                    status, seconds = await status_of(f"{server.url}/ws/{path}/", cookie)
                    logger.info("Seconds to the %d of %s: %.2f", status, path, seconds)
                    assert status == 500
                    assert seconds < SOON
                # Not to know is no reason to close.
                await asyncio.to_thread(server.wait_for_log, "can not be verified")
            assert await ask(careful, "count") == ["1"] * MANY
            for path in ("guarded", "asks-who"):
                assert (await status_of(f"{server.url}/ws/{path}/", cookie))[0] == 101
            await asyncio.to_thread(server.wait_for_log, "Users can be verified again")
            await page(server, "/logout/", cookie)
            assert await close_code(rechecked) == 4401
            logger.info("The longest echo beside: %.3f s", neighbour.longest)
        failures = [line for line in server.lines if "The handler of" in line]
        assert len(failures) == len({line.split()[5] for line in failures}) == 4
        server.expected += [*failures, "can not be verified", "Traceback"]
        # Django's own: the thread of a page ends with it, and its persistent connection.
        server.expected.append("was deleted while still open")


async def test_a_database_that_falls_silent_holds_up_only_those_who_ask_it_and_no_stop(
    postgres: PostgresServer,
    database: dict[str, Any],
) -> None:
    with (
        Proxy(postgres.port) as proxy,
        serve({**database, "PORT": proxy.port}, DJANGO_SETTINGS_MODULE=SETTINGS) as server,
    ):
        async with sockets_of(server, MANY, "/ws/queries/") as sockets:
            assert await ask(sockets, "count") == ["1"] * MANY
            async with undisturbed(server) as neighbour:
                proxy.stall()
                asking = asyncio.create_task(ask(sockets, "count"))
                async with undisturbed(server):
                    pass
                assert not asking.done()
                proxy.resume()
                assert await asking == ["1"] * MANY
            logger.info("The longest echo beside: %.3f s", neighbour.longest)
            proxy.stall()
            for socket in sockets:
                await socket.send("count")
            began = monotonic()
            server.terminate()
            assert {await close_code(socket) for socket in sockets} == {1012}
            await asyncio.to_thread(server.wait, DEADLINE)
            logger.info("Seconds to the stop: %.1f", monotonic() - began)
