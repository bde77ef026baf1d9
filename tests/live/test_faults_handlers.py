"""Handlers fail where it is least convenient: one traceback, one close, and nothing is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.kit.server import Server
from tests.kit.valkey import Valkey

from .classes import on_ours
from .faults.clients import close_code, holds, opened, state, undisturbed
from .test_redis import REDIS_BROKER

pytestmark = [pytest.mark.live, pytest.mark.asyncio, pytest.mark.usefixtures("ws")]


@pytest.fixture(scope="module")
def process(ws: str) -> Iterator[Server]:
    with Valkey() as valkey:
        broker = {"default": {"BACKEND": REDIS_BROKER, "LOCATION": valkey.url}}
        environment = {"WEBSOCKET_BROKERS": json.dumps(broker)}
        with Server(settings="tests.live.faults.settings", environment=environment) as server:
            yield server


@pytest.fixture
def server(process: Server) -> Iterator[Server]:
    yield process
    process.check()


@asynccontextmanager
async def nothing_left(server: Server) -> AsyncIterator[None]:
    """Nobody else feels what happens here, and the process holds afterwards what it held before."""
    async with undisturbed(server):
        before = (await state(server))["tasks"]
        yield
        await holds(server, sockets=1, members=0, tasks=before)


def reported(server: Server, name: str) -> int:
    return sum(f"The handler of /ws/fails/{name}/ failed" in line for line in server.lines)


@pytest.mark.parametrize(
    "name",
    [
        "in_a_receive",
        "beside_a_receive",
        "beside_a_wait",
        "beside_a_send",
        "in_each",
        "in_a_lane",
        "in_finally",
        "with_a_cancelled_task",
    ],
)
async def test_a_failure_at_any_point_is_one_report_and_1011(server: Server, name: str) -> None:
    async with nothing_left(server), opened(f"{server.url}/ws/fails/{name}/") as socket:
        assert await close_code(socket) == 1011
    assert reported(server, name) == 1
    server.expected += [f"/ws/fails/{name}/ failed", "Traceback (most recent call last)"]


@pytest.mark.parametrize("name", ["at_the_end", "when_cancelled"])
async def test_a_failure_once_the_client_has_left_is_one_report(server: Server, name: str) -> None:
    async with nothing_left(server), opened(f"{server.url}/ws/fails/{name}/"):
        await holds(server, sockets=2, members=1)
    assert reported(server, name) == 1
    server.expected += [f"/ws/fails/{name}/ failed", "Traceback (most recent call last)"]


@pytest.mark.parametrize(("name", "note"), [("swallows", "swallowed"), ("tidies_up", "tidied up")])
@on_ours
async def test_a_handler_that_is_slow_to_end_ends(server: Server, name: str, note: str) -> None:
    async with nothing_left(server):
        async with opened(f"{server.url}/ws/fails/{name}/"):
            await holds(server, sockets=2, members=1)
        await asyncio.to_thread(server.wait_for_notes, note)


async def test_a_handshake_that_hangs_ends_with_its_client(server: Server) -> None:
    async with nothing_left(server):
        opening = asyncio.create_task(opened(f"{server.url}/ws/fails/undecided/").__aenter__())
        await asyncio.to_thread(server.wait_for_notes, "undecided")
        opening.cancel()
        await asyncio.wait([opening])
