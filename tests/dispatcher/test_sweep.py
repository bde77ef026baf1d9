"""The sweep: which sockets there are, and that each of them is looked after."""

from __future__ import annotations

import asyncio

import pytest

from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.websockets import deadlines

from ..kit.fake_server import HABITS, hurry, only_socket, serving
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio

every_server = pytest.mark.parametrize("server_name", HABITS)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    hurry(monkeypatch)


@every_server
async def test_a_reader_that_is_kicked_sees_the_disconnect_on_every_server(
    server_name, monkeypatch, caplog
):
    hurry(monkeypatch, WAKE_GRACE=0.02)

    async def handler(websocket):
        async for _ in websocket:
            pass
        seen.append(websocket.close_code)
        await asyncio.sleep(0.01)  # the sweep's cancellation was only for the read
        seen.append("still here")

    seen = []
    async with serving(handler, server=server_name) as server:
        await server.accepted()
        await asyncio.sleep(0.01)
        only_socket().kick(4403, "out")
        await server.ended()
        assert server.closed == (4403, "out")
    assert seen == [4403, "still here"]
    assert not caplog.records


async def test_kicking_is_once_and_late_kicks_change_nothing():
    async def handler(websocket):
        async for _ in websocket:
            pass

    async with serving(handler) as server:
        await server.accepted()
        socket = only_socket()
        socket.kick(4403, "é" * 100)
        socket.kick(4404)
        await server.ended()
        assert server.closed == (4403, "é" * 61)
        socket.kick(4405)
        assert socket.close_code == 4403


async def test_sockets_are_counted_while_they_live():
    async def handler(websocket):
        await websocket.wait_closed()

    assert connections.count() == 0
    async with serving(handler) as first:
        await first.accepted()
        assert connections.count() == 1
        async with serving(handler) as second:
            await second.accepted()
            assert connections.count() == 2
        assert connections.count() == 1
    assert connections.count() == 0


async def test_over_the_processs_limit_the_handshake_is_denied_with_503(caplog):
    async def handler(websocket):
        await websocket.wait_closed()

    async with serving(handler, WEBSOCKET_MAX_CONNECTIONS=1) as first:
        await first.accepted()
        async with serving(handler, WEBSOCKET_MAX_CONNECTIONS=1) as second:
            await second.ended()
            assert second.denied is not None
            assert second.denied[0] == 503
            assert (b"retry-after", b"10") in second.sent[0]["headers"]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "WEBSOCKET_MAX_CONNECTIONS" in record.getMessage()


async def test_the_sweep_rests_while_no_socket_is_open():
    async def handler(websocket):
        pass

    async with serving(handler) as server:
        await server.ended()
    await until(lambda: connections.local()._timer is None)


async def test_one_socket_whose_check_fails_does_not_stop_the_sweep(monkeypatch, caplog):
    async def handler(websocket):
        await websocket.accept()
        await asyncio.Event().wait()

    async with serving(handler) as broken:
        await broken.accepted()
        socket = only_socket()
        check = deadlines.check

        def check_others(connection, now, **how):
            if connection is socket.connection:
                raise ValueError("a bug")
            check(connection, now, **how)

        monkeypatch.setattr(deadlines, "check", check_others)
        async with serving(handler) as other:
            await other.accepted()
            other.leave()
            await other.ended()
        monkeypatch.undo()
        hurry(monkeypatch)
    assert caplog.records
