"""What the sweep ends: who stays away with a full inbox, and what takes no end."""

from __future__ import annotations

import asyncio

import pytest

from tests.websockets.echoes import both_forms, echo, lines

from ..kit.fake_server import hurry, only_socket, serving
from ..kit.members import text as text_message
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    hurry(monkeypatch)


async def test_a_reader_that_stays_away_while_its_inbox_is_full_is_closed_with_1013(
    monkeypatch, caplog
):
    hurry(monkeypatch, BUSY_GRACE=0.05)
    ended = []

    async def handler(websocket):
        await websocket.receive()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(websocket.close_code)

    async with serving(handler) as server:
        server.message(*map(str, range(100)))
        await server.ended()
        assert server.closed is not None
        assert server.closed[0] == 1013
    assert ended == [1013]
    ((level, line),) = lines(caplog)
    assert level == "WARNING"
    assert "did not read" in line


async def test_a_slow_client_that_does_not_read_its_close_frame_is_aborted(monkeypatch):
    hurry(monkeypatch, CLOSE_GRACE=0.05)
    async with serving(echo, WEBSOCKET_OUTBOX_SIZE=100) as server:
        await server.accepted()
        transport = server.stall()
        server.block()
        for _ in range(3):
            only_socket().connection.writer.deliver(text_message("x" * 50, 50))
        await until(lambda: transport.aborted)
        await server.ended()
        assert server.closed is None


@both_forms
async def test_a_client_that_the_server_has_given_up_with_much_to_read_is_aborted(
    handler, monkeypatch
):
    # uvicorn closes such a transport, which waits for its buffer, and says nothing.
    hurry(monkeypatch, GIVEN_UP_GRACE=0.05)
    async with serving(handler) as server:
        await server.accepted()
        transport = server.stall()
        server.block()
        server.message("x")
        await until(lambda: server.unread == 0)
        assert not transport.aborted
        transport.given_up = True
        await server.ended()
        assert transport.aborted


async def test_a_client_that_is_given_up_while_nothing_is_sent_is_aborted(monkeypatch):
    hurry(monkeypatch, GIVEN_UP_GRACE=0.05)
    async with serving(echo) as server:
        await server.accepted()
        transport = server.stall(unsent=0)
        transport.given_up = True
        await until(lambda: transport.aborted)
        await server.ended()
