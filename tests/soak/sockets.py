"""The handlers of the soak, and their routes. Clients say in JSON what they shall do."""

from __future__ import annotations

import asyncio
import json
import zlib
from contextlib import AsyncExitStack, suppress
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User

from django_ws_dispatch.exceptions import BrokerError, WebSocketDisconnect
from django_ws_dispatch.groups import Change, Group, Membership
from django_ws_dispatch.routing import path
from django_ws_dispatch.websockets import WebSocket
from tests.soak.failures import MEANT, MeantToFail
from tests.soak.ledger import pack
from tests.soak.rooms import find, remembers


async def member(websocket: WebSocket) -> None:
    joined: dict[str, Stack] = {}
    told: list[asyncio.Task[None]] = []
    try:
        async for message in websocket:
            order = json.loads(message)
            answer = await obey(websocket, joined, told, order)
            if order["do"] == "return":
                return
            await websocket.send(f"={answer}")
    finally:
        for task in told:
            task.cancel()
        # Of those that end without a word, only some leave by themselves.
        if len(joined) % 2:
            for stack in joined.values():
                await stack.aclose()


async def obey(
    websocket: WebSocket,
    joined: dict[str, Stack],
    told: list[asyncio.Task[None]],
    order: dict[str, Any],
) -> object:
    do, name = order["do"], order.get("group", "")
    if do == "join":
        joined[name] = stack = Stack()
        await stack.enter_async_context(websocket.join(name))
        if order["twice"]:
            await stack.enter_async_context(websocket.join(Group(name)))
    elif do == "leave":
        await joined.pop(name).aclose()
    elif do == "join_kept":
        return json.dumps(await join_kept(websocket, joined, told, order))
    elif do == "leave_kept":
        stack = joined.pop(order["names"][0])
        gaps = stack.membership.gaps
        await stack.aclose()
        return json.dumps(gaps)
    elif do == "join_here":
        return await join_here(websocket, joined, told, order)
    elif do == "update_here":
        with suppress(BrokerError):  # it is told again by itself
            await joined[name].membership.update(order["info"])
    elif do == "leave_here":
        await joined.pop(name).aclose()
    elif do == "who":
        present = await find(name).apresent()
        return json.dumps({"present": [(one.key, one.sockets, one.info) for one in present]})
    elif do == "publish":
        positions = await publish(websocket, order)
        if remembers(name):
            return json.dumps(positions)
    elif do == "close":
        return await close(websocket, order)
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


class Stack(AsyncExitStack):
    """The block of a join, and who tells the client of what becomes of it."""

    membership: Membership


async def join_kept(
    websocket: WebSocket,
    joined: dict[str, Stack],
    told: list[asyncio.Task[None]],
    order: dict[str, Any],
) -> object:
    """Return what the client is told; ``None`` where the broker is away."""
    since, stack = order["since"], Stack()
    names = list(since)
    try:
        stack.membership = membership = await stack.enter_async_context(
            websocket.join(*map(find, names), since=since, newest=order["newest"])
        )
    except BrokerError:
        return None
    told.append(asyncio.create_task(tell(websocket, membership)))
    stack.callback(told[-1].cancel)
    joined[names[0]] = stack
    return {
        "recovered": membership.recovered,
        "lost": membership.lost,
        "positions": membership.positions,
    }


async def tell(websocket: WebSocket, membership: Membership) -> None:
    """Tell the client of each gap."""
    with suppress(WebSocketDisconnect):
        while True:
            await membership.gap()
            await websocket.send(f"!{json.dumps(membership.gaps)}")


async def join_here(
    websocket: WebSocket,
    joined: dict[str, Stack],
    told: list[asyncio.Task[None]],
    order: dict[str, Any],
) -> str:
    name, stack = order["group"], Stack()
    try:
        stack.membership = await stack.enter_async_context(
            websocket.join(find(name), key=order["key"], info=order["info"])
        )
    except BrokerError:
        return "refused"
    joined[name] = stack
    if order["watches"]:
        told.append(asyncio.create_task(watch(websocket, name)))
        stack.callback(told[-1].cancel)
    return "done"


async def watch(websocket: WebSocket, name: str) -> None:
    """Tell the client who comes and goes."""
    with suppress(WebSocketDisconnect):
        while True:
            try:
                async with find(name).watch() as changes:
                    async for change in changes:
                        await websocket.send(f"~{json.dumps(describe(name, change))}")
            except BrokerError:
                await websocket.send(f"~{json.dumps({'group': name, 'forgotten': True})}")


def describe(name: str, change: Change) -> dict[str, Any]:
    return {
        "group": name,
        "left": [one.key for one in change.left],
        "joined": {one.key: "here" for one in change.joined},
        "present": [one.key for one in change.present or ()],
        "count": change.count,
    }


async def publish(websocket: WebSocket, order: dict[str, Any]) -> list[str | None] | None:
    """Return the positions; ``None`` where the broker of a group that remembers is away."""
    group, exclude = find(order["group"]), websocket if order["exclude"] else None
    positions = []
    for number in range(order["id"], order["id"] + order["count"]):
        data = pack(order["group"], number, order["client"], order["size"])
        try:
            if order["how"] == "sync":
                position = await sync_to_async(group.send)(data, exclude=exclude)
            elif order["how"] == "binary":
                position = await group.asend(data.encode(), exclude=exclude)
            else:
                position = await group.asend(data, exclude=exclude)
        except BrokerError:
            if remembers(order["group"]):
                return None
            raise
        positions.append(position)
    return positions


async def close(websocket: WebSocket, order: dict[str, Any]) -> str:
    name = order["group"]
    reason, exclude = f"{name} {order['id']}", websocket if order["exclude"] else None
    try:
        if order["how"] == "sync":
            await sync_to_async(find(name).close)(4500, reason, exclude=exclude)
        else:
            await find(name).aclose(4500, reason, exclude=exclude)
    except BrokerError:
        if remembers(name):
            return "refused"
        raise
    return "done"


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
