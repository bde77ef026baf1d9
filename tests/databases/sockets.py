"""Who is in a group, and gets what it is sent."""

from __future__ import annotations

from django_ws_dispatch.groups import Group
from django_ws_dispatch.routing import path
from django_ws_dispatch.websockets import WebSocket


async def member(websocket: WebSocket, group: str, key: str) -> None:
    """Is in a group, which it sends what it gets."""
    async with websocket.join(group, key=key):
        await websocket.send("joined")
        async for message in websocket:
            await Group(group).asend(str(message))


urlpatterns = [path("ws/<str:group>/<str:key>/", member)]
