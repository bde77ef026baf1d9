"""The handlers of the soak, and their routes. Clients say in JSON what they shall do."""

from __future__ import annotations

import asyncio
import json
import zlib
from contextlib import AsyncExitStack
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User

from django_ws_dispatch.groups import Group
from django_ws_dispatch.routing import path
from django_ws_dispatch.websockets import WebSocket
from tests.soak.failures import MEANT, MeantToFail
from tests.soak.ledger import pack


async def member(websocket: WebSocket) -> None:
    joined: dict[str, AsyncExitStack] = {}
    try:
        async for message in websocket:
            order = json.loads(message)
            answer = await obey(websocket, joined, order)
            if order["do"] == "return":
                return
            await websocket.send(f"={answer}")
    finally:
        # Of those that end without a word, only some leave by themselves.
        if len(joined) % 2:
            for stack in joined.values():
                await stack.aclose()


async def obey(
    websocket: WebSocket, joined: dict[str, AsyncExitStack], order: dict[str, Any]
) -> object:
    do, name = order["do"], order.get("group", "")
    if do == "join":
        joined[name] = stack = AsyncExitStack()
        await stack.enter_async_context(websocket.join(name))
        if order["twice"]:
            await stack.enter_async_context(websocket.join(Group(name)))
    elif do == "leave":
        await joined.pop(name).aclose()
    elif do == "publish":
        await publish(websocket, order)
    elif do == "close":
        reason = f"{name} {order['id']}"
        exclude = websocket if order["exclude"] else None
        if order["how"] == "sync":
            await sync_to_async(Group(name).close)(4500, reason, exclude=exclude)
        else:
            await Group(name).aclose(4500, reason, exclude=exclude)
    elif do == "echo":
        return zlib.crc32(order["text"].encode())
    elif do == "user":
        return (await websocket.auser()).get_username()
    elif do == "query":
        return [user.pk async for user in User.objects.order_by("pk")]
    elif do == "stay":
        await asyncio.sleep(order["seconds"])
    elif do == "raise":
        raise MeantToFail
    elif do == "cancel":
        task = asyncio.current_task()
        if task is not None:
            task.cancel(MEANT)
        await asyncio.sleep(0)
    return "done"


async def publish(websocket: WebSocket, order: dict[str, Any]) -> None:
    group, exclude = Group(order["group"]), websocket if order["exclude"] else None
    for number in range(order["id"], order["id"] + order["count"]):
        data = pack(order["group"], number, order["client"], order["size"])
        if order["how"] == "sync":
            await sync_to_async(group.send)(data, exclude=exclude)
        elif order["how"] == "binary":
            await group.asend(data.encode(), exclude=exclude)
        else:
            await group.asend(data, exclude=exclude)


async def push(websocket: WebSocket) -> None:
    """Never reads."""
    async with websocket.join("pushed"):
        while True:
            await websocket.send("=tick")
            await asyncio.sleep(0.05)


async def deny(websocket: WebSocket) -> None:
    await websocket.auser()


urlpatterns = [
    path("ws/member/", member),
    path("ws/push/", push),
    path("ws/deny/", deny),
]
