"""How many handshakes have a thread and connections of their own at once, and who waits."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import override_settings

from django_ws_dispatch import lanes
from django_ws_dispatch.lanes import caretaker
from django_ws_dispatch.lanes.executors import executor
from tests.kit.waiting import DEADLINE, until
from tests.lanes.sockets import (
    ALIAS,
    Blocked,
    Socket,
    lane_connection,
    lane_threads,
    run,
    thread_name,
)
from tests.lanes.test_nothing_crosses import (
    count_query_only,
    execute,
    leave_on_the_connection,
    leave_on_the_thread,
    look_at_the_connection,
    look_at_the_thread,
)

one_place = override_settings(WEBSOCKET_SYNC_THREADS=1)


def shake_hands(*steps: Callable[[], Any]) -> asyncio.Task[list[Any]]:
    """Run middleware: of its steps the coroutine functions are awaited, the others are calls."""

    async def handshake() -> list[Any]:
        with lanes.private_lane():
            return [
                await (step() if inspect.iscoroutinefunction(step) else sync_to_async(step)())
                for step in steps
            ]

    return Socket().start(handshake())


def private_pool() -> Any:
    return executor.pools.get(True)


def is_waiting() -> bool:
    pool = private_pool()
    return pool is not None and bool(pool.waiting)


def are_waiting(count: int) -> bool:
    pool = private_pool()
    return pool is not None and sum(lane.waits for lane in list(pool.lanes)) == count


async def held(count: int = 1) -> list[tuple[Blocked, asyncio.Task[list[Any]]]]:
    """Take so many places."""
    calls = [Blocked() for _ in range(count)]
    tasks = [shake_hands(call) for call in calls]
    await until(lambda: all(call.running.is_set() for call in calls))
    return list(zip(calls, tasks, strict=True))


@override_settings(WEBSOCKET_SYNC_THREADS=3)
def test_so_many_have_connections_at_once_and_the_others_wait(
    database: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caretaker, "SHORT_IDLE_SECONDS", 60)  # or a slow machine would lend places
    opened: set[Any] = set()
    most: list[int] = []
    connect, close = BaseDatabaseWrapper.connect, BaseDatabaseWrapper._close

    def count_and_connect(wrapper: Any) -> None:
        opened.add(wrapper)
        most.append(len(opened))
        connect(wrapper)

    def close_and_count(wrapper: Any) -> None:
        close(wrapper)
        opened.discard(wrapper)

    monkeypatch.setattr(BaseDatabaseWrapper, "connect", count_and_connect)
    monkeypatch.setattr(BaseDatabaseWrapper, "_close", close_and_count)

    async def main() -> None:
        await asyncio.gather(*(shake_hands(lane_connection, lane_connection) for _ in range(50)))
        await until(lambda: not opened and not lane_threads())

    run(main())
    assert len(most) == 50
    assert max(most) <= 3


@one_place
def test_who_comes_first_is_served_first() -> None:
    async def main() -> None:
        ((blocked, holding),) = await held()
        order: list[int] = []

        def note(number: int) -> Callable[[], None]:
            return lambda: order.append(number)

        tasks = [shake_hands(note(number), thread_name) for number in range(20)]
        await until(lambda: are_waiting(20))
        blocked.gate.set()
        await asyncio.gather(holding, *tasks)
        assert order == list(range(20))

    run(main())


@one_place
def test_one_that_waits_can_be_cancelled_and_takes_no_place() -> None:
    async def main() -> None:
        ((blocked, holding),) = await held()
        never = Blocked()
        tasks = [shake_hands(never) for _ in range(5)]
        last = shake_hands(thread_name)
        await until(lambda: are_waiting(6))
        for task in tasks:
            task.cancel()
        async with asyncio.timeout(DEADLINE):
            await asyncio.wait(tasks)  # while the place is held
        assert all(task.cancelled() for task in tasks)
        assert not holding.done()
        blocked.gate.set()
        await asyncio.gather(holding, last)
        assert not never.running.is_set()
        await until(lambda: not lane_threads())
        assert not private_pool().lanes

    run(main())


@one_place
def test_a_call_that_is_cancelled_holds_its_place_until_it_is_over() -> None:
    async def main() -> None:
        ((blocked, holding),) = await held()
        next_one = shake_hands(thread_name)
        await until(is_waiting)
        holding.cancel()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.shield(next_one)
        blocked.gate.set()
        await next_one
        await asyncio.wait([holding])
        assert holding.cancelled()

    run(main())


@one_place
def test_one_that_fails_gives_its_place_back() -> None:
    def fail() -> None:
        raise LookupError

    async def fail_beside_it() -> None:
        raise LookupError

    async def main() -> None:
        for step in (fail, fail_beside_it):
            with pytest.raises(LookupError):
                await shake_hands(thread_name, step)
        assert await shake_hands(thread_name)

    run(main())


@one_place
def test_one_without_sync_work_takes_no_place() -> None:
    async def nothing() -> str:
        return "nothing"

    async def main() -> None:
        assert await shake_hands(nothing) == ["nothing"]
        assert private_pool() is None
        ((blocked, holding),) = await held()
        assert await shake_hands(nothing) == ["nothing"]
        blocked.gate.set()
        await holding

    run(main())


@one_place
def test_one_inside_another_shares_its_place() -> None:
    async def main() -> None:
        async def inside() -> Any:
            with lanes.private_lane():
                await sync_to_async(leave_on_the_thread)("red")
            return await sync_to_async(look_at_the_thread)()

        async with asyncio.timeout(DEADLINE):
            *_, seen, left = await shake_hands(thread_name, inside, look_at_the_thread)
        assert seen == left == ("red", "red")

    run(main())


@one_place
def test_sockets_and_who_is_verified_do_not_wait_for_a_place_nor_a_place_for_them() -> None:
    async def verify() -> str:
        with lanes.lane_for(None, urgent=True):
            return str(await sync_to_async(thread_name)())

    async def main() -> None:
        ((blocked, holding),) = await held()
        await Socket().run(thread_name)
        await Socket().start(verify())
        blocked.gate.set()
        await holding
        await shake_hands(thread_name, verify, thread_name)

        busy = Blocked()
        socket = asyncio.create_task(Socket().run(busy))
        await until(busy.running.is_set)
        await shake_hands(thread_name)
        busy.gate.set()
        await socket

    run(main())


def during(
    *steps: Callable[[], Any], before: tuple[Callable[[], Any], ...], patience: float = 30
) -> Any:
    """Run a handshake that awaits something between its calls while another one wants its place.

    Returns:
        What its steps after that have returned, and whether the other one came through meanwhile.
    """

    async def main() -> tuple[list[Any], bool]:
        others: list[asyncio.Task[list[Any]]] = []

        async def wait_for_something_else() -> bool:
            others.append(shake_hands(thread_name))
            await asyncio.wait(others, timeout=patience)
            return others[0].done()

        async with asyncio.timeout(DEADLINE):
            results = await shake_hands(*before, wait_for_something_else, *steps)
            await others[0]
        return results[len(before) + 1 :], results[len(before)]

    return run(main())


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caretaker, "SHORT_IDLE_SECONDS", 0.01)


@one_place
@pytest.mark.usefixtures("soon")
def test_one_that_awaits_something_else_lends_its_place_and_keeps_its_thread(
    database: Any,
) -> None:
    def leave() -> None:
        lane_connection()
        leave_on_the_thread("red")

    after, passed = during(look_at_the_thread, count_query_only, before=(leave,))
    assert passed
    assert after == [("red", "red"), 0]


@one_place
@pytest.mark.usefixtures("soon")
def test_one_that_has_set_something_keeps_its_connection_meanwhile(
    database: Any,
) -> None:
    def leave() -> None:
        execute("PRAGMA query_only = 1")
        leave_on_the_connection("red")

    after, passed = during(count_query_only, look_at_the_connection, before=(leave,), patience=0.3)
    assert not passed
    assert after == [1, "red"]


@one_place
@pytest.mark.usefixtures("soon")
def test_but_not_for_ever(
    database: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(caretaker, "HOLD_IDLE_SECONDS", 0.1)

    def leave() -> None:
        leave_on_the_connection("red")
        transaction.set_autocommit(False, using=ALIAS)

    after, passed = during(look_at_the_connection, before=(leave,))
    assert passed
    assert after == ["red"]  # what Django keeps for it is its own
    assert "Rolled back a transaction" in caplog.text


@one_place
@pytest.mark.usefixtures("soon")
def test_where_nobody_waits_it_keeps_everything(
    database: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caretaker, "HOLD_IDLE_SECONDS", 0.01)

    async def wait() -> None:
        await asyncio.sleep(0.3)

    async def main() -> None:
        first, _, second = await shake_hands(lane_connection, wait, lane_connection)
        assert first is second

    run(main())


@one_place
def test_what_waits_when_its_loop_ends_is_in_nobodys_way() -> None:
    blocked = Blocked()

    async def leave_some_waiting() -> None:
        tasks.extend(shake_hands(thread_name) for _ in range(3))
        await until(lambda: are_waiting(3))

    async def hold_and_leave_some_waiting() -> None:
        tasks.append(shake_hands(blocked))
        await until(blocked.running.is_set)
        await leave_some_waiting()
        blocked.gate.set()  # asyncio.run() waits for the call

    async def another_loop() -> None:
        assert await shake_hands(thread_name)

    for _ in range(3):
        tasks: list[asyncio.Task[Any]] = []
        blocked = Blocked()
        run(hold_and_leave_some_waiting())
        assert all(task.done() for task in tasks)
        run(another_loop())


def test_a_changed_setting_is_that_of_the_next_handshake() -> None:
    async def main() -> None:
        with override_settings(WEBSOCKET_SYNC_THREADS=1):
            ((blocked, holding),) = await held()
            waiting = shake_hands(thread_name)
            await until(is_waiting)
        others = await held(4)
        for call, _ in [(blocked, holding), *others]:
            call.gate.set()
        await asyncio.gather(holding, waiting, *(task for _, task in others))

    run(main())


def test_the_threads_and_the_caretaker_end_with_the_last_handshake() -> None:
    async def main() -> None:
        await asyncio.gather(*(shake_hands(thread_name, thread_name) for _ in range(30)))
        pool = private_pool()
        await until(lambda: not lane_threads() and pool.caretaker is None)
        assert not pool.lanes

    run(main())
