"""Handlers that many tests use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_ws_dispatch.decorators import user_passes_test
from django_ws_dispatch.typing import Receive, Scope, Send
from django_ws_dispatch.websockets import WebSocket

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User


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


def has_a_name(user: User | AnonymousUser) -> bool:
    return bool(user.username)


@user_passes_test(has_a_name)
async def name(websocket: WebSocket) -> None:
    """For the type checker too: the user is of the site's model, as in a view."""
    await websocket.send(websocket.user.username)
