"""Starlette, with ``broadcaster`` for its groups."""

import os
from contextlib import asynccontextmanager

import anyio
from broadcaster import Broadcast
from broadcaster._backends.redis import RedisBackend
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

if broker := os.environ.get("BENCHMARK_BROKER"):
    broadcast = Broadcast(backend=RedisBackend(f"unix://{broker}"))
else:
    broadcast = Broadcast("memory://")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)


async def member(websocket: WebSocket) -> None:
    await websocket.accept()
    async with anyio.create_task_group() as tasks:

        async def leave() -> None:
            async for _ in websocket.iter_text():
                pass
            tasks.cancel_scope.cancel()

        tasks.start_soon(leave)
        async with broadcast.subscribe("members") as subscriber:
            await websocket.send_text("joined")
            async for event in subscriber:
                await websocket.send_text(event.message)


async def publish(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await broadcast.publish("members", await websocket.receive_text())
    except WebSocketDisconnect:
        pass


@asynccontextmanager
async def lifespan(app: Starlette):
    async with broadcast:
        yield


application = Starlette(
    routes=[
        WebSocketRoute("/ws/echo/", echo),
        WebSocketRoute("/ws/member/", member),
        WebSocketRoute("/ws/publish/", publish),
    ],
    lifespan=lifespan,
)
