from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref

from asgiref.sync import async_to_sync, sync_to_async
from django.test import override_settings

from django_ws_dispatch import lanes
from tests.kit.waiting import DEADLINE, until
from tests.lanes.sockets import (
    PREFIX,
    Blocked,
    Socket,
    lane_threads,
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


# When a hold ends


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


def is_collected(reference):
    """Whether it goes, once the lane's thread has come back from its last call."""
    ends = time.monotonic() + DEADLINE
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


# Where the lanes are off, and how many there are


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
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("over\n", "", 0)
