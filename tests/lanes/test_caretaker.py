"""What is left to itself: idle threads and connections, and calls that get stuck."""

from __future__ import annotations

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async
from django.test import override_settings

from django_ws_dispatch.lanes import caretaker, pool
from tests.kit.waiting import DEADLINE, until
from tests.lanes.sockets import (
    PREFIX,
    Blocked,
    Socket,
    fails_to_start,
    lane_connection,
    run,
    thread_name,
)
from tests.lanes.test_nothing_crosses import one_slot


def test_a_caretaker_that_can_not_start_costs_no_call_and_another_one_is_tried(monkeypatch):
    left = fails_to_start(monkeypatch, caretaker.Caretaker)

    async def main():
        socket = Socket()
        await socket.hold(thread_name)
        assert not left
        assert socket.lane.pool.caretaker is None
        await socket.hold(thread_name)
        assert socket.lane.pool.caretaker.is_alive()

    run(main())


@one_slot
def test_connections_that_can_not_be_looked_after_now_are_later(
    database,
    monkeypatch,
):
    left = fails_to_start(monkeypatch, threading.Thread, times=2, name="websocket-lanes-check")

    async def main():
        connection = await Socket().run(lane_connection)
        await until(lambda: connection.connection is None)
        assert not left
        assert (await Socket().run(thread_name)).startswith("websocket-lane-")

    run(main())


def test_a_caretaker_goes_on_where_something_raises(monkeypatch, caplog):
    class Broken(Socket):
        is_between_reads = property(lambda self: 1 / 0, lambda self, value: None)

    monkeypatch.setattr(caretaker, "HOLD_IDLE_SECONDS", 0.0)

    async def main():
        broken, other = Broken(), Socket(is_between_reads=False)
        await broken.hold(thread_name)
        await until(lambda: caplog.records)
        broken.end()
        await other.hold(thread_name)
        await until(lambda: other.lane is None)

    run(main())
    assert "Looking after the sync work" in caplog.text


def test_threads_that_wait_for_their_sockets_are_few_and_the_longest_idle_goes(monkeypatch):
    monkeypatch.setattr(caretaker, "SHORT_IDLE_SECONDS", 0.01)

    async def main():
        with override_settings(WEBSOCKET_SYNC_THREADS=1):
            sockets = [Socket() for _ in range(pool.IDLE_THREADS + 2)]
            for socket in sockets:
                await socket.hold(thread_name)
            assert [socket.lane is None for socket in sockets] == [True] * 2 + [False] * (
                pool.IDLE_THREADS
            )
            assert (await sockets[0].hold(thread_name)).startswith(PREFIX)

    run(main())


def test_a_socket_that_never_reads_loses_its_lane_after_a_while_without_work(monkeypatch):
    monkeypatch.setattr(caretaker, "HOLD_IDLE_SECONDS", 0.05)
    monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 0.01)

    async def main():
        pushing, reading = Socket(is_between_reads=False), Socket()
        await pushing.hold(thread_name)
        await reading.hold(thread_name)
        await until(lambda: pushing.lane is None)
        assert reading.lane is not None

    run(main())


def test_a_socket_that_never_reads_loses_its_lane_while_others_keep_it_busy(monkeypatch):
    monkeypatch.setattr(caretaker, "HOLD_IDLE_SECONDS", 0.05)
    monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 0.01)

    async def main():
        pushing, busy = Socket(is_between_reads=False), Socket()
        await pushing.hold(thread_name)
        async with asyncio.timeout(DEADLINE):
            while pushing.lane is not None:
                await busy.hold(thread_name)

    with override_settings(WEBSOCKET_SYNC_THREADS=1):
        run(main())


def test_a_running_call_keeps_the_lane_of_a_socket_that_never_reads(monkeypatch):
    monkeypatch.setattr(caretaker, "HOLD_IDLE_SECONDS", 0.0)
    monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 0.0)

    async def main():
        socket, call = Socket(is_between_reads=False), Blocked()
        first = asyncio.create_task(socket.hold(call))
        second = asyncio.create_task(socket.hold(call))
        await until(call.running.is_set)
        assert socket.lane is not None
        call.gate.set()
        assert await first == await second

    run(main())


def test_a_cancelled_running_call_keeps_the_lane_until_it_is_done():
    async def main():
        socket, call = Socket(), Blocked()
        task = socket.start(sync_to_async(call)())
        await until(call.running.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        socket.end()
        assert socket.lane is not None
        call.gate.set()
        await until(lambda: socket.lane is None)

    run(main())


@pytest.mark.parametrize("urgent", [True, False])
def test_only_what_is_urgent_is_let_through_beside_a_call_that_does_not_end(monkeypatch, urgent):
    monkeypatch.setattr(caretaker, "STALLED_SECONDS", 0.05)

    async def main():
        stuck, blocked = Socket(), Blocked()
        running = asyncio.create_task(stuck.run(blocked))
        await until(blocked.running.is_set)
        waiting = asyncio.create_task(Socket(urgent=urgent).run(thread_name))
        if urgent:
            assert (await waiting).startswith(PREFIX)
            assert not running.done()
        else:
            # One that is urgent and comes later goes before it.
            await Socket(urgent=True).run(thread_name)
            assert not waiting.done()
        blocked.gate.set()
        await asyncio.gather(running, waiting)

    with override_settings(WEBSOCKET_SYNC_THREADS=1):
        run(main())
