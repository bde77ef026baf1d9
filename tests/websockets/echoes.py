"""Handlers of both forms that send back what they get, and what was logged of them."""

from __future__ import annotations

import pytest


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def raw_echo(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        key = "text" if event.get("text") is not None else "bytes"
        await send({"type": "websocket.send", key: event[key]})


both_forms = pytest.mark.parametrize("handler", [echo, raw_echo], ids=["websocket", "raw"])


def lines(caplog):
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name.startswith("django_ws_dispatch")
    ]
