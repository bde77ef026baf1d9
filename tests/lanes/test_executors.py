"""Where asgiref sends sync work, and where it does not."""

from __future__ import annotations

import asyncio
import threading

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_ws_dispatch import lanes
from django_ws_dispatch.lanes import caretaker, load_sync_context
from tests.kit.waiting import until
from tests.lanes.sockets import (
    PREFIX,
    Blocked,
    Socket,
    run,
    run_handler,
    thread_name,
)


def test_a_thread_sensitive_context_of_the_handler_changes_nothing():
    async def handler():
        async with ThreadSensitiveContext():
            inside = await sync_to_async(thread_name)()
        return inside, await sync_to_async(thread_name)()

    inside, outside = run_handler(handler())
    assert inside == outside
    assert inside.startswith(PREFIX)


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


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("nowhere.at.all", "can not be imported"),
        ("..", "can not be imported"),
        ("tests.settings.SECRET_KEY", "no function"),
    ],
)
def test_a_wrong_path_says_what_to_write(path: str, problem: str) -> None:
    with override_settings(WEBSOCKET_SYNC_CONTEXT=path), pytest.raises(ImproperlyConfigured) as exc:
        load_sync_context()
    assert problem in str(exc.value)
    assert "returns a context manager" in str(exc.value)
