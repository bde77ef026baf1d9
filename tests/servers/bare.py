"""An application without this package: ``/NAME/`` is one of the functions below."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from django_ws_dispatch.typing import Receive, Scope, Send
from tests.live.handlers import note

ROOT_PATH = "/site"
# Seconds that something may take that does not happen.
PATIENCE = 3.0
CHUNK = 65536
# Bytes that no server's and no kernel's bounded buffer holds.
FLOOD = 64 * 1024 * 1024


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        name = scope["path"].removeprefix(ROOT_PATH).strip("/")
        await globals()[name.replace("-", "_")](scope, receive, send)
        return
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def accept(receive: Receive, send: Send, **event: Any) -> None:
    await receive()
    await send({"type": "websocket.accept", **event})


async def deny(receive: Receive, send: Send, *bodies: bytes, cookies: Sequence[bytes] = ()) -> None:
    await receive()
    headers = [(b"set-cookie", cookie) for cookie in cookies]
    await send({"type": "websocket.http.response.start", "status": 418, "headers": headers})
    for number, body in enumerate(bodies, 1):
        more = number < len(bodies)
        await send({"type": "websocket.http.response.body", "body": body, "more_body": more})
    # uvicorn denies by itself where the application returns at once.
    await asyncio.sleep(0.1)


async def closes_early(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close"})
    await asyncio.sleep(PATIENCE)
    note("closes-early returns")


async def extensions(scope: Scope, receive: Receive, send: Send) -> None:
    note(f"extensions {'extensions' in scope}")
    await deny(receive, send, b"a teapot")


async def two_bodies(scope: Scope, receive: Receive, send: Send) -> None:
    await deny(receive, send, b"a tea", b"pot")


async def two_headers(scope: Scope, receive: Receive, send: Send) -> None:
    await deny(receive, send, b"a teapot", cookies=[b"a=1", b"b=2"])


async def raises_early(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise ValueError("meant to fail")


async def returns_early(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def raises_late(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    raise ValueError("meant to fail")


async def returns_late(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)


async def short_reason(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await send({"type": "websocket.close", "code": 4000, "reason": "bye"})


async def long_reason(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    try:
        await send({"type": "websocket.close", "code": 4000, "reason": "x" * 124})
    except Exception:
        note("long-reason raises")


async def left_with_close(scope: Scope, receive: Receive, send: Send) -> None:
    await left("left-with-close", receive, send)


async def left_without(scope: Scope, receive: Receive, send: Send) -> None:
    await left("left-without", receive, send)


async def left(name: str, receive: Receive, send: Send) -> None:
    """What can be done once the disconnect is known."""
    await accept(receive, send)
    await receive()
    try:
        await send({"type": "websocket.send", "text": "too late"})
        sent = "silent"
    except OSError:
        sent = "raises an `OSError`"
    try:
        again = (await asyncio.wait_for(receive(), 1))["type"]
    except TimeoutError:
        again = "blocks"
    note(f"{name} {again}, {sent}")


async def subprotocol(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await accept(receive, send, subprotocol="v9")
    except Exception:
        note("subprotocol raises")
        raise
    await receive()


async def path(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await send({"type": "websocket.send", "text": scope["path"]})


async def size(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": str(len(event["bytes"]))})


async def sleeps(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await asyncio.sleep(3600)


async def floods(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    for _ in range(FLOOD // CHUNK):
        event = {"type": "websocket.send", "bytes": bytes(CHUNK)}
        try:
            await asyncio.wait_for(send(event), PATIENCE)
        except TimeoutError:
            note("floods blocks")
            return
    note("floods never blocks")
