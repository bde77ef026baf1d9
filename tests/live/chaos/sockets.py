"""The one socket: it says whose it is, and echoes. No group, so that nothing else closes it."""

from __future__ import annotations

import os

from django_ws_dispatch.auth import verifier
from django_ws_dispatch.decorators import login_required
from django_ws_dispatch.routing import path
from django_ws_dispatch.websockets import WebSocket

if "LIVE_PAGE_SECONDS" in os.environ:
    verifier.PAGE_SECONDS = float(os.environ["LIVE_PAGE_SECONDS"])


@login_required
async def mine(websocket: WebSocket) -> None:
    await websocket.send(await websocket.session.aget("lineage"))
    async for message in websocket:
        await websocket.send(message)


urlpatterns = [path("ws/mine/", mine)]
