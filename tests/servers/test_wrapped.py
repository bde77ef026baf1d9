"""A middleware stands around what the server hands out."""

from __future__ import annotations

import asyncio

import pytest
from websockets import ConnectionClosed

from .expectations import SERVERS
from .processes import AnyServer
from .test_life import SETTLED

pytestmark = [pytest.mark.live, pytest.mark.servers, pytest.mark.asyncio]


async def test_sockets_end_as_they_do_without_it(start, expected):
    server = start(application="tests.servers.wrapped:application")
    async with server.connect("/idle/") as idle, server.connect("/reads/") as reads:
        async with server.connect("/says-to-all/") as socket:
            await socket.send("3")
            assert await socket.recv() == "xxx"
        with pytest.raises(ConnectionClosed) as idled:
            await idle.recv()
        assert idled.value.rcvd is not None
        assert idled.value.rcvd.code == expected.code(4408)
        await asyncio.sleep(SETTLED)
        server.terminate()
        with pytest.raises(ConnectionClosed) as stopped:
            await reads.recv()
        received = stopped.value.rcvd
        assert (1006 if received is None else received.code) in {
            expected.stop.code,
            expected.stop.code if expected.stop.waits else 1006,
        }
    assert await asyncio.to_thread(server.wait) == expected.stop.status


async def test_a_client_that_does_not_read_does_not_keep_uvicorn():
    with AnyServer("uvicorn", application="tests.servers.wrapped:application") as server:
        async with server.connect("/floods/", max_queue=1) as socket:
            assert await socket.recv()
            await asyncio.to_thread(server.wait_for_notes, "floods")
            server.terminate()
            assert await asyncio.to_thread(server.wait) == SERVERS["uvicorn"].stop.status
