"""What the site says over WebSockets: one coroutine per connection."""

from __future__ import annotations

from typing import TypeVar, cast

from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from django.shortcuts import aget_object_or_404
from django.utils import timezone

from django_ws_dispatch.decorators import login_required, rate_limit
from django_ws_dispatch.groups import user_group
from django_ws_dispatch.typing import Receive, Scope, Send
from django_ws_dispatch.websockets import WebSocket

from .models import EVERYBODY, Message, Notice, Presence, Room

HISTORY = 50
Row = TypeVar("Row", bound=Model)


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
    async with websocket.join(place.group):
        # Joined first, read second: nothing falls between, and the page drops what it has already.
        for message in await newest(place.messages.select_related("author"), websocket):
            await websocket.send_json(message.as_event())
        user = cast(User, websocket.user)  # login_required: nobody anonymous gets here.
        presence = await Presence.objects.acreate(room=place, user=user, socket=websocket.id)
        try:
            await announce(place)
            async for item in websocket.iter_json():
                await answer(websocket, place, item)
        finally:
            await presence.adelete()
            await announce(place)


async def answer(websocket: WebSocket, place: Room, item: object) -> None:
    match item:
        case {"type": "here"}:
            mine = Presence.objects.filter(socket=websocket.id)
            await mine.aupdate(seen_at=timezone.now())
            await websocket.send_json(await people(place))
        case {"type": "message", "text": str(text)} if text.strip():
            message = await Message.objects.acreate(
                room=place,
                author=cast(User, websocket.user),
                text=text.strip()[: Message.MAX_LENGTH],
            )
            await place.group.asend_json(message.as_event())


async def people(place: Room) -> dict[str, object]:
    return {"type": "people", "names": await Presence.names(place)}


async def announce(place: Room) -> None:
    await place.group.asend_json(await people(place))


@login_required
async def notices(websocket: WebSocket) -> None:
    """Only listens: what the page says does not matter."""
    async with websocket.join(EVERYBODY, user_group(websocket.user)):
        for notice in await newest(Notice.visible_to(websocket.user), websocket):
            await websocket.send_json(notice.as_event())
        await websocket.wait_closed()


async def newest(rows: QuerySet[Row], websocket: WebSocket) -> list[Row]:
    """Return the last of ``rows``, oldest first: those after the id that the page has already."""
    after = websocket.request.GET.get("after", "")
    if after.isascii() and after.isdecimal() and len(after) < 19:
        rows = rows.filter(pk__gt=int(after))
    return [row async for row in rows.order_by("-pk")[:HISTORY]][::-1]
