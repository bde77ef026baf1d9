"""A handler that blocks the event loop is named, in DEBUG only."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from django.test import override_settings

from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.dispatcher.lag import LagWatch
from tests.kit.fake_server import hurry, serving
from tests.kit.waiting import DEADLINE, until, wait_until


@pytest.mark.asyncio
@pytest.mark.parametrize("debug", [True, False])
async def test_a_handler_that_blocks_the_loop_is_named_in_debug(monkeypatch, caplog, debug):
    def named() -> bool:
        return any("blocks the event loop" in one for one in caplog.messages)

    async def blocks(websocket):
        await websocket.accept()
        # As long as it takes the watch; without one a while that it would have seen.
        ends = time.monotonic() + (DEADLINE if debug else 0.3)
        while not named() and time.monotonic() < ends:
            time.sleep(0.01)  # noqa: ASYNC251

    hurry(monkeypatch)
    with override_settings(DEBUG=debug):
        async with serving(blocks) as fake:
            await fake.ended(2 * DEADLINE)
    assert named() is debug
    if debug:
        (message,) = caplog.messages
        assert message.startswith("The handler of /ws/ blocks the event loop, at ")
        assert "test_lag.py:" in message
    await until(lambda: connections.local()._timer is None)
    await until(lambda: all(thread.name != "websocket-lag" for thread in threading.enumerate()))


@asynccontextmanager
async def watching() -> AsyncIterator[list[tuple[Any, str]]]:
    """Whom a watch of the running loop blames."""
    blamed: list[tuple[Any, str]] = []
    watch = LagWatch(asyncio.get_running_loop(), lambda task, where: blamed.append((task, where)))
    watch.start()
    try:
        yield blamed
    finally:
        watch.over.set()
        await asyncio.to_thread(watch.join, DEADLINE)
        assert not watch.is_alive()


def block(blamed: list[tuple[Any, str]], count: int = 1) -> None:
    """Block this thread until somebody is blamed for it."""
    wait_until(lambda: len(blamed) >= count)


@pytest.mark.asyncio
async def test_it_is_told_which_task_it_was_and_where():
    async with watching() as blamed:
        block(blamed)
    (task, where), *_ = blamed
    assert task is asyncio.current_task()
    file, _, line = where.rpartition(":")
    assert file.endswith(".py")
    assert int(line) > 0


@pytest.mark.asyncio
async def test_who_blocks_twice_is_told_of_twice():
    async with watching() as blamed:
        block(blamed)
        await asyncio.sleep(0.01)  # the loop goes on
        block(blamed, len(blamed) + 1)
    assert len(blamed) >= 2


@pytest.mark.asyncio
async def test_who_blocks_for_long_is_told_of_once():
    async with watching() as blamed:
        block(blamed)
        time.sleep(0.5)  # noqa: ASYNC251 - as long as several looks
        assert len(blamed) == 1


def test_a_loop_that_is_closed_is_watched_no_more():
    async def begin() -> LagWatch:
        watch = LagWatch(asyncio.get_running_loop(), lambda task, where: None)
        watch.start()
        return watch

    watch = asyncio.run(begin())
    watch.join(DEADLINE)
    assert not watch.is_alive()
