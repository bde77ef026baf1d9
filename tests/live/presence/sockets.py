"""Who is here, and who watches. Only a process of the site may import this: it is in a hurry."""

from __future__ import annotations

from django_ws_dispatch.brokers.presence import EXPIRY, GRACE, REFRESH
from django_ws_dispatch.brokers.redis import presence
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group, patrol, present
from django_ws_dispatch.routing import path
from django_ws_dispatch.websockets import WebSocket
from tests.live.handlers import note
from tests.live.presence import FASTER

vars(patrol)["REFRESH"] = vars(presence)["REFRESH"] = REFRESH / FASTER
vars(present)["GRACE"] = vars(presence)["GRACE"] = GRACE / FASTER
vars(presence)["EXPIRY"] = EXPIRY / FASTER


async def here(websocket: WebSocket, group: str, key: str) -> None:
    """Is here; what it says is its info."""
    try:
        async with websocket.join(group, key=key) as membership:
            await websocket.send("here")
            async for message in websocket:
                await membership.update(message)
                await websocket.send("updated")
    finally:
        note(f"{key} {websocket.close_code}")


async def watches(websocket: WebSocket, group: str) -> None:
    """Tells its page all that it is told."""
    await websocket.accept()
    while True:
        try:
            async with Group(group).watch() as changes:
                async for change in changes:
                    told = {
                        "left": [one.key for one in change.left],
                        "joined": [[one.key, one.here_since.timestamp()] for one in change.joined],
                        "present": [one.key for one in change.present or ()],
                        "count": change.count,
                    }
                    await websocket.send_json(told)
        except BrokerError:
            await websocket.send_json("lost")


urlpatterns = [
    path("ws/here/<str:group>/<str:key>/", here),
    path("ws/watches/<str:group>/", watches),
]
