"""Handlers that fail at every point, each as a member of a group, and their routes."""

from __future__ import annotations

import asyncio

from asgiref.sync import sync_to_async

from django_ws_dispatch.routing import path
from django_ws_dispatch.websockets import WebSocket
from tests.live.handlers import note

__all__ = ["urlpatterns"]


def fail() -> None:
    raise ValueError("meant to fail")


async def fail_later() -> None:
    await asyncio.sleep(0.05)
    fail()


async def in_a_receive(websocket: WebSocket) -> None:
    async with websocket.join("room"), asyncio.timeout(0.05):
        await websocket.receive()


async def beside_a_receive(websocket: WebSocket) -> None:
    async with websocket.join("room"), asyncio.TaskGroup() as tasks:
        tasks.create_task(websocket.receive())
        tasks.create_task(fail_later())


async def beside_a_wait(websocket: WebSocket) -> None:
    async with websocket.join("room"), asyncio.TaskGroup() as tasks:
        tasks.create_task(fail_later())
        await websocket.wait_closed()


async def beside_a_send(websocket: WebSocket) -> None:
    async def tick() -> None:
        while True:
            await websocket.send("tick")
            await asyncio.sleep(0.001)

    async with websocket.join("room"), asyncio.TaskGroup() as tasks:
        tasks.create_task(tick())
        tasks.create_task(fail_later())


async def in_each(websocket: WebSocket) -> None:
    async def each():
        yield "one"
        fail()

    async with websocket.join("room"):
        await websocket.send_each(each())


async def in_a_lane(websocket: WebSocket) -> None:
    async with websocket.join("room"):
        await sync_to_async(fail)()


async def in_finally(websocket: WebSocket) -> None:
    """Fails, and then in its ``finally`` once more."""
    async with websocket.join("room"):
        try:
            fail()
        finally:
            raise KeyError("meant to fail")


async def with_a_cancelled_task(websocket: WebSocket) -> None:
    """Waits for a task of its own that it cancelled: a common mistake."""
    async with websocket.join("room"):
        task = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0)
        task.cancel()
        await task


async def at_the_end(websocket: WebSocket) -> None:
    """Reads, and fails once the client has left."""
    async with websocket.join("room"):
        try:
            async for _ in websocket:
                pass
        finally:
            fail()


async def when_cancelled(websocket: WebSocket) -> None:
    """Does not read, and fails when it is cancelled."""
    async with websocket.join("room"):
        try:
            await asyncio.sleep(3600)
        finally:
            fail()


async def swallows(websocket: WebSocket) -> None:
    """Takes the first cancellation for nothing."""
    async with websocket.join("room"):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            note("swallowed")
        await asyncio.sleep(3600)


async def tidies_up(websocket: WebSocket) -> None:
    """Takes a while to end."""
    async with websocket.join("room"):
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.5)
            await sync_to_async(note)("tidied up")


async def undecided(websocket: WebSocket) -> None:
    """Hangs before it accepts."""
    note("undecided")
    await asyncio.sleep(3600)


handlers = [
    in_a_receive,
    beside_a_receive,
    beside_a_wait,
    beside_a_send,
    in_each,
    in_a_lane,
    in_finally,
    with_a_cancelled_task,
    at_the_end,
    when_cancelled,
    swallows,
    tidies_up,
    undecided,
]
urlpatterns = [path(f"ws/fails/{one.__name__}/", one) for one in handlers]
