"""A handler that blocks the event loop is named, in DEBUG only."""

from __future__ import annotations

import threading
import time

import pytest
from django.test import override_settings

from django_ws_dispatch.dispatcher import sweep as connections
from tests.kit.fake_server import hurry, serving
from tests.kit.waiting import until


@pytest.mark.asyncio
@pytest.mark.parametrize("debug", [True, False])
async def test_a_handler_that_blocks_the_loop_is_named_in_debug(monkeypatch, caplog, debug):
    def named() -> bool:
        return any("blocks the event loop" in one for one in caplog.messages)

    async def blocks(websocket):
        await websocket.accept()
        # As long as it takes the watch; without one a while that it would have seen.
        ends = time.monotonic() + (5 if debug else 0.3)
        while not named() and time.monotonic() < ends:
            time.sleep(0.01)  # noqa: ASYNC251

    hurry(monkeypatch)
    with override_settings(DEBUG=debug):
        async with serving(blocks) as fake:
            await fake.ended(10)
    assert named() is debug
    if debug:
        (message,) = caplog.messages
        assert message.startswith("The handler of /ws/ blocks the event loop, at ")
        assert "test_lag.py:" in message
    await until(lambda: connections.local()._timer is None)
    await until(lambda: all(thread.name != "websocket-lag" for thread in threading.enumerate()))
