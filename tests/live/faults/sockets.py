"""The handlers of the fault tests, and their routes: each does one thing as a member of a group."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import OperationalError, connection

from django_ws_dispatch.decorators import login_required, recheck_user
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group
from django_ws_dispatch.routing import path
from django_ws_dispatch.typing import Receive, Scope, Send
from django_ws_dispatch.websockets import WebSocket
from tests.live.faults import misbehaving
from tests.live.handlers import note
from tests.live.handlers import urlpatterns as live

ROOM = Group("room")


@asynccontextmanager
async def membership(websocket: WebSocket, kind: str) -> AsyncIterator[None]:
    """Around what a handler does: who it is to the client, and that it ends to the test."""
    try:
        async with websocket.join(ROOM):
            await websocket.send(f"joined {os.getpid()}")
            yield
    finally:
        note(f"{kind} ended")


async def reads(websocket: WebSocket) -> None:
    async with membership(websocket, "reads"):
        async for message in websocket:
            await websocket.send(message)


async def sends(websocket: WebSocket) -> None:
    async with membership(websocket, "sends"):
        while True:
            await websocket.send("tick")
            await asyncio.sleep(0.05)


async def gushes(websocket: WebSocket) -> None:
    """Sends as fast as the client takes it."""
    async with membership(websocket, "gushes"):
        while True:
            await websocket.send("x" * 65536)


async def raw_gushes(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    try:
        while True:
            await send({"type": "websocket.send", "text": "x" * 65536})
    finally:
        note("gushes ended")


async def sleeps(websocket: WebSocket) -> None:
    async with membership(websocket, "sleeps"):
        await asyncio.sleep(3600)


async def works(websocket: WebSocket) -> None:
    """Is in sync code most of the time."""
    async with membership(websocket, "works"):
        while True:
            await sync_to_async(time.sleep)(0.5)


async def sticks(websocket: WebSocket) -> None:
    """Is in a call that outlasts every test."""
    async with membership(websocket, "sticks"):
        await sync_to_async(time.sleep)(600)


async def publishes(websocket: WebSocket) -> None:
    """Tells how each attempt ended, and after how many seconds; or who it is. No member itself."""
    async for message in websocket:
        how, _, text = str(message).partition(" ")
        if how == "who":
            await websocket.send(str(os.getpid()))
            continue
        began = time.monotonic()
        try:
            await publish(how, text)
        except BrokerError:
            how = "BrokerError"
        await websocket.send_json({how: time.monotonic() - began})


async def publish(how: str, text: str) -> None:
    if how == "sync":
        await sync_to_async(ROOM.send)(text)
    else:
        await ROOM.asend(text)


async def queries(websocket: WebSocket) -> None:
    """Says how many users there are, or that it is sorry."""
    async for message in websocket:
        try:
            if message == "sleep":
                await sync_to_async(in_the_database)("SELECT pg_sleep(3600)")
            answer = str(await User.objects.acount())
        except OperationalError:
            answer = "sorry"
        await websocket.send(answer)


def in_the_database(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


async def relies(websocket: WebSocket) -> None:
    """Has nothing to say without a database."""
    async for _ in websocket:
        await websocket.send(str(await User.objects.acount()))


async def asks_who(websocket: WebSocket) -> None:
    """Asks before it accepts."""
    await websocket.send((await websocket.auser()).get_username())
    await websocket.wait_closed()


async def asks_who_later(websocket: WebSocket) -> None:
    async for _ in websocket:
        await websocket.send((await websocket.auser()).get_username())


@login_required
async def guarded(websocket: WebSocket) -> None:
    await websocket.wait_closed()


@recheck_user(every=0.5)
async def rechecked(websocket: WebSocket) -> None:
    await websocket.send((await websocket.auser()).get_username())
    await websocket.wait_closed()


urlpatterns = [
    path("ws/reads/", reads),
    path("ws/sends/", sends),
    path("ws/gushes/", gushes),
    path("ws/raw-gushes/", raw_gushes),
    path("ws/sleeps/", sleeps),
    path("ws/works/", works),
    path("ws/sticks/", sticks),
    path("ws/publishes/", publishes),
    path("ws/queries/", queries),
    path("ws/relies/", relies),
    path("ws/guarded/", guarded),
    path("ws/asks-who/", asks_who),
    path("ws/asks-who-later/", asks_who_later),
    path("ws/rechecked/", rechecked),
    *misbehaving.urlpatterns,
    *live,
]
