"""The server starts and stops."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack

import pytest

from .processes import AnyServer
from .vanished import LATE
from .wire import end_of, opened

pytestmark = [pytest.mark.live, pytest.mark.servers, pytest.mark.asyncio]

LIFESPAN = "tests.live.handlers.lifespan"
# Seconds after which no server is busy with a handshake any more.
SETTLED = 2.0
# Seconds in which every client has its close frame, where there is one.
TOLD_WITHIN = 4.0


async def test_the_start_up_runs_before_the_first_connection_and_its_state_is_there(
    start, expected
):
    server = start(WEBSOCKET_LIFESPAN=LIFESPAN)
    if expected.lifespan:
        await asyncio.to_thread(server.wait_for_notes, "started")
    else:
        assert server.notes == []

    async def state():
        async with server.connect("/ws/state/") as socket:
            return json.loads(await socket.recv())

    assert await asyncio.gather(*(state() for _ in range(5))) == [[{"pool": 42}] * 2] * 5
    assert server.notes == ["started"]
    server.stop()
    assert server.notes == (["started", "stopped"] if expected.lifespan else ["started"])


async def test_a_start_up_that_fails_is_logged_and_nothing_is_served(expected):
    server = AnyServer(expected.name, WEBSOCKET_LIFESPAN="tests.live.handlers.broken_lifespan")
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


@pytest.mark.parametrize(
    ("handlers", "settled"),
    [
        (["reads", "raw-reads", "never", "raw-never", "talks", "raw-talks"], SETTLED),
        (["reads", "raw-reads"], 0),
    ],
    ids=["settled", "at-once"],
)
async def test_sigterm_does_to_sockets_and_handlers_what_the_page_says(
    start, expected, handlers, settled
):
    stop = expected.stop
    server = start(WEBSOCKET_LIFESPAN=LIFESPAN)
    async with AsyncExitStack() as stack:
        sockets = [
            await stack.enter_async_context(opened(server.port, f"/{handler}/"))
            for handler in handlers
        ]
        for socket in sockets:
            assert await socket.handshake() == 101
        await asyncio.sleep(settled)
        begins = time.monotonic()
        server.terminate()
        ends = await asyncio.gather(*(socket.closed() for socket in sockets))
        codes = {code for code, _ in ends}
        if not settled and stop.at_once is not None and codes == {stop.at_once.code}:
            stop = stop.at_once
        assert codes == {stop.code} or (codes == {stop.code, 1006} and not stop.waits)
        if stop.code != 1006:
            assert time.monotonic() - begins < TOLD_WITHIN
        assert await asyncio.to_thread(server.wait) == stop.status
        assert time.monotonic() - begins < stop.within + LATE
    started, *notes = server.notes
    assert started == "started"
    if expected.lifespan:
        assert notes.pop() == "stopped"
    names = [note.partition(" ")[0] for note in notes]
    assert sorted(names) == sorted(h.removeprefix("raw-") for h in handlers if stop.told)
    for name, note in zip(names, notes, strict=True):
        # A raw handler that does not read is told nothing; a send may fail before it is told.
        untold = {name, "talks 1006 -"} if name != "reads" else set()
        assert note in untold | {f"{name} {code} -" for code in stop.told}


async def test_a_denial_that_nobody_reads_does_not_keep_the_server_from_stopping(start, expected):
    if expected.name == "granian":
        pytest.skip("it waits for a response that it has taken, and shows nothing of it")
    server = start()
    async with opened(server.port, "/ws/denies-at-length/") as client:
        assert await client.handshake() == 403
        client.writer.transport.pause_reading()
        server.terminate()
        assert await asyncio.to_thread(server.wait) == expected.stop.status
