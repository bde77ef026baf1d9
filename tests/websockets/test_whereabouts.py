"""Where a task is that waits: in the site's own code, as far as there is any."""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from django_ws_dispatch.websockets import whereabouts
from django_ws_dispatch.websockets.whereabouts import frames, place

pytestmark = pytest.mark.asyncio


async def own() -> None:
    await asyncio.sleep(3600)


async def deeper() -> None:
    await own()


async def generates() -> AsyncIterator[int]:
    await own()
    yield 1


async def iterates() -> None:
    async for _ in generates():
        pass


@types.coroutine
def old() -> Iterator[Any]:
    yield from own()


async def awaits_an_old_one() -> None:
    await old()


async def in_a_group() -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(own())


async def calls(function: Callable[[], Awaitable[None]]) -> None:
    await function()


@asynccontextmanager
async def waiting(coroutine: Any) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0.01)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def line_in(function: Any, text: str) -> str:
    source, first = inspect.getsourcelines(function)
    (offset,) = [number for number, line in enumerate(source) if text in line]
    return f"{__file__}:{first + offset}"


@pytest.mark.parametrize(
    ("coroutine", "function", "text"),
    [
        (own, own, "sleep"),
        (deeper, own, "sleep"),
        (awaits_an_old_one, own, "sleep"),
        (in_a_group, in_a_group, "TaskGroup"),
    ],
)
async def test_the_place_is_the_innermost_line_of_the_sites_own_code(coroutine, function, text):
    async with waiting(coroutine()) as task:
        assert place(task) == line_in(function, text)


async def test_what_hides_in_an_async_generator_is_known_by_who_iterates_over_it():
    async with waiting(iterates()) as task:
        assert place(task) == line_in(iterates, "generates()")


async def test_an_installed_package_comes_before_python_and_after_the_sites_own_code(monkeypatch):
    installed: dict[str, Any] = {"asyncio": asyncio}
    source = "async def waits():\n    await asyncio.sleep(3600)\n"
    exec(compile(source, "/lib/installed/package.py", "exec"), installed)
    monkeypatch.setattr(whereabouts, "_INSTALLED", ("/lib/installed",))
    async with waiting(installed["waits"]()) as task:
        assert place(task) == "/lib/installed/package.py:2"
    async with waiting(calls(installed["waits"])) as task:
        assert place(task) == line_in(calls, "await function()")


async def test_where_there_is_only_python_the_place_is_in_python():
    async with waiting(asyncio.sleep(3600)) as task:
        assert place(task).startswith(inspect.getsourcefile(asyncio.sleep) or "")


async def test_the_frames_of_this_package_are_left_out_unless_there_are_no_others(monkeypatch):
    async with waiting(deeper()) as task:
        names = [frame.f_code.co_name for frame, _ in frames(task)]
        assert names == ["deeper", "own", "sleep"]
        monkeypatch.setattr(whereabouts, "_PACKAGE", __file__)
        assert [frame.f_code.co_name for frame, _ in frames(task)] == ["sleep"]
        monkeypatch.setattr(whereabouts, "_PACKAGE", "/")
        assert len(frames(task)) == 3


async def test_a_task_that_has_ended_is_nowhere():
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    assert place(task) == "nowhere"
