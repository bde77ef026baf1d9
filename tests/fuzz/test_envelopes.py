"""What a client of ``django-ws-dispatch.v1`` sends is a payload, a ping or 4400, and no failure."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import example, given
from hypothesis import strategies as st

from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.exceptions import WebSocketDisconnect
from django_ws_dispatch.groups import tokens
from django_ws_dispatch.typing import Event
from django_ws_dispatch.websockets import WebSocket
from tests.kit.fake_server import no_pages

from .machine import Conversation, judge
from .test_events import act, scripts

V1 = "django-ws-dispatch.v1"
PING = re.compile(
    r'[ \t\r]*\[[ \t\r]*"ping"[ \t\r]*,[ \t\r]*(-?(?:0|[1-9][0-9]*))[ \t\r]*\][ \t\r]*'
)
MANY = [f"room:{number}" for number in range(3)]

values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(["ping", "pong", "hello", "m", "j", "l", "p", "g"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
pings = st.integers().map(lambda number: f'["ping",{number}]')
heads = st.one_of(
    st.just(""),
    st.just(""),
    pings,
    pings,
    st.builds(lambda number: f' [ "ping" ,\t{number} ] ', st.integers()),
    st.integers(min_value=200, max_value=300).map(lambda size: f'["ping",{"1" * size}]'),
    values.map(json.dumps),
    st.lists(values, min_size=1, max_size=2).map(lambda rest: json.dumps(["ping", *rest])),
    st.text(max_size=20),
    st.text(st.characters(), max_size=3),
    st.integers(min_value=1, max_value=300).map(lambda depth: "[" * depth + "]" * depth),
    st.sampled_from(['["ping"', "null", "[]", "\ufeff[]", '["ping",-0]', '["ping",01]', " ", "\r"]),
)
bodies = st.one_of(st.text(max_size=10), st.sampled_from(["\n", "two\nlines", '["ping",1]\n', ""]))
texts = st.one_of(st.builds("{}\n{}".format, heads, bodies), heads, bodies)
binaries = st.one_of(
    texts.map(lambda text: text.encode(errors="surrogatepass")),
    texts.map(lambda text: text.encode("utf-16-le", errors="surrogatepass")),
    st.binary(max_size=20),
    st.binary(max_size=20).map(lambda data: data + b"\n" + data),
)
frames = st.lists(st.one_of(texts, texts, binaries), max_size=8)


def meaning(frame: str | bytes) -> str | bytes | int | None:
    """Return what a frame is by the reference: a payload, the number of a ping, or none."""
    feed: Any = "\n" if isinstance(frame, str) else b"\n"
    head, found, payload = frame.partition(feed)
    if not found:
        return None
    if not head:
        return payload
    try:
        encoded = head.encode() if isinstance(head, str) else head
        ping = PING.fullmatch(encoded.decode())
    except UnicodeError:
        return None
    return int(ping[1]) if ping is not None and len(encoded) <= 256 else None


def event_of(frame: str | bytes) -> dict[str, Any]:
    return {"type": "websocket.receive", "text" if isinstance(frame, str) else "bytes": frame}


def scope_of(path: str, *offers: str) -> dict[str, Any]:
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"testserver")],
        "subprotocols": [V1, *offers],
        "extensions": {"websocket.http.response": {}},
    }


async def echo(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(message)


async def joins(websocket: WebSocket) -> None:
    async with websocket.join(*MANY) as membership:
        await websocket.send_json(membership.recovered)


SCRIPT: list[str] = []


async def scripted(websocket: WebSocket) -> None:
    """Does what the script says; what does not fit the state is its own fault."""
    for step in SCRIPT:
        try:
            await act(websocket, step)
        except (RuntimeError, WebSocketDisconnect):
            if step == "turn":
                raise


@pytest.fixture(scope="module", autouse=True)
def site() -> Iterator[None]:
    handlers = {"echo/": echo, "joins/": joins, "scripted/": scripted}
    remembering = {
        pattern: {"history": 5, "presence": True, "linger": 0} for pattern in ("room:*", "fuzz")
    }
    with override_settings(
        WEBSOCKET_HANDLERS=handlers, WEBSOCKET_GROUPS=remembering, WEBSOCKET_MAX_MESSAGE_SIZE=1000
    ):
        yield


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def unswept() -> Iterator[asyncio.Runner]:
    """Where nobody reads ahead of a handler, who is in the middle of something for a moment."""
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.setattr(connections, "INTERVAL", 3600)
        yield runner


class Patient(Conversation):
    """Its client leaves once it has a message of the handler."""

    def __init__(self, scope: dict[str, Any]) -> None:
        super().__init__(scope, ())
        self.served = asyncio.Event()

    async def receive(self) -> Event:
        if not self.events:
            await self.served.wait()
        return await super().receive()

    async def send(self, event: Event) -> None:
        await super().send(event)
        if event.get("text", "").startswith("\n"):
            self.served.set()


def serve(runner: asyncio.Runner, conversation: Conversation) -> None:
    runner.run(conversation.run(WebSocketDispatcher(no_pages)))
    judge(conversation)
    assert conversation.sent[0] == {"type": "websocket.accept", "subprotocol": V1}
    assert conversation.sent[1]["text"].startswith('["hello",')
    assert conversation.errors == []


@given(said=frames)
@example(said=['["ping",1]\n', "\n\ud800", '["\ud800"]\n'])
@example(said=[b'\xef\xbb\xbf["ping",1]\n'])
def test_a_frame_is_a_payload_or_a_ping_or_the_end(unswept, said):
    conversation = Conversation(scope_of("/echo/"), map(event_of, said))
    serve(unswept, conversation)
    answers = conversation.sent[2:]
    expected: list[dict[str, Any]] = []
    for frame in said:
        meant = meaning(frame)
        if meant is None:
            expected.append({"type": "websocket.close", "code": 4400})
            break
        if isinstance(meant, int):
            expected.append({"type": "websocket.send", "text": f'["pong",{meant}]\n'})
        elif isinstance(meant, str):
            expected.append({"type": "websocket.send", "text": "\n" + meant})
        else:
            expected.append({"type": "websocket.send", "bytes": b"\n" + meant})
    for answer in answers:
        answer.pop("reason", None)
    assert answers[: len(expected)] == expected
    # Else the handler ends when its client leaves.
    assert [event["type"] for event in answers[len(expected) :]] in ([], ["websocket.close"])


@given(said=frames, script=scripts)
def test_whatever_a_handler_does_every_frame_is_one(runner, said, script):
    SCRIPT[:] = script
    conversation = Conversation(scope_of("/scripted/"), map(event_of, said))
    runner.run(conversation.run(WebSocketDispatcher(no_pages)))
    judge(conversation)
    sent = [event for event in conversation.sent if event["type"] == "websocket.send"]
    if sent:
        assert sent[0]["text"].startswith('["hello",')
    in_groups: set[str] = set()
    for event in sent[1:]:
        text = event["text"] if event.get("text") is not None else event["bytes"].decode()
        head, feed, _ = text.partition("\n")
        assert feed
        if not head:
            continue
        kind, name, *_ = json.loads(head)
        assert kind in ("m", "j", "l", "p", "g", "pong")
        # A group is named between its ``j`` and its ``l``.
        if kind == "j":
            assert name not in in_groups
            in_groups.add(name)
        elif kind == "l":
            in_groups.remove(name)
        elif kind != "pong":
            assert name in in_groups


tokens_of = st.one_of(
    st.text(st.sampled_from("AZaz09-_=+/ \n\x00é"), max_size=20),
    st.binary(max_size=50).map(lambda data: urlsafe_b64encode(data).decode()),
    st.one_of(
        values,
        st.dictionaries(st.sampled_from([*MANY, "", "<user>"]), values, max_size=4),
    )
    .map(lambda value: urlsafe_b64encode(json.dumps(value).encode()).decode())
    .map(lambda token: token.rstrip("=")),
    st.sampled_from(["W" * 6000, "e" * 5463, "W1tb" * 1300, "eyJhIjo" + "MTEx" * 1200]),
)


@given(token=tokens_of)
def test_any_token_can_be_brought(runner, token):
    conversation = Patient(scope_of("/joins/", f"since.{token}"))
    serve(runner, conversation)
    brought = tokens.decode(token).positions
    joined = [json.loads(event["text"].partition("\n")[0]) for event in conversation.sent[2:5]]
    assert {name: recovered for kind, name, _, recovered in joined if kind == "j"} == {
        name: False if name in brought else None for name in MANY
    }


@given(
    positions=st.dictionaries(st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=5)),
    ids=st.lists(st.text(max_size=5), max_size=12),
)
def test_a_token_says_what_went_into_it(positions, ids):
    token = tokens.encode(positions, ids)
    assert re.fullmatch("[A-Za-z0-9_-]*", token)
    assert tokens.decode(token) == (positions, tuple(ids[-8:]))
