"""ASGI without any framework: what the server alone costs."""

from __future__ import annotations

import time
from typing import Any

from asgiref.sync import sync_to_async

from ..handlers import raw_echo

members: dict[Any, None] = {}


async def application(scope: Any, receive: Any, send: Any) -> None:
    path = scope.get("path")
    if scope["type"] == "websocket":
        await PATHS.get(path, deny)(scope, receive, send)


async def deny(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close"})


async def member(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    members[send] = None
    await send({"type": "websocket.send", "text": "joined"})
    while (await receive())["type"] != "websocket.disconnect":
        pass
    del members[send]


async def publish(scope: Any, receive: Any, send: Any) -> None:
    """The plain loop over all members."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] != "websocket.disconnect":
        message = {"type": "websocket.send", "text": event["text"]}
        for one in list(members):
            await one(message)


async def block(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] != "websocket.disconnect":
        await sync_to_async(time.sleep)(1)
        await send({"type": "websocket.send", "text": event["text"]})


PATHS = {
    "/ws/echo/": raw_echo,
    "/ws/member/": member,
    "/ws/publish/": publish,
    "/ws/block/": block,
}
