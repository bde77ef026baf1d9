"""Handlers that many tests use."""

from django_ws_dispatch.typing import Receive, Scope, Send
from django_ws_dispatch.websockets import WebSocket


async def ping(websocket: WebSocket) -> None:
    async for message in websocket:
        if message == "ping":
            await websocket.send("pong!")


async def raw_ping(scope: Scope, receive: Receive, send: Send) -> None:
    """The forty lines of the article, as cookiecutter-django generates them."""
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        if event["type"] == "websocket.disconnect":
            break
        if event["type"] == "websocket.receive" and event.get("text") == "ping":
            await send({"type": "websocket.send", "text": "pong!"})


async def room(websocket: WebSocket, room: str) -> None:
    async for message in websocket:
        await websocket.send(f"{room}: {message!s}")
