"""A handler with spans of its own, and its route."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from opentelemetry import trace

from django_ws_dispatch.groups import Group
from django_ws_dispatch.routing import path
from django_ws_dispatch.websockets import WebSocket

tracer = trace.get_tracer(__name__)


def on_a_lane() -> None:
    with tracer.start_as_current_span("on a lane"):
        pass


async def room(websocket: WebSocket) -> None:
    async with websocket.join("room"):
        async for message in websocket:
            with tracer.start_as_current_span("a message"):
                await sync_to_async(on_a_lane)()
            await Group("room").asend(message)


urlpatterns = [path("room/", room)]
