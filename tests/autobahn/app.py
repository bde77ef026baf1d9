"""One echo, served three times: as it is, and through the dispatcher in both forms of a handler."""

from __future__ import annotations

from django_ws_dispatch.routing import path
from django_ws_dispatch.typing import Receive, Scope, Send
from django_ws_dispatch.websockets import WebSocket


async def raw_echo(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text") is not None:
            await send({"type": "websocket.send", "text": event["text"]})
        else:
            await send({"type": "websocket.send", "bytes": event["bytes"]})


async def echo(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(message)


urlpatterns = [path("raw/", raw_echo), path("websocket/", echo)]


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """The same echo, without this package."""
    if scope["type"] == "websocket":
        await raw_echo(scope, receive, send)
        return
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
