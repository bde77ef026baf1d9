"""The handlers of both sites, and their routes."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, connection

from django_ws_dispatch.decorators import connection_limit, login_required, recheck_user
from django_ws_dispatch.groups import Group, user_group
from django_ws_dispatch.routing import path
from tests.live.tenants.shop.models import Item

tenancy = import_module(settings.TENANCY)


# Four ways to read. Each answer is the texts of all rows, or what failed.


def texts() -> list[str]:
    return [item.text for item in Item.objects.order_by("pk")]


async def by_the_orm(websocket: Any) -> list[str]:
    return [item.text async for item in Item.objects.order_by("pk")]


async def by_a_call(websocket: Any) -> list[str]:
    return await sync_to_async(texts)()


async def by_itself(websocket: Any) -> list[str]:
    """Sets the tenant in one call and reads in the next."""
    await sync_to_async(tenancy.use)(websocket.request)
    await asyncio.sleep(0)
    return await sync_to_async(texts)()


async def by_a_cursor(websocket: Any) -> list[str]:
    return [item.text async for item in Item.objects.order_by("pk").aiterator(chunk_size=3)]


def reader(read: Any) -> Any:
    async def reads(websocket: Any) -> None:
        async for _ in websocket:
            try:
                await websocket.send_json(await read(websocket))
            except DatabaseError as exc:
                await websocket.send_json(f"{type(exc).__name__}: {exc}")

    return reads


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


# What a user does


@login_required
async def shop(websocket: Any) -> None:
    """Somebody who is in: of the lobby, and of their own group."""
    user = websocket.user
    async with websocket.join("lobby", user_group(user)):
        async for message in websocket:
            what, _, text = str(message).partition(" ")
            if what == "who":
                answer = f"{user.first_name} {user.username}"
            elif what == "rows":
                answer = ",".join(await by_the_orm(websocket))
            elif what == "say":
                await Group("lobby").asend(text)
                continue
            else:
                answer = message
            await websocket.send(answer)


@recheck_user(every=0.25)
async def rechecked(websocket: Any) -> None:
    await websocket.send((await websocket.auser()).first_name)
    async for message in websocket:
        await websocket.send(message)


@login_required
@connection_limit(2, per="user")
async def twice(websocket: Any) -> None:
    await websocket.send(websocket.user.first_name)
    await websocket.wait_closed()


async def listens(websocket: Any) -> None:
    async with websocket.join("lobby"):
        await websocket.wait_closed()


async def waits(websocket: Any) -> None:
    """Queries, and then waits for something else."""
    async for seconds in websocket:
        await Item.objects.acount()
        await websocket.send("waits")
        await asyncio.sleep(float(seconds))


urlpatterns = [
    path("ws/by-the-orm/", reader(by_the_orm)),
    path("ws/by-a-call/", reader(by_a_call)),
    path("ws/by-itself/", reader(by_itself)),
    path("ws/by-a-cursor/", reader(by_a_cursor)),
    path("ws/shop/", shop),
    path("ws/rechecked/", rechecked),
    path("ws/twice/", twice),
    path("ws/listens/", listens),
    path("ws/waits/", waits),
]
