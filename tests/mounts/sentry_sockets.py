"""Handlers that tell Sentry who they are, and their routes."""

from __future__ import annotations

import sentry_sdk

from django_ws_dispatch.routing import path
from django_ws_dispatch.websockets import WebSocket


async def room(websocket: WebSocket, name: str) -> None:
    sentry_sdk.set_user({"id": name})
    await websocket.send("in")
    async for message in websocket:
        if message == "fail":
            said = f"{message}, said {name}"  # noqa: F841
            raise LookupError(f"in the room of {name}")
        if message == "route":
            route = websocket.request.resolver_match.route
            sentry_sdk.get_current_scope().set_transaction_name(route, source="route")
        with sentry_sdk.start_transaction(op="websocket.message", name="a message"):
            await websocket.send(message)


async def fails_at_once(websocket: WebSocket) -> None:
    raise LookupError("before the accept")


urlpatterns = [path("rooms/<slug:name>/", room), path("fails/", fails_at_once)]
