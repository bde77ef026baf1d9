"""The handlers of the server tests, each in both forms where the form could matter."""

from __future__ import annotations

import asyncio

from django_ws_dispatch.decorators import (
    connection_limit,
    idle_timeout,
    login_required,
    max_message_size,
    rate_limit,
    subprotocols,
)
from django_ws_dispatch.exceptions import WebSocketDisconnect
from django_ws_dispatch.groups import Group
from django_ws_dispatch.routing import path
from django_ws_dispatch.typing import Event, Receive, Scope, Send
from django_ws_dispatch.websockets import WebSocket, WebSocketState
from tests.live.handlers import end, ends, note, raw_ends
from tests.live.handlers import urlpatterns as live

MIB = 1024 * 1024
FAREWELL = "so long, é" * 20


def told(name: str, code: object, reason: object) -> None:
    """Note what a handler was told of the end."""
    note(f"{name} {code} {reason or '-'}")


async def close_early(websocket: WebSocket) -> None:
    await websocket.close()


async def raw_close_early(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close"})


async def raw_deny(scope: Scope, receive: Receive, send: Send) -> None:
    """A denial as an ASGI application writes it."""
    await receive()
    headers = [(b"x-kind", b"tea"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    await send({"type": "websocket.http.response.start", "status": 418, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"a tea", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"pot"})


async def closes(websocket: WebSocket, code: int) -> None:
    await websocket.accept()
    await websocket.close(code, FAREWELL)


async def raw_closes(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    code = scope["url_route"]["kwargs"]["code"]
    await send({"type": "websocket.close", "code": code, "reason": FAREWELL})


async def late(websocket: WebSocket, how: str) -> None:
    """Ends in the middle of a conversation."""
    await websocket.receive()
    end(how)


async def reads(websocket: WebSocket) -> None:
    await websocket.accept()
    code, reason = None, None
    try:
        while True:
            await websocket.receive()
    except WebSocketDisconnect as exc:
        code, reason = exc.code, exc.reason
    finally:
        told("reads", code, reason)


async def raw_reads(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    event: Event = {}
    try:
        while event.get("type") != "websocket.disconnect":
            event = await receive()
    finally:
        told("reads", event.get("code"), event.get("reason"))


async def busy(websocket: WebSocket) -> None:
    """Reads once, is busy until the client has left, and then reads what it had said before."""
    await websocket.receive()
    await websocket.send("busy")
    while websocket.ready_state is not WebSocketState.CLOSED:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    rest = [message async for message in websocket]
    told(f"busy {','.join(map(str, rest))}", websocket.close_code, websocket.close_reason)


async def never(websocket: WebSocket) -> None:
    """Never reads."""
    await websocket.accept()
    try:
        await asyncio.sleep(3600)
    finally:
        told("never", websocket.close_code, websocket.close_reason)


async def raw_never(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    try:
        await asyncio.sleep(3600)
    finally:
        note("never")


async def talks(websocket: WebSocket) -> None:
    """Sends, and never reads."""
    await websocket.accept()
    try:
        while True:
            await websocket.send("x")
            await asyncio.sleep(0.02)
    finally:
        told("talks", websocket.close_code, websocket.close_reason)


async def raw_talks(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    try:
        while True:
            await send({"type": "websocket.send", "text": "x"})
            await asyncio.sleep(0.02)
    finally:
        note("talks")


async def floods(websocket: WebSocket) -> None:
    """Sends more than a bounded buffer holds; may be removed from elsewhere."""
    async with websocket.join("targets"):
        # By then a send waits, or none ever will.
        asyncio.get_running_loop().call_later(1, note, "floods")
        for _ in range(64):
            await websocket.send("x" * MIB)
        await websocket.wait_closed()


async def target(websocket: WebSocket) -> None:
    """May be removed from elsewhere."""
    async with websocket.join("targets"):
        await websocket.send("joined")
        try:
            await websocket.receive()
        except WebSocketDisconnect as exc:
            told("target", exc.code, exc.reason)


async def remover(websocket: WebSocket) -> None:
    await Group("targets").aclose(4403, "removed")


async def speaks(websocket: WebSocket) -> None:
    """What one says all hear."""
    async with websocket.join("hall"):
        await websocket.send("joined")
        async for message in websocket:
            await Group("hall").asend(message)


@login_required
async def visitor(websocket: WebSocket) -> None:
    await websocket.send(websocket.user.get_username())


async def size(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(str(len(message)))


async def raw_size(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        message = event["text"] if event.get("text") is not None else event["bytes"]
        await send({"type": "websocket.send", "text": str(len(message))})


async def says(websocket: WebSocket) -> None:
    """Sends as many bytes as it is told to; what the server raises is the next message."""
    async for number in websocket:
        try:
            await websocket.send("x" * int(number))
        except RuntimeError as exc:
            await websocket.send(type(exc).__name__)


async def raw_says(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        try:
            await send({"type": "websocket.send", "text": "x" * int(event["text"])})
        except RuntimeError as exc:
            await send({"type": "websocket.send", "text": type(exc).__name__})


async def says_to_all(websocket: WebSocket) -> None:
    async with websocket.join("crowd"):
        async for number in websocket:
            await Group("crowd").asend("x" * int(number))


async def kinds(websocket: WebSocket, kind: str) -> None:
    """Reads one message of a kind."""
    await getattr(websocket, f"receive_{kind}")()
    await websocket.send("fine")


@max_message_size(1000)
async def small(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(str(len(message)))


@rate_limit("5/h")
async def slow(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(message)


@idle_timeout(0.5)
async def idle(websocket: WebSocket) -> None:
    await websocket.wait_closed()


@connection_limit(1, per="handler")
async def alone(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send("alone")
    await websocket.wait_closed()


@subprotocols("v1", "v2")
async def chosen(websocket: WebSocket) -> None:
    await websocket.accept(headers={"X-Kind": "tea"})
    await websocket.send(str(websocket.subprotocol))


async def foreign(websocket: WebSocket) -> None:
    """Chooses what was not offered."""
    await websocket.accept(subprotocol="v9")


async def scope(websocket: WebSocket) -> None:
    """What the server has put in the scope."""
    ports = {type(websocket.scope[end][1]).__name__ for end in ("client", "server")}
    await websocket.send_json(
        {
            "lifespan": "state" in websocket.scope and bool(websocket.scope["state"]),
            "extensions": sorted(websocket.scope.get("extensions") or ()),
            "scheme": websocket.scope.get("scheme"),
            "ports": sorted(ports),
            "address": websocket.request.META["REMOTE_ADDR"],
            "url": websocket.request.build_absolute_uri(),
        }
    )


urlpatterns = [
    path("ends/<how>/", ends),
    path("raw-ends/<how>/", raw_ends),
    path("close-early/", close_early),
    path("raw-close-early/", raw_close_early),
    path("raw-deny/", raw_deny),
    path("closes/<int:code>/", closes),
    path("raw-closes/<int:code>/", raw_closes),
    path("late/<how>/", late),
    path("reads/", reads),
    path("raw-reads/", raw_reads),
    path("busy/", busy),
    path("says/", says),
    path("raw-says/", raw_says),
    path("says-to-all/", says_to_all),
    path("never/", never),
    path("raw-never/", raw_never),
    path("talks/", talks),
    path("raw-talks/", raw_talks),
    path("floods/", floods),
    path("speaks/", speaks),
    path("visitor/", visitor),
    path("size/", size),
    path("raw-size/", raw_size),
    path("target/", target),
    path("remover/", remover),
    path("kinds/<kind>/", kinds),
    path("small/", small),
    path("slow/", slow),
    path("idle/", idle),
    path("alone/", alone),
    path("chosen/", chosen),
    path("foreign/", foreign),
    path("scope/", scope),
    *live,
]
