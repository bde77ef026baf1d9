"""The client goes: when a handler is told, and what."""

from __future__ import annotations

import asyncio

import pytest

from .expectations import WITHIN
from .wire import frame, opened

pytestmark = [pytest.mark.live, pytest.mark.servers, pytest.mark.asyncio]

HANDLERS = ["reads", "raw-reads", "busy", "never", "raw-never", "talks", "raw-talks"]
# A raw handler that does not read is told nothing: its ``finally`` runs.
UNTOLD = {"raw-never": "never", "raw-talks": "talks"}
CLOSE = 8
# Seconds that a busy machine may need on top; without the sweep it would be 10.
SLACK = 3


async def leave(wire, how: str) -> None:
    if how == "code":
        wire.writer.write(frame(CLOSE, (4001).to_bytes(2) + b"bye"))
    elif how == "nothing":
        wire.writer.write(frame(CLOSE))
    else:
        wire.writer.transport.abort()
        return
    while (await wire.frame())[0] != CLOSE:
        pass


@pytest.mark.parametrize("how", ["code", "nothing", "abort"])
@pytest.mark.parametrize("handler", HANDLERS)
async def test_a_handler_is_told_that_the_client_has_gone(server, expected, handler, how):
    seen = len(server.notes)
    async with opened(server.port, f"/{handler}/") as wire:
        assert await wire.handshake() == 101
        name = handler.removeprefix("raw-")
        if handler == "busy":
            wire.writer.write(frame(1, b"go"))
            assert await wire.text() == "busy"
            wire.writer.write(frame(1, b"a") + frame(1, b"b"))
            name = "busy a,b"
        await leave(wire, how)
        told = 4001 if expected.code_told else expected.lost
        code = {"code": told, "nothing": expected.no_code, "abort": expected.lost}[how]
        reason = "bye" if how == "code" and expected.reason_told else "-"
        note = UNTOLD.get(handler, f"{name} {code} {reason}")
        async with asyncio.timeout(WITHIN + SLACK):
            while len(server.notes) == seen:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert server.notes[seen:] == [note]
