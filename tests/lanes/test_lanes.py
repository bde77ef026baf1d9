from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
import time
import weakref

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections, transaction
from django.test import override_settings
from django.utils import timezone

from django_ws_dispatch import lanes
from django_ws_dispatch.lanes import caretaker, databases, pool
from tests.kit.waiting import until

from .sockets import (
    ALIAS,
    PREFIX,
    Blocked,
    Socket,
    lane_connection,
    lane_threads,
    open_sessions_table,
    run,
    run_handler,
    thread_name,
)

# Which thread


def test_sync_work_of_a_socket_runs_in_one_lane_between_two_reads():
    async def handler():
        return {await sync_to_async(thread_name)() for _ in range(5)}

    names = run_handler(handler())
    assert len(names) == 1
    assert names.pop().startswith(PREFIX)


def test_a_socket_keeps_its_lane_while_others_come_and_go():
    async def main():
        socket = Socket()
        first = await socket.hold(thread_name)
        for _ in range(10):
            await Socket().run(thread_name)
            assert await socket.hold(thread_name) == first

    run(main())


def test_tasks_of_a_handler_use_its_lane():
    async def handler():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(sync_to_async(thread_name)()) for _ in range(3)]
        return {task.result() for task in tasks} | {await sync_to_async(thread_name)()}

    assert len(run_handler(handler())) == 1


def test_a_read_gives_the_lane_back():
    async def main():
        socket = Socket()
        await socket.hold(thread_name)
        assert socket.lane is not None
        socket.read()
        assert socket.lane is None

    run(main())


def test_a_socket_without_sync_work_holds_nothing_and_starts_no_thread():
    async def main():
        socket = Socket()
        await socket.start(asyncio.sleep(0))
        assert socket.lane is None
        lanes.release(socket)

    run(main())
    assert lane_threads() == []


def test_the_calls_of_many_sockets_run_no_more_at_once_than_the_setting_says():
    at_once, most = [], []

    def work():
        at_once.append(1)
        most.append(len(at_once))
        time.sleep(0.001)
        at_once.pop()
        return thread_name()

    async def main():
        sockets = [Socket() for _ in range(200)]
        for _ in range(3):
            names = await asyncio.gather(*(socket.run(work) for socket in sockets))
            assert set(names) <= {f"{PREFIX}{number}" for number in range(4)}
        await until(lambda: lane_threads() == [])

    run(main())
    assert max(most) <= 4


def test_as_many_calls_run_at_once_as_the_setting_says():
    async def main():
        calls = [Blocked() for _ in range(4)]
        tasks = [asyncio.create_task(Socket().run(call)) for call in calls]
        await until(lambda: all(call.running.is_set() for call in calls))
        fifth = asyncio.create_task(Socket().run(thread_name))
        for call in calls:
            call.gate.set()
        await asyncio.gather(*tasks, fifth)

    run(main())


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


def test_one_call_at_a_time_runs_in_a_lane_in_the_order_of_the_calls():
    seen = []

    async def handler():
        await asyncio.gather(*(sync_to_async(seen.append)(number) for number in range(50)))

    run_handler(handler())
    assert seen == list(range(50))


def test_three_blocked_sockets_do_not_delay_an_unrelated_one():
    async def main():
        calls = [Blocked() for _ in range(3)]
        tasks = [asyncio.create_task(Socket().run(call)) for call in calls]
        await until(lambda: all(call.running.is_set() for call in calls))
        for _ in range(20):
            await Socket().run(thread_name)
        assert not any(task.done() for task in tasks)
        for call in calls:
            call.gate.set()
        assert len(set(await asyncio.gather(*tasks))) == 3

    run(main())


def test_a_socket_that_holds_its_lane_and_does_something_else_is_in_nobodys_way():
    async def main():
        with override_settings(WEBSOCKET_SYNC_THREADS=1):
            for socket in [Socket() for _ in range(6)]:
                await socket.hold(thread_name)
            for _ in range(5):
                await Socket().run(thread_name)

    run(main())


def test_sync_code_may_call_async_code_that_calls_sync_code():
    async def inner():
        return await sync_to_async(thread_name)()

    def outer():
        return thread_name(), async_to_sync(inner)()

    names = run_handler(sync_to_async(outer)())
    assert names[0] == names[1]


def test_a_thread_sensitive_context_of_the_handler_changes_nothing():
    async def handler():
        async with ThreadSensitiveContext():
            inside = await sync_to_async(thread_name)()
        return inside, await sync_to_async(thread_name)()

    inside, outside = run_handler(handler())
    assert inside == outside
    assert inside.startswith(PREFIX)


# When a hold ends


def test_a_read_during_a_call_gives_the_lane_back_once_it_is_done():
    async def main():
        socket, call = Socket(), Blocked()
        task = asyncio.create_task(socket.hold(call))
        await until(call.running.is_set)
        socket.read()
        assert socket.lane is not None
        following = asyncio.create_task(socket.hold(thread_name))
        await until(lambda: socket.lane.pending == 2)
        socket.read()
        call.gate.set()
        assert await task == await following
        await until(lambda: socket.lane is None)

    run(main())


def test_a_call_after_such_a_read_holds_until_the_next_one():
    async def main():
        socket, call = Socket(), Blocked()
        task = asyncio.create_task(socket.hold(call))
        await until(call.running.is_set)
        socket.read()
        following = asyncio.create_task(socket.hold(thread_name))
        await until(lambda: socket.lane.pending == 2)
        call.gate.set()
        await asyncio.gather(task, following)
        assert socket.lane is not None
        socket.read()
        assert socket.lane is None

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
        async with asyncio.timeout(5):
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


def test_a_task_that_outlives_its_handler_has_a_thread_for_each_call():
    here = threading.local()

    def look():
        seen = getattr(here, "seen", 0)
        here.seen = seen + 1
        return seen, thread_name()

    async def main():
        socket, called, ended = Socket(), asyncio.Event(), asyncio.Event()

        async def outliving():
            calls = [await sync_to_async(look)(), await sync_to_async(look)()]
            called.set()
            await ended.wait()
            return [*calls, await sync_to_async(look)(), await sync_to_async(look)()]

        task = socket.start(outliving())
        await called.wait()
        socket.end()
        ended.set()
        calls = await task
        assert [seen for seen, _ in calls] == [0, 1, 0, 0]
        assert all(name.startswith(PREFIX) for _, name in calls)
        assert socket.lane is None

    run(main())


def test_a_call_that_runs_at_the_end_finishes_and_gives_the_lane_back():
    async def main():
        socket, call = Socket(), Blocked()
        task = asyncio.create_task(socket.hold(call))
        await until(call.running.is_set)
        socket.end()
        call.gate.set()
        assert (await task).startswith(PREFIX)
        assert socket.lane is None

    run(main())


def is_collected(reference):
    """Whether it goes, once the lane's thread has come back from its last call."""
    ends = time.monotonic() + 5
    while reference() is not None and time.monotonic() < ends:
        time.sleep(0.001)
        gc.collect()
    return reference() is None


def test_a_socket_that_ended_is_not_kept_alive():
    async def main():
        socket = Socket()
        await socket.run(thread_name)
        socket.end()
        return weakref.ref(socket)

    assert is_collected(run(main()))


# What passes through


def test_results_are_not_kept_alive_by_an_idle_lane():
    class Result:
        pass

    async def main():
        return weakref.ref(await Socket().run(Result))

    assert is_collected(run(main()))


def test_an_exception_passes_through_and_the_lane_goes_on():
    def fail():
        raise LookupError("lost")

    async def main():
        socket = Socket()
        with pytest.raises(LookupError, match="lost"):
            await socket.hold(fail)
        assert not socket.lane.pending
        assert (await socket.run(thread_name)).startswith(PREFIX)

    run(main())


def test_context_variables_pass_into_the_lane_and_back():
    variable = contextvars.ContextVar("variable", default="nothing")

    def work():
        seen = variable.get()
        variable.set("back")
        return seen

    async def handler():
        variable.set("there")
        return await sync_to_async(work)(), variable.get()

    async def main():
        assert await Socket().start(handler()) == ("there", "back")
        assert await Socket().run(variable.get) == "nothing"

    run(main())


def test_a_cancelled_call_in_the_queue_never_runs():
    async def main():
        socket, call, ran = Socket(), Blocked(), []
        running = asyncio.create_task(socket.hold(call))
        await until(call.running.is_set)
        waiting = socket.start(sync_to_async(ran.append)(1))
        await until(lambda: socket.lane.pending == 2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        call.gate.set()
        await running
        await until(lambda: not socket.lane.pending)
        assert ran == []
        socket.read()
        assert socket.lane is None

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


# Where the lanes are off, and how many there are


def test_without_a_socket_sync_work_goes_where_asgiref_sends_it():
    async def main():
        await Socket().run(thread_name)
        return await sync_to_async(thread_name)()

    assert not run(main()).startswith(PREFIX)


def test_off_leaves_the_thread_to_asgiref():
    async def main():
        own = await sync_to_async(thread_name)()
        with lanes.off():
            assert await Socket().hold(thread_name) == own
        assert (await Socket().run(thread_name)).startswith(PREFIX)

    run(main())


def test_off_inside_a_handler_ends_with_its_block():
    async def handler():
        before = await sync_to_async(thread_name)()
        with lanes.off():
            inside = await sync_to_async(thread_name)()
        return before, inside, await sync_to_async(thread_name)()

    before, inside, after = run_handler(handler())
    assert before == after
    assert before.startswith(PREFIX)
    assert not inside.startswith(PREFIX)


def test_below_async_to_sync_work_runs_in_the_calling_thread():
    async def main():
        return await Socket().run(thread_name)

    assert async_to_sync(main)() == thread_name()


def test_a_changed_setting_takes_effect_at_the_next_call():
    async def names(count):
        calls = [Blocked() for _ in range(count)]
        tasks = [asyncio.create_task(Socket().run(call)) for call in calls]
        await until(lambda: all(call.running.is_set() for call in calls))
        for call in calls:
            call.gate.set()
        return set(await asyncio.gather(*tasks))

    assert len(run(names(4))) == 4
    with override_settings(WEBSOCKET_SYNC_THREADS=6):
        assert len(run(names(6))) == 6
    assert len(run(names(4))) == 4


def test_a_changed_setting_leaves_held_lanes_to_their_holders(monkeypatch):
    monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 0.01)

    async def main():
        socket = Socket()
        thread = await socket.hold(threading.current_thread)
        with override_settings(WEBSOCKET_SYNC_THREADS=1):
            assert await socket.hold(threading.current_thread) is thread
            assert await Socket().run(threading.current_thread) is not thread
            socket.read()
            await until(lambda: not thread.is_alive())
            assert await socket.run(threading.current_thread) is not thread

    run(main())


def test_a_wrong_setting_is_raised_to_the_caller():
    with (
        override_settings(WEBSOCKET_SYNC_THREADS=0),
        pytest.raises(ImproperlyConfigured, match="WEBSOCKET_SYNC_THREADS"),
    ):
        run(Socket().run(thread_name))


def test_shutdown_ends_the_threads_and_later_work_gets_new_ones():
    async def main():
        socket = Socket()
        await asyncio.gather(*(Socket().run(thread_name) for _ in range(8)))
        await socket.run(thread_name)
        lanes.shutdown()
        assert lane_threads() == []
        assert not [one for one in threading.enumerate() if one.name == "websocket-lanes"]
        assert (await socket.run(thread_name)).startswith(PREFIX)

    run(main())


def test_shutdown_does_not_wait_longer_than_told():
    async def main():
        call = Blocked()
        task = asyncio.create_task(Socket().run(call))
        await until(call.running.is_set)
        lanes.shutdown(timeout=0.01)
        assert not task.done()
        call.gate.set()
        await task
        await until(lambda: lane_threads() == [])

    run(main())


def test_the_process_ends_while_a_call_is_running():
    code = """
import asyncio, contextvars, threading
from asgiref.sync import sync_to_async
from django.conf import settings
settings.configure()
from django_ws_dispatch import lanes

class Socket:
    lane = lane_user = lane_client = lane_socket = None
    lane_ended = lane_urgent = is_over = False
    is_between_reads = True

async def main():
    loop, running = asyncio.get_running_loop(), asyncio.Event()
    def forever():
        loop.call_soon_threadsafe(running.set)
        threading.Event().wait()
    lanes.enter(Socket())
    task = asyncio.create_task(sync_to_async(forever)())
    await running.wait()

asyncio.run(main())
print("over", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("over\n", "", 0)


# Database connections


def test_a_connection_is_closed_after_the_last_hold_where_it_has_no_age(database):
    async def main():
        socket = Socket()
        connection = await socket.hold(lane_connection)
        assert connection.connection is not None
        socket.read()
        await until(lambda: connection.connection is None)

    run(main())


def test_a_connection_within_its_age_is_kept_and_used_again(database):
    database["CONN_MAX_AGE"] = 600

    async def main():
        connection = await Socket().run(lane_connection)
        kept = connection.connection
        await until(lambda: time.monotonic() - started > 3 * caretaker.CHECK_AFTER_SECONDS)
        assert connection.connection is kept
        assert (await Socket().run(lane_connection)).connection is kept

    started = time.monotonic()
    run(main())


def test_a_connection_past_its_age_is_replaced_when_a_hold_begins(database, monkeypatch):
    database["CONN_MAX_AGE"] = 600
    monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 60)

    async def main():
        connection = await Socket().run(lane_connection)
        old, connection.close_at = connection.connection, time.monotonic()
        assert (await Socket().run(lane_connection)).connection is not old

    run(main())


def test_messages_in_a_row_share_a_connection_without_an_age(database, monkeypatch):
    monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 60)

    async def main():
        connection = await Socket().run(lane_connection)
        first = connection.connection
        for _ in range(5):
            assert (await Socket().run(lane_connection)).connection is first

    run(main())


def test_a_connection_is_given_back_though_its_socket_is_in_the_middle_of_a_message(database):
    async def main():
        holding = Socket()
        connection = await holding.hold(lane_connection)
        await until(lambda: connection.connection is None)
        assert holding.lane is not None
        assert (await holding.hold(lane_connection)).connection is not None

    run(main())


def test_aiterator_keeps_its_cursor_while_others_use_the_lane(database):
    open_sessions_table(40)

    async def main():
        async def handler():
            keys = []
            async for session in Session.objects.using(ALIAS).aiterator(chunk_size=10):
                keys.append(session.session_key)
                if len(keys) % 10 == 0:
                    await Socket().run(lane_connection)
                    await asyncio.sleep(1.5 * caretaker.CHECK_AFTER_SECONDS)
            return keys

        assert len(set(await Socket().start(handler()))) == 40

    with override_settings(WEBSOCKET_SYNC_THREADS=1):
        run(main())


def test_a_connection_that_failed_is_replaced_while_others_hold_the_lane(database):
    async def main():
        holding = Socket()
        connection = await holding.hold(lane_connection)
        lost = connection.connection
        connection.errors_occurred, connection.is_usable = True, lambda: False
        assert (await Socket().run(lane_connection)).connection is not lost
        assert not connection.errors_occurred

    with override_settings(WEBSOCKET_SYNC_THREADS=1):
        run(main())


def test_a_connection_that_failed_but_works_is_kept(database):
    def fail():
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("SELECT * FROM nowhere")

    async def main():
        socket = Socket()
        connection = await socket.hold(lane_connection)
        kept = connection.connection
        with pytest.raises(OperationalError):
            await socket.hold(fail)
        assert connection.errors_occurred
        assert (await socket.run(lane_connection)).connection is kept
        assert not connection.errors_occurred

    run(main())


def test_a_kept_connection_is_tried_once_when_a_lane_at_rest_is_taken(database, monkeypatch):
    database["CONN_MAX_AGE"] = 600
    monkeypatch.setattr(databases, "RESTED", 0.05)
    monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 60)  # which would try it, too
    tried = []

    async def main():
        connection = await Socket().run(lane_connection)
        connection.is_usable = lambda: tried.append(1) or True
        rests_since = time.monotonic()
        await until(lambda: time.monotonic() - rests_since > 2 * databases.RESTED)
        socket = Socket()
        for _ in range(3):
            await socket.hold(lane_connection)
        socket.read()
        assert len(tried) == 1

    run(main())


def test_a_transaction_is_never_touched(database):
    open_sessions_table(0)

    async def main():
        atomic = transaction.atomic(using=ALIAS)
        socket, key = Socket(), "0" * 32

        async def handler():
            await sync_to_async(atomic.__enter__)()
            await Session.objects.using(ALIAS).acreate(
                session_key=key, session_data="", expire_date=timezone.now()
            )
            connection = await sync_to_async(lane_connection)()
            connection.errors_occurred, connection.is_usable = True, lambda: False
            socket.read()
            await asyncio.sleep(3 * caretaker.CHECK_AFTER_SECONDS)
            await sync_to_async(atomic.__exit__)(None, None, None)
            return await Session.objects.using(ALIAS).filter(session_key=key).aexists()

        assert await socket.start(handler())

    with override_settings(WEBSOCKET_SYNC_THREADS=1):
        run(main())


def test_a_check_that_fails_is_logged_and_the_lane_goes_on(database, caplog):
    def fail():
        raise OSError("no route")

    async def main():
        socket = Socket()
        connection = await socket.hold(lane_connection)
        connection.errors_occurred, connection.is_usable = True, fail
        assert (await socket.run(thread_name)).startswith(PREFIX)

    run(main())
    assert [record.name for record in caplog.records] == ["django_ws_dispatch.lanes"]


def test_shutdown_closes_connections_within_their_age(database):
    database["CONN_MAX_AGE"] = 600
    connection = run(Socket().run(lane_connection))
    lanes.shutdown()
    assert connection.connection is None
