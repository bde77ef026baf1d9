"""What the site says over WebSockets: one coroutine per connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from django.contrib.auth.models import User
from django.shortcuts import aget_object_or_404

from django_ws_dispatch.decorators import login_required, rate_limit
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group, Membership, user_group
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
    group, since = place.group, websocket.request.GET.get("since")
    info = {"name": websocket.user.get_username()}
    async with (
        websocket.join(group, since=since, info=info) as membership,
        beside(
            tell(websocket, membership, membership.positions[group.name]),
            tell_people(websocket, group),
        ),
    ):
        async for item in websocket.iter_json():
            await answer(websocket, place, item)


async def answer(websocket: WebSocket, place: Room, item: object) -> None:
    match item:
        case {"type": "message", "text": str(text)} if text.strip():
            message = await Message.objects.acreate(
                room=place,
                author=cast(User, websocket.user),  # login_required: nobody anonymous gets here.
                text=text.strip()[: Message.MAX_LENGTH],
            )
            try:
                await place.group.asend_json(message.as_event())
            except BrokerError:
                # Nobody would hear of it before the next reload: the author has it back instead.
                await message.adelete()
                await websocket.send_json({"type": "unsaid", "text": text})


async def tell_people(websocket: WebSocket, group: Group) -> None:
    """Tell the page who is here, whenever that changes."""
    while True:
        async with group.watch() as changes:
            # An error is a broker that has forgotten: watched again, it says who is here.
            with suppress(BrokerError):
                async for change in changes:
                    # Of a great many only the number is known.
                    names = [each.info["name"] for each in change.present or []]
                    more = change.count - len(names)
                    await websocket.send_json({"type": "people", "names": names, "more": more})


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
