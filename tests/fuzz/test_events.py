"""Whatever a server sends and a handler does: nothing fails, and the end is deliberate."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.exceptions import Deny, WebSocketDisconnect
from django_ws_dispatch.groups import Group
from tests.kit.fake_server import no_pages

from .machine import DENIAL, Conversation, judge

payloads = st.one_of(
    st.text(max_size=20), st.binary(max_size=20), st.sampled_from(["{}", "[1", "x" * 200, b"\xff"])
)
messages = payloads.map(
    lambda payload: {
        "type": "websocket.receive",
        "text" if isinstance(payload, str) else "bytes": payload,
    }
)
oddities = st.sampled_from(
    [
        {"type": "websocket.receive"},
        {"type": "websocket.receive", "text": None, "bytes": None},
        {"type": "websocket.receive", "text": None, "bytes": b"x"},
        {"type": "websocket.receive", "text": "x", "bytes": None},
        {"type": "websocket.receive", "text": "", "bytes": b""},
        {"type": "websocket.connect"},
        {"type": "websocket.strange"},
        {"type": "websocket.disconnect"},
        {"type": "websocket.disconnect", "code": None, "reason": None},
        {"type": "websocket.disconnect", "code": 4001, "reason": "é" * 100},
    ]
)
events = st.lists(st.one_of(messages, messages, messages, oddities), max_size=20)
STEPS = [
    "accept",
    "receive",
    "receive",
    "receive_text",
    "receive_bytes",
    "receive_json",
    "send",
    "send_bytes",
    "send_json",
    "turn",
    "join",
    "publish",
    "kick",
    "close",
    "remove",
    "deny",
    "404",
    "403",
    "raise",
    "iterate",
    "send_each",
    "wait_closed",
]
scripts = st.lists(st.sampled_from(STEPS), max_size=12)


async def parts():
    yield "a"
    yield b"b"


class Meant(Exception):
    """What a handler raises on purpose."""


async def act(socket: Any, step: str) -> None:
    """One thing that a handler does."""
    if step in ("receive", "receive_text", "receive_bytes", "receive_json", "accept"):
        await getattr(socket, step)()
    elif step == "send":
        await socket.send("text")
    elif step == "send_bytes":
        await socket.send(b"bytes")
    elif step == "send_json":
        await socket.send_json({"a": [1, None]})
    elif step == "turn":
        await asyncio.sleep(0)
    elif step == "join":
        async with socket.join("fuzz", Group("other")):
            await Group("fuzz").asend("in")
    elif step == "publish":
        await Group("fuzz").asend_json([1])
    elif step == "kick":
        socket.kick(4403, "removed")
    elif step == "remove":
        await Group("fuzz").aclose(4403, "é" * 100)
    elif step == "close":
        await socket.close(4000, "é" * 100)
    elif step == "iterate":
        async for _ in socket:
            pass
    elif step == "send_each":
        await socket.send_each(parts())
    elif step == "wait_closed":
        await socket.wait_closed()
    else:
        raise {"deny": Deny(418), "404": Http404(), "403": PermissionDenied()}.get(step, Meant())


SCRIPT: list[str] = []


async def scripted(websocket):
    """Does what the script says; what does not fit the state is its own fault."""
    for step in SCRIPT:
        try:
            await act(websocket, step)
        except (RuntimeError, WebSocketDisconnect):
            if step == "turn":
                raise


async def careless(websocket):
    """The same, and lets everything pass."""
    for step in SCRIPT:
        await act(websocket, step)


async def raw_scripted(scope, receive, send):
    """The same with events, right or wrong."""
    for step in SCRIPT:
        try:
            if step.startswith("receive"):
                await receive()
            elif step.startswith("send"):
                await send({"type": "websocket.send", "text": "x"})
            elif step in ("accept", "join"):
                await send({"type": "websocket.accept"})
            elif step in ("close", "kick"):
                await send({"type": "websocket.close", "code": 4000})
            elif step == "remove":
                await send({"type": "websocket.http.response.start", "status": 418, "headers": []})
                await send({"type": "websocket.http.response.body", "body": b"x"})
            elif step in ("deny", "404", "403", "raise"):
                await act(None, step)
        except (OSError, RuntimeError, WebSocketDisconnect):
            pass


@pytest.fixture(scope="module")
def serve() -> Iterator[Any]:
    handlers = {"scripted/": scripted, "careless/": careless, "raw/": raw_scripted}
    with override_settings(WEBSOCKET_HANDLERS=handlers), asyncio.Runner() as runner:
        application = WebSocketDispatcher(no_pages)

        async def run(conversation: Conversation) -> None:
            await conversation.run(application)
            assert not connections.local().sockets
            for _ in range(3):
                await asyncio.sleep(0)  # what was cancelled ends
            assert asyncio.all_tasks() == {asyncio.current_task()}

        yield lambda conversation: runner.run(run(conversation))


LIMITS = st.sampled_from(
    [
        {},
        {"WEBSOCKET_MAX_MESSAGE_SIZE": 10},
        {"WEBSOCKET_RATE_LIMIT": "3/h"},
        {"WEBSOCKET_OUTBOX_SIZE": 1, "WEBSOCKET_IDLE_TIMEOUT": 60},
    ]
)


@pytest.mark.parametrize("handler", ["scripted", "careless", "raw"])
@given(
    events=events,
    script=scripts,
    extensions=st.sampled_from([DENIAL, None]),
    breaks_at=st.sampled_from([-1, -1, -1, 0, 1, 3]),
)
def test_every_conversation_ends_on_purpose(serve, handler, events, script, extensions, breaks_at):
    SCRIPT[:] = script
    scope = {
        "type": "websocket",
        "path": f"/{handler}/",
        "headers": [(b"host", b"testserver")],
        "extensions": extensions,
    }
    conversation = Conversation(scope, events, breaks_at)
    serve(conversation)
    judge(conversation)
    meant = ("Meant", "RuntimeError")
    assert all(any(one in error for one in meant) for error in conversation.errors), (
        conversation.errors
    )


@given(events=events, limits=LIMITS)
def test_limits_end_a_conversation_on_purpose(events, limits):
    SCRIPT[:] = ["iterate"]
    scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"testserver")]}
    with override_settings(WEBSOCKET_HANDLERS={"": scripted}, **limits), asyncio.Runner() as runner:
        conversation = Conversation(scope, events)
        runner.run(conversation.run(WebSocketDispatcher(no_pages)))
    judge(conversation)
    assert not conversation.errors
