"""What the site says over WebSockets: one coroutine per connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, cast

from django.contrib.auth.models import User
from django.shortcuts import aget_object_or_404
from django.utils import timezone

from django_ws_dispatch.decorators import login_required, rate_limit
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Membership, user_group
from django_ws_dispatch.typing import Receive, Scope, Send
from django_ws_dispatch.websockets import WebSocket

from .models import EVERYBODY, Message, Presence, Room


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
    since = websocket.request.GET.get("since")
    async with websocket.join(place.group, since=since) as membership:
        where = membership.positions[place.group.name]
        user = cast(User, websocket.user)  # login_required: nobody anonymous gets here.
        presence = await Presence.objects.acreate(room=place, user=user, socket=websocket.id)
        try:
            async with beside(tell(websocket, membership, where)):
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
            try:
                await place.group.asend_json(message.as_event())
            except BrokerError:
                # Nobody would hear of it before the next reload: the author has it back instead.
                await message.adelete()
                await websocket.send_json({"type": "unsaid", "text": text})


async def people(place: Room) -> dict[str, object]:
    return {"type": "people", "names": await Presence.names(place)}


async def announce(place: Room) -> None:
    await place.group.asend_json(await people(place))


@login_required
async def notices(websocket: WebSocket) -> None:
    """Only listens: what the page says does not matter."""
    groups = EVERYBODY, user_group(websocket.user)
    since = websocket.request.GET.dict()  # the names of both groups, and a position of each
    async with (
        websocket.join(*groups, since=since) as membership,
        beside(tell(websocket, membership, membership.positions)),
    ):
        await websocket.wait_closed()


async def tell(websocket: WebSocket, membership: Membership, since: object) -> None:
    """Tell the page what to bring next time, and when it has missed what is not to be had here."""
    recovered = membership.recovered
    await websocket.send_json({"type": "joined", "since": since, "recovered": recovered})
    while True:
        await membership.gap()
        await websocket.send_json({"type": "gap"})


@asynccontextmanager
async def beside(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run these while the block does, and end them with it."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in coroutines]
        yield
        for task in tasks:
            task.cancel()
