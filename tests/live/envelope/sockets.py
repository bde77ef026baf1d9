"""The handlers. None of them knows what its client speaks."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User

from django_ws_dispatch.decorators import (
    idle_timeout,
    login_required,
    max_message_size,
    rate_limit,
    subprotocols,
)
from django_ws_dispatch.groups import Group, user_group
from django_ws_dispatch.routing import path
from django_ws_dispatch.typing import Receive, Scope, Send
from django_ws_dispatch.websockets import WebSocket
from tests.kit.waiting import DEADLINE
from tests.live.handlers import note

gates: defaultdict[str, threading.Event] = defaultdict(threading.Event)
"""at which handlers wait until a page lets them go on"""


async def echo(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(message)


async def named_echo(websocket: WebSocket, name: str) -> None:
    """The same, which can be told from others in the log."""
    try:
        await echo(websocket)
    finally:
        note(f"{websocket.request.path} {websocket.close_code}")


async def tells(websocket: WebSocket) -> None:
    """What a handler is told of subprotocols."""
    await websocket.accept()
    await websocket.send_json([websocket.subprotocols, websocket.subprotocol])
    await websocket.send_json([dict(websocket.since), websocket.id])
    await websocket.wait_closed()


@subprotocols("chat.v2", "chat.v1")
async def declares(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(f"{websocket.subprotocol} {message!r}")


async def chooses(websocket: WebSocket) -> None:
    """Chooses by itself, and may choose what this package would answer with."""
    await websocket.accept(websocket.scope["subprotocols"][0])
    async for message in websocket:
        await websocket.send(f"{websocket.subprotocol} {message!r}")


async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    """Chooses none."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": repr(event.get("text"))})


async def joins(websocket: WebSocket, names: str, key: str) -> None:
    """Is in groups; ``out`` leaves them, ``in`` is in them again; ``is so`` is its info."""
    joins = True
    while joins:
        async with websocket.join(*names.split(","), key=key, info=key) as membership:
            await websocket.send(f"joined {membership.recovered} {','.join(membership.lost)}")
            async for message in websocket:
                if message == "out":
                    break
                if str(message).startswith("is "):
                    await membership.update(message)
                await websocket.send(message)
        await websocket.send("left")
        joins = False
        async for message in websocket:
            if message == "in":
                joins = True
                break
            await websocket.send(message)


@login_required
async def inbox(websocket: WebSocket) -> None:
    """What is for its user, and what is for everybody."""
    async with websocket.join(user_group(websocket.user), "news:all"):
        await websocket.send(f"joined {websocket.user.get_username()}")
        await websocket.wait_closed()


@login_required
async def inboxes(websocket: WebSocket, other: int) -> None:
    """What is for its user, and what is for another; a group may be called like the other."""
    async with websocket.join(user_group(websocket.user), user_group(User(pk=other))):
        await websocket.send("joined")
        async for name in websocket:
            try:
                async with websocket.join(str(name)):
                    await websocket.send("joined")
            except ValueError:
                await websocket.send("ValueError")


async def passes(gate: str) -> None:
    while not gates[gate].is_set():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def reads(websocket: WebSocket, gate: str) -> None:
    """Reads all the while."""
    async for message in websocket:
        await websocket.send(f"{message} {gates[gate].is_set()}")


async def sleeps(websocket: WebSocket, gate: str) -> None:
    """Has read, and does not any more."""
    await websocket.send(await websocket.receive())
    await passes(gate)
    await websocket.send("released")
    await websocket.wait_closed()


async def never_reads(websocket: WebSocket, gate: str) -> None:
    """Never reads."""
    await websocket.accept()
    await passes(gate)
    await websocket.send("released")
    await websocket.wait_closed()


async def in_a_lane(websocket: WebSocket, gate: str) -> None:
    """Waits in sync code."""
    await websocket.send(await websocket.receive())
    await sync_to_async(gates[gate].wait)(DEADLINE)
    await websocket.send("released")
    await websocket.wait_closed()


async def ticks(gate: str) -> AsyncIterator[str]:
    yield "first"
    await passes(gate)
    yield "released"


async def sends(websocket: WebSocket, gate: str) -> None:
    """Sends only."""
    await websocket.send_each(ticks(gate))
    await websocket.wait_closed()


@idle_timeout(6)
async def idle(websocket: WebSocket) -> None:
    try:
        async for message in websocket:
            await websocket.send(message)
    finally:
        note(f"idle {websocket.close_code}")


@max_message_size(1000)
async def small(websocket: WebSocket) -> None:
    async for message in websocket:
        size = len(message.encode() if isinstance(message, str) else message)
        await websocket.send(f"{size}")


@rate_limit("5/h")
async def slow(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(message)


async def floods(websocket: WebSocket, group: str) -> None:
    """Sends to a group more than lies between a server and a client, as long as that is there."""
    async with websocket.join(group):
        await websocket.send("joined")
        await websocket.receive()
        while not websocket.is_over:
            await Group(group).asend("x" * 1_000_000)
            await asyncio.sleep(0.001)
    note(f"{websocket.request.path} {websocket.close_code}")


urlpatterns = [
    path("echo/", echo),
    path("echo/<str:name>/", named_echo),
    path("tells/", tells),
    path("declares/", declares),
    path("chooses/", chooses),
    path("raw/", raw),
    path("joins/<str:names>/<str:key>/", joins),
    path("inbox/", inbox),
    path("inboxes/<int:other>/", inboxes),
    path("reads/<str:gate>/", reads),
    path("sleeps/<str:gate>/", sleeps),
    path("never-reads/<str:gate>/", never_reads),
    path("in-a-lane/<str:gate>/", in_a_lane),
    path("sends/<str:gate>/", sends),
    path("idle/", idle),
    path("small/", small),
    path("slow/", slow),
    path("floods/<str:group>/", floods),
]
