"""The handlers of the live tests, and their routes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpResponse

from django_ws_dispatch.decorators import max_message_size, subprotocols
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.exceptions import BrokerError, Deny, WebSocketDisconnect
from django_ws_dispatch.groups import Group
from django_ws_dispatch.routing import path, re_path
from django_ws_dispatch.typing import Receive, Scope, Send
from django_ws_dispatch.websockets import WebSocket
from tests.handlers import ping, raw_ping

# Bytes. The system's buffers hold some megabytes.
MUCH = 30_000_000


def note(line: object) -> None:
    """Tell the test, whatever happens to this process next."""
    descriptor = os.open(os.environ["LIVE_NOTES"], os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


@subprotocols("v1", "v2")
async def echo(websocket: WebSocket) -> None:
    try:
        async for message in websocket:
            await websocket.send(message)
    finally:
        note(f"echo {websocket.close_code}")


async def raw_echo(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        key = "text" if event.get("text") is not None else "bytes"
        await send({"type": "websocket.send", key: event[key]})
    note(f"raw_echo {event['code']}")


@max_message_size(1000)
async def small(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(str(len(message)))


async def sleeper(websocket: WebSocket) -> None:
    await websocket.accept()
    note("sleeps")
    try:
        await asyncio.sleep(3600)
    finally:
        note("woken")


async def raw_sleeper(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    note("sleeps")
    try:
        await asyncio.sleep(3600)
    finally:
        note("woken")


async def stubborn(websocket: WebSocket) -> None:
    """Swallows the first cancellation."""
    await websocket.accept()
    note("sleeps")
    try:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            note("swallowed")
            await asyncio.sleep(3600)
    finally:
        note("woken")


async def deaf(websocket: WebSocket) -> None:
    """Swallows every cancellation."""
    await websocket.accept()
    note("sleeps")
    while True:
        with suppress(BaseException):
            await asyncio.sleep(3600)


async def denies_at_length(websocket: WebSocket) -> None:
    """Denies with more than lies between a server and its client."""
    raise Deny(HttpResponse(b"x" * MUCH, status=403))


async def undecided(websocket: WebSocket) -> None:
    """Neither accepts nor denies."""
    note("sleeps")
    try:
        await asyncio.sleep(3600)
    finally:
        note("woken")


async def ticks() -> AsyncIterator[str]:
    try:
        number = 0
        while True:
            yield str(number)
            number += 1
            await asyncio.sleep(0.02)
    finally:
        note("generator closed")


async def feed(websocket: WebSocket) -> None:
    await websocket.send_each(ticks())
    note(f"feed {websocket.close_code}")


async def pusher(websocket: WebSocket) -> None:
    """Pushes, and never reads."""
    try:
        number = 0
        while True:
            await websocket.send(str(number))
            number += 1
            await asyncio.sleep(0.02)
    finally:
        note("pusher ended")


async def raw_pusher(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    try:
        while True:
            await send({"type": "websocket.send", "text": "x"})
            await asyncio.sleep(0.02)
    finally:
        note("pusher ended")


async def gusher(websocket: WebSocket) -> None:
    """Sends as fast as the client takes it."""
    await websocket.accept()
    try:
        while True:
            await websocket.send("x" * 65536)
    finally:
        note("gusher ended")


async def waits(websocket: WebSocket) -> None:
    await websocket.wait_closed()
    note(f"waits {websocket.close_code}")


async def member(websocket: WebSocket) -> None:
    """A member of the lobby. What it says, all hear; ``flood N`` is N messages of 64 KiB."""
    try:
        async with websocket.join("lobby"):
            await websocket.send("joined")
            async for message in websocket:
                words = str(message).split()
                if words[0] == "flood":
                    for number in range(int(words[1])):
                        await Group("lobby").asend(f"{number} ".ljust(65536, "x"))
                        await asyncio.sleep(0)
                else:
                    await Group("lobby").asend(message)
    finally:
        note(f"member {websocket.close_code}")


async def joins(websocket: WebSocket, group: str) -> None:
    """Says nothing: that the socket is open says that it is a member."""
    async with websocket.join(group, f"all of {group}"):
        async for _ in websocket:
            pass


async def ends(websocket: WebSocket, how: str) -> None:
    if how.startswith("open-"):
        await websocket.accept()
    end(how.partition("-")[2])


async def raw_ends(scope: Scope, receive: Receive, send: Send) -> None:
    how = scope["url_route"]["kwargs"]["how"]
    await receive()
    if how.startswith("open-"):
        await send({"type": "websocket.accept"})
    end(how.partition("-")[2])


def end(how: str) -> None:
    if how == "deny":
        response = HttpResponse("a teapot", status=418, headers={"X-Kind": "tea"})
        response.set_cookie("sugar", "two")
        response.set_cookie("milk", "none", httponly=True)
        raise Deny(response)
    errors: dict[str, Exception] = {
        "404": Http404(),
        "403": PermissionDenied(),
        "400": SuspiciousOperation(),
        "429": Deny(429),
        "failure": ValueError("meant to fail"),
        "oserror": ConnectionResetError("meant to fail"),
        "broker": BrokerError("meant to fail"),
        "group": ExceptionGroup("of tasks", [ExceptionGroup("of their own", [Http404()])]),
    }
    if how in errors:
        raise errors[how]


async def closes(websocket: WebSocket) -> None:
    await websocket.accept(headers={"X-Kind": "tea"})
    await websocket.close(4000, "é" * 100)
    try:
        await websocket.send("late")
    except WebSocketDisconnect:
        note("late")


async def state(websocket: WebSocket) -> None:
    await websocket.send_json([websocket.state, websocket.request.scope.get("state")])


async def count(websocket: WebSocket) -> None:
    await websocket.send(str(connections.count() - 1))


async def came(websocket: WebSocket) -> None:
    request = websocket.request
    await websocket.send_json([request.scheme, request.get_host(), request.META["REMOTE_ADDR"]])


@asynccontextmanager
async def lifespan() -> AsyncIterator[dict[str, Any]]:
    note("started")
    yield {"pool": 42}
    note("stopped")


@asynccontextmanager
async def broken_lifespan() -> AsyncIterator[dict[str, Any]]:
    raise LookupError("no database today")
    yield {}


async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": f"{scope['root_path']} {scope['path']}"})


urlpatterns = [
    path("ws/ping/", ping),
    path("ws/raw-ping/", raw_ping),
    path("ws/echo/", echo),
    path("ws/raw-echo/", raw_echo),
    path("ws/small/", small),
    path("ws/sleeper/", sleeper),
    path("ws/raw-sleeper/", raw_sleeper),
    path("ws/stubborn/", stubborn),
    path("ws/undecided/", undecided),
    path("ws/deaf/", deaf),
    path("ws/denies-at-length/", denies_at_length),
    path("ws/feed/", feed),
    path("ws/pusher/", pusher),
    path("ws/raw-pusher/", raw_pusher),
    path("ws/gusher/", gusher),
    path("ws/waits/", waits),
    path("ws/member/", member),
    path("ws/joins/<str:group>/", joins),
    path("ws/ends/<str:how>/", ends),
    path("ws/raw-ends/<str:how>/", raw_ends),
    path("ws/closes/", closes),
    path("ws/state/", state),
    path("ws/count/", count),
    path("ws/came/", came),
    re_path("ws/mount/", mounted),
]
