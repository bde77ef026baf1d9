"""What the site says over WebSockets: one coroutine per connection."""

from __future__ import annotations

from typing import cast

from django.contrib.auth.models import User
from django.shortcuts import aget_object_or_404

from django_ws_dispatch.decorators import login_required, rate_limit
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import user_group
from django_ws_dispatch.typing import Receive, Scope, Send
from django_ws_dispatch.websockets import WebSocket

from .models import EVERYBODY, Message, Room


async def ping(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send("pong!" if message == "ping" else f"You said {message!s}")


async def raw_ping(scope: Scope, receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        if event["type"] == "websocket.disconnect":
            break
        if event["type"] == "websocket.receive" and event.get("text") == "ping":
            await send({"type": "websocket.send", "text": "pong!"})


@login_required
@rate_limit("10/s")
async def room(websocket: WebSocket, slug: str) -> None:
    place = await aget_object_or_404(Room, slug=slug)
    async with websocket.join(place.group, info=websocket.user.get_username()):
        async for item in websocket.iter_json():
            match item:
                case {"text": str(text)} if text.strip():
                    await say(websocket, place, text.strip())


async def say(websocket: WebSocket, place: Room, text: str) -> None:
    message = await Message.objects.acreate(
        room=place,
        author=cast(User, websocket.user),  # login_required: nobody anonymous gets here.
        text=text[: Message.MAX_LENGTH],
    )
    try:
        await place.group.asend_json(message.as_event())
    except BrokerError:
        # Nobody would hear of it before the next reload. Its author has it in the box still.
        await message.adelete()
        await websocket.send_json({"error": "Not sent: the server can reach nobody just now."})


@login_required
async def notices(websocket: WebSocket) -> None:
    """Only listens: what the page says does not matter."""
    async with websocket.join(EVERYBODY, user_group(websocket.user)):
        await websocket.wait_closed()
