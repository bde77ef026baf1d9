"""The server starts and stops."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from websockets.asyncio.client import connect

from .processes import Process
from .wire import end_of, opened

pytestmark = [pytest.mark.live, pytest.mark.servers, pytest.mark.asyncio]

LIFESPAN = "tests.live.handlers.lifespan"


async def test_the_start_up_runs_before_the_first_connection_and_its_state_is_there(
    start, expected
):
    server = start(WEBSOCKET_LIFESPAN=LIFESPAN)
    if expected.lifespan:
        await asyncio.to_thread(server.wait_for_notes, "started")
    else:
        assert server.notes == []

    async def state():
        async with connect(f"{server.url}/ws/state/") as socket:
            return json.loads(await socket.recv())

    assert await asyncio.gather(*(state() for _ in range(5))) == [[{"pool": 42}] * 2] * 5
    assert server.notes == ["started"]
    server.stop()
    assert server.notes == (["started", "stopped"] if expected.lifespan else ["started"])


async def test_a_start_up_that_fails_is_logged_and_nothing_is_served(expected):
    server = Process(expected.name, WEBSOCKET_LIFESPAN="tests.live.handlers.broken_lifespan")
    server.start()
    try:
        if expected.lifespan:
            await asyncio.to_thread(server.wait)
        else:
            await asyncio.to_thread(server.wait_for_log, "Listening on TCP")
            assert (await end_of(server.port, "/reads/")).status == expected.status(500)
        assert "LookupError: no database today" in server.log
    finally:
        server.kill()


@pytest.mark.parametrize("handler", ["reads", "never", "raw-reads", "raw-never"])
async def test_sigterm(start, expected, handler):
    server = start(WEBSOCKET_LIFESPAN=LIFESPAN)
    stop = expected.stop
    async with opened(server.port, f"/{handler}/") as wire:
        assert await wire.handshake() == 101
        begins = time.monotonic()
        server.terminate()
        code, _ = await wire.closed()
        assert code == stop.code
        if code == 1012:
            assert time.monotonic() - begins < 1
        await asyncio.to_thread(server.wait, 15)
    name = handler.removeprefix("raw-")
    notes = {"never"} if handler == "raw-never" else {f"{name} {code} -" for code in stop.told}
    if stop.told:
        assert server.notes[0] == "started"
        assert server.notes[1] in notes
        assert server.notes[2:] == ["stopped"]
    else:
        assert server.notes == ["started"]
