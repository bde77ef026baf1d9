"""The handlers that are measured: each an echo, with more and more in front of it."""

import time
from urllib.parse import parse_qsl

from asgiref.sync import sync_to_async

from django_ws_dispatch.decorators import (
    connection_limit,
    idle_timeout,
    max_message_size,
    rate_limit,
    with_user,
)
from django_ws_dispatch.groups import Group
from django_ws_dispatch.typing import Receive, Scope, Send
from django_ws_dispatch.websockets import WebSocket


async def raw_echo(scope: Scope, receive: Receive, send: Send) -> None:
    """The echo of a bare ASGI application: the baseline, and a raw handler when mounted."""
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            return
        await send({"type": "websocket.send", "text": event["text"]})


async def echo(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(message)


async def request_echo(websocket: WebSocket) -> None:
    websocket.request.GET.get("nothing")
    async for message in websocket:
        await websocket.send(message)


async def session_echo(websocket: WebSocket) -> None:
    await websocket.session.aget("nothing")  # type: ignore[attr-defined]
    async for message in websocket:
        await websocket.send(message)


@with_user
async def user_echo(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(message)


@with_user
@rate_limit("100000000/s")
@idle_timeout(600)
@max_message_size(65_536)
@connection_limit(100_000, per="user")
async def full_echo(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(message)


async def member(websocket: WebSocket) -> None:
    async with websocket.join("members"):
        await websocket.send("joined")
        await websocket.wait_closed()


async def publish(websocket: WebSocket) -> None:
    group = Group("members")
    async for message in websocket:
        await group.asend(message)


async def block(websocket: WebSocket) -> None:
    async for message in websocket:
        await sync_to_async(time.sleep)(1)
        await websocket.send(message)


async def come_back(websocket: WebSocket) -> None:
    """Join groups as a page does that was here before: the query string has its positions."""
    since = dict(parse_qsl(websocket.scope["query_string"].decode(), keep_blank_values=True))
    async with websocket.join(*since, since=since):
        await websocket.send("joined")
        await websocket.wait_closed()


async def come_in(websocket: WebSocket) -> None:
    """Be somebody in a group that knows who is here: the query string has the group and the key."""
    ((name, key),) = parse_qsl(websocket.scope["query_string"].decode())
    async with websocket.join(name, key=key, info={"name": key}):
        await websocket.send("joined")
        await websocket.wait_closed()
