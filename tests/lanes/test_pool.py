"""The order of events that a pool has to stand: what is asked for too late, and what fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.test import override_settings

from django_ws_dispatch import lanes
from django_ws_dispatch.lanes import caretaker, databases, pool
from django_ws_dispatch.lanes.executors import executor
from django_ws_dispatch.lanes.lane import LaneThread
from tests.kit.waiting import DEADLINE, until
from tests.lanes.sockets import (
    ALIAS,
    Blocked,
    Socket,
    fails_to_start,
    lane_threads,
    run,
    thread_name,
)
from tests.lanes.test_nothing_crosses import execute, one_slot


def open_cursor():
    cursor = connections[ALIAS].cursor()
    cursor.execute("SELECT 1")
    return cursor


# Too late


def test_a_read_right_after_the_lane_was_taken_away_brings_it_not_back():
    async def main():
        socket = Socket()
        await socket.hold(thread_name)
        lane = socket.lane
        with lane.pool.lock:
            lane.pool.end(lane)
        lane.pool.release(lane)
        assert (await socket.hold(thread_name)).startswith("websocket-lane-")
        assert socket.lane is not lane

    run(main())


def test_a_call_in_a_lane_from_before_a_change_has_the_lock_of_its_pool(monkeypatch):
    async def main():
        socket = Socket()
        await socket.hold(thread_name)
        old = socket.lane.pool
        wanted = []
        with override_settings(WEBSOCKET_SYNC_THREADS=1):
            await Socket().run(thread_name)

            def want(lane, want=old._want, **options):
                wanted.append(old.lock._lock._is_owned())
                return want(lane, **options)

            monkeypatch.setattr(old, "_want", want)
            await socket.hold(thread_name)
        assert wanted == [True]

    run(main())


def test_a_pool_that_was_retired_meanwhile_gives_no_new_lane():
    async def main():
        await Socket().run(thread_name)
        retired = executor.pools[False]
        executor.retire()
        socket = Socket()
        assert retired.submit(socket, thread_name) is None
        await socket.hold(thread_name)
        assert socket.lane.pool is not retired

    run(main())


@one_slot
def test_what_is_being_given_back_is_given_back_once(database, monkeypatch):
    monkeypatch.setattr(caretaker, "SHORT_IDLE_SECONDS", 0.01)
    discard = databases.Databases.discard
    discarding, going_on, discarded = threading.Event(), threading.Event(), []

    def discard_slowly(self):
        discarded.append(self)
        discarding.set()
        going_on.wait(DEADLINE)
        return discard(self)

    monkeypatch.setattr(databases.Databases, "discard", discard_slowly)

    async def main():
        red, blocked = Socket(), Blocked()
        await red.hold(execute, "PRAGMA query_only = 1")
        lane = red.lane
        other = asyncio.create_task(Socket().run(blocked))
        await asyncio.to_thread(discarding.wait)
        red.end()
        going_on.set()
        await until(blocked.running.is_set)
        await asyncio.to_thread(lane.thread.join)
        assert len(discarded) == 1
        assert not lane.slot.is_idle
        blocked.gate.set()
        await other

    run(main())


def test_shutdown_waits_for_lanes_that_are_about_to_end(database, monkeypatch):
    closing, closed = threading.Event(), threading.Event()

    def set_and_close_slowly():
        execute("PRAGMA query_only = 1")
        wrapper = connections[ALIAS]

        def close(close=wrapper.close):
            closing.set()
            closed.wait(DEADLINE)
            close()

        wrapper.close = close

    async def main():
        await Socket().run(set_and_close_slowly)
        await asyncio.to_thread(closing.wait)
        threading.Timer(0.05, closed.set).start()
        lanes.shutdown()
        assert closed.is_set()
        assert lane_threads() == []

    run(main())


@one_slot
def test_what_a_task_does_after_apart_waits_until_its_connections_are_closed(
    database,
):
    closing, closed = threading.Event(), threading.Event()

    def close_slowly():
        wrapper = connections[ALIAS]

        def close(close=wrapper.close):
            closing.set()
            closed.wait(DEADLINE)
            close()

        wrapper.close = close

    async def main():
        async def handshake():
            with lanes.private_lane():
                await sync_to_async(close_slowly)()
                task = asyncio.create_task(outliving())
            return await task

        async def outliving():
            await asyncio.to_thread(closing.wait)
            query = asyncio.create_task(sync_to_async(execute)("SELECT 1"))
            await asyncio.sleep(0.05)
            assert not query.done()
            closed.set()
            return await query

        assert await Socket().start(handshake()) == [(1,)]

    run(main())


# Threads that are not to be had


@one_slot
def test_a_call_that_has_no_thread_fails_alone(monkeypatch):
    async def main():
        blocked = Blocked()
        task = asyncio.create_task(Socket().run(blocked))
        await until(blocked.running.is_set)
        fails_to_start(monkeypatch, LaneThread)
        first = asyncio.create_task(Socket().run(thread_name))
        await until(lambda: executor.pools[False].waiting)
        second = asyncio.create_task(Socket().run(thread_name))
        await until(lambda: len(executor.pools[False].lanes) == 3)
        blocked.gate.set()
        assert await task
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await first
        assert await second

    run(main())


@one_slot
def test_a_cancelled_call_that_has_no_thread_costs_nobody_theirs(monkeypatch):
    async def main():
        blocked, socket = Blocked(), Socket()
        task = asyncio.create_task(Socket().run(blocked))
        await until(blocked.running.is_set)
        waiting = asyncio.create_task(socket.hold(thread_name))
        await until(lambda: socket.lane is not None)
        lane = socket.lane

        def grant_and_cancel(lane, slot, grant=lane.pool.grant):
            grant(lane, slot)
            lane.calls[0][0].cancel()

        monkeypatch.setattr(lane.pool, "grant", grant_and_cancel)
        fails_to_start(monkeypatch, LaneThread)
        blocked.gate.set()
        assert await task
        with pytest.raises(asyncio.CancelledError):
            await waiting
        monkeypatch.undo()
        assert await Socket().run(thread_name)

    run(main())


# Nobody waits for ever


def test_nobody_waits_for_the_cursors_of_others(database, monkeypatch):
    monkeypatch.setattr(pool, "IDLE_THREADS", 2)

    async def main():
        with override_settings(WEBSOCKET_SYNC_THREADS=1):
            kept = [await Socket().hold(open_cursor) for _ in range(4)]
            assert await Socket().hold(thread_name)
            assert len(kept) == 4

    run(main())


@one_slot
def test_somebody_with_a_cursor_takes_turns_with_others(database):
    async def main():
        reading, order = Socket(), []
        cursor = await reading.hold(open_cursor)
        blocked = Blocked()
        calls = [asyncio.create_task(reading.hold(blocked))]
        await until(blocked.running.is_set)
        calls += [asyncio.create_task(reading.hold(order.append, "reading")) for _ in range(8)]
        await until(lambda: reading.lane.pending == 9)
        calls.append(asyncio.create_task(Socket().run(order.append, "other")))
        await until(lambda: reading.lane.pool.waiting)
        blocked.gate.set()
        await asyncio.gather(*calls)
        assert order.index("other") < 4
        assert cursor.fetchall() == [(1,)]

    run(main())


@override_settings(WEBSOCKET_SYNC_THREADS=2)
def test_slots_that_a_user_keeps_count_as_taken(database):
    async def main():
        keeping, another = Socket(user=1), Socket(user=1)
        await keeping.hold(execute, "PRAGMA query_only = 1")
        assert keeping.lane.slot.owner is keeping.lane
        waiting = asyncio.create_task(another.hold(thread_name))
        await until(lambda: another.lane is not None)
        assert await Socket(user=2).run(thread_name)
        assert not waiting.done()
        keeping.end()
        assert await waiting

    run(main())


@override_settings(WEBSOCKET_SYNC_THREADS=2)
def test_a_users_own_calls_do_not_delay_its_verification():
    async def main():
        calls = [Blocked(), Blocked()]
        slow = [
            asyncio.create_task(Socket(user=user).run(call))
            for user, call in zip((1, 2), calls, strict=True)
        ]
        await until(lambda: all(call.running.is_set() for call in calls))
        handshake = asyncio.create_task(Socket(user=1, urgent=True).run(thread_name))
        await until(lambda: executor.pools[False].waiting)

        async def verify():
            with lanes.lane_for(Socket(user=1), urgent=True):
                return await sync_to_async(thread_name)()

        verification = asyncio.create_task(verify())
        await until(lambda: len(executor.pools[False].lanes) == 4)
        calls[1].gate.set()
        assert await verification
        assert not handshake.done()
        calls[0].gate.set()
        await asyncio.gather(*slow, handshake)

    run(main())


@one_slot
def test_a_lane_whose_transaction_was_rolled_back_after_its_read_is_over(
    database,
    monkeypatch,
):
    monkeypatch.setattr(caretaker, "HOLD_IDLE_SECONDS", 0.05)

    async def main():
        socket = Socket()
        await socket.hold(transaction.atomic(using=ALIAS).__enter__)
        socket.read()
        assert socket.lane is not None
        await until(lambda: socket.lane is None)

    run(main())


def test_many_that_can_not_have_their_turn_are_not_asked_one_by_one(monkeypatch):
    monkeypatch.setattr(pool, "IDLE_THREADS", 1)

    async def main():
        with override_settings(WEBSOCKET_SYNC_THREADS=1):
            await Socket().hold(thread_name)
            lane_pool = executor.pools[False]
            asked = []

            def ask(lane, ask=lane_pool._ask):
                asked.append(lane)
                return ask(lane)

            monkeypatch.setattr(caretaker, "SHORT_IDLE_SECONDS", 60)
            waiting = [asyncio.create_task(Socket().run(thread_name)) for _ in range(50)]
            await until(lambda: len(lane_pool.lanes) == 51)
            monkeypatch.setattr(lane_pool.waiting, "_ask", ask)
            with lane_pool.lock:
                lane_pool.fill(lane_pool.slots[0])
                assert not lane_pool.lock.granted
            assert len(asked) == 1
            monkeypatch.setattr(caretaker, "SHORT_IDLE_SECONDS", 0)
            await asyncio.gather(*waiting)

    run(main())


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_fork_has_lanes_of_its_own():
    code = """
import asyncio, os
from asgiref.sync import sync_to_async
from django.conf import settings
settings.configure()
from django_ws_dispatch import lanes

class Socket:
    lane = lane_user = lane_client = lane_socket = None
    lane_ended = lane_urgent = is_over = False
    is_between_reads = True

async def call():
    socket = Socket()
    lanes.enter(socket)
    found = await sync_to_async(os.getpid)()
    socket.lane_ended = True
    lanes.release(socket)
    return found

async def main():
    return await asyncio.wait_for(asyncio.create_task(call()), 5)

assert asyncio.run(main()) == os.getpid()
pool = lanes.executors.executor.pools[False]
with pool.lock:
    child = os.fork()
if not child:
    assert asyncio.run(main()) == os.getpid()
    print("child", flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("child\n", 0), done.stderr
