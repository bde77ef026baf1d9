"""Applications of other frameworks, and their routes. None knows of this package."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import socketio
import strawberry
from fastapi import FastAPI
from fastapi import WebSocket as FastAPIWebSocket
from starlette.applications import Starlette
from starlette.exceptions import WebSocketException
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL

from django_ws_dispatch.decorators import login_required
from django_ws_dispatch.routing import re_path

from .notes import note

# Starlette


async def where(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json(
        {
            "root_path": websocket.scope["root_path"],
            "path": websocket.scope["path"],
            "params": websocket.path_params,
            "url": str(websocket.url_for("where", room="red")),
        }
    )
    await websocket.close(4001, "done")


async def echo(websocket: WebSocket) -> None:
    """Let the disconnect pass, as most do."""
    await websocket.accept(subprotocol="v1" if "v1" in websocket["subprotocols"] else None)
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    finally:
        note("echo ends")


async def pushes(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text("x" * 1000)
            await asyncio.sleep(0)
    finally:
        note("pushes ends")


async def never_reads(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("in")
    try:
        await asyncio.sleep(3600)
    finally:
        note("never_reads ends")


async def denies(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("a teapot", 418, {"X-Why": "tea"}))


async def raises(websocket: WebSocket) -> None:
    await websocket.accept()
    raise WebSocketException(4002, "policy")


async def fails(websocket: WebSocket) -> None:
    await websocket.accept()
    raise LookupError("the endpoint")


star = Starlette(
    routes=[
        WebSocketRoute("/where/{room}/", where, name="where"),
        WebSocketRoute("/echo/", echo),
        WebSocketRoute("/pushes/", pushes),
        WebSocketRoute("/never-reads/", never_reads),
        WebSocketRoute("/denies/", denies),
        WebSocketRoute("/raises/", raises),
        WebSocketRoute("/fails/", fails),
    ]
)

# FastAPI

fast = FastAPI()


@fast.websocket("/rooms/{room}/")
async def room(websocket: FastAPIWebSocket, room: int, word: str = "none") -> None:
    await websocket.accept()
    user = websocket.scope["user"].username
    await websocket.send_text(f"{room} {word} {user} {websocket.url.path}")
    try:
        async for text in websocket.iter_text():
            await websocket.send_text(text)
    finally:
        note("room ends")


# Socket.IO

sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")


@sio.event
async def connect(sid: str, environ: dict[str, Any]) -> None:
    await sio.enter_room(sid, "everybody")


@sio.event
async def say(sid: str, text: str) -> str:
    await sio.emit("said", text, room="everybody")
    return f"heard {text}"


@sio.event
async def disconnect(sid: str, reason: str) -> None:
    note("sio ends")


# GraphQL


@strawberry.type
class Query:
    @strawberry.field
    def hello(self) -> str:
        return "world"


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, target: int) -> AsyncIterator[int]:
        try:
            for number in range(target):
                yield number
                await asyncio.sleep(0)
            await asyncio.sleep(3600)
        finally:
            note("count ends")


graphql = GraphQL(strawberry.Schema(Query, subscription=Subscription))

urlpatterns = [
    re_path(r"^star/", star),
    re_path(r"^tenants/(?P<tenant>\w+)/star/", "tests.mounts.frameworks.star"),
    re_path(r"^fast/", login_required(fast)),
    re_path(r"^socket\.io/", socketio.ASGIApp(sio)),
    re_path(r"^graphql/$", graphql),
]
