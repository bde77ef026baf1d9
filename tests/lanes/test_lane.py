"""The thread of one socket: one call after the other, and what becomes of their results."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import time
import weakref

import pytest
from asgiref.sync import sync_to_async
from django.test import override_settings

from tests.kit.waiting import DEADLINE, until
from tests.lanes.sockets import PREFIX, Blocked, Socket, run, run_handler, thread_name


def test_one_call_at_a_time_runs_in_a_lane_in_the_order_of_the_calls():
    seen = []

    async def handler():
        await asyncio.gather(*(sync_to_async(seen.append)(number) for number in range(50)))

    run_handler(handler())
    assert seen == list(range(50))


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
    ends = time.monotonic() + DEADLINE
    while reference() is not None and time.monotonic() < ends:
        time.sleep(0.001)
        gc.collect()
    return reference() is None


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


def test_a_lane_that_ends_ends_its_thread():
    async def main():
        socket = Socket()
        await socket.hold(thread_name)
        thread = socket.lane.thread
        assert thread.is_alive()
        assert thread.name.startswith(PREFIX)
        socket.end()
        await until(lambda: not thread.is_alive())

    run(main())


def test_a_lane_has_no_thread_before_its_first_call_runs():
    async def main():
        first, blocked = Socket(), Blocked()
        running = asyncio.create_task(first.hold(blocked))
        await until(blocked.running.is_set)
        second = Socket()
        waiting = asyncio.create_task(second.hold(thread_name))
        await until(lambda: second.lane is not None)
        assert second.lane.thread is None
        blocked.gate.set()
        first.end()
        await asyncio.gather(running, waiting)
        assert second.lane.thread is not None

    with override_settings(WEBSOCKET_SYNC_THREADS=1):
        run(main())
