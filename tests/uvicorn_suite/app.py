"""A bare ASGI application for the smoke test: an echo that tells how it ended."""

import os
from typing import Any


def note(line: str) -> None:
    """Tell the test."""
    with open(os.environ["LIVE_NOTES"], "a", encoding="utf-8") as notes:
        notes.write(f"{line}\n")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Echo; close with 4001 where the client asks for it."""
    if scope["type"] != "websocket":
        return
    await receive()
    name = type(scope["extensions"]["django_ws_dispatch"]).__module__
    await send({"type": "websocket.accept", "headers": [(b"x-class", name.encode())]})
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text") == "close":
            await send({"type": "websocket.close", "code": 4001, "reason": "asked to"})
            continue
        del event["type"]
        await send({"type": "websocket.send", **event})
    note(f"{event['code']} {event.get('reason')}")
