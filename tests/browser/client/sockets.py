"""The handlers of these tests, and their routes."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied

from django_ws_dispatch.decorators import login_required
from django_ws_dispatch.routing import path
from django_ws_dispatch.websockets import WebSocket


async def talk(websocket: WebSocket, name: str) -> None:
    async with websocket.join(f"talk:{name}"):
        async for message in websocket:
            await websocket.send(message)


async def forbidden(websocket: WebSocket) -> None:
    raise PermissionDenied


@login_required
async def private(websocket: WebSocket) -> None:
    await websocket.wait_closed()


urlpatterns = [
    path("ws/talks/<slug:name>/", talk),
    path("ws/forbidden/", forbidden),
    path("ws/private/", private),
]
