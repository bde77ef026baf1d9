"""Whatever happens in whatever order to a connection of the package's class: it ends, and well."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from uvicorn.server import ServerState
from websockets.exceptions import ProtocolError
from websockets.frames import Opcode

from django_ws_dispatch.uvicorn import WebSocketProtocol
from tests.uvicorn.wire import DEFLATE, Client, Handler, config_of

from .conftest import PROFILE
from .test_classes import frame, turns_until

EXAMPLES = 20_000 if PROFILE == "large" else 150
GOING_ON = [
    *["receive", "feed", "say", "turn"] * 3,
    *["ping", "begin", "flood", "big", "stall", "take", "interrupt", "cancel receive"],
    *["close wrong", "flush", "body"],
]
ENDING = [
    *["close", "client closes", "broken", "shutdown", "eof", "lose", "return", "raise", "cancel"],
    *["start", "last body", "accept", "request"],
]
BODY = b"x" * 70_000


class Course:
    """What happens to one connection."""

    def __init__(self, app: Handler, client: Client, state: ServerState) -> None:
        self.app, self.client, self.state = app, client, state
        self.receiving: list[asyncio.Task[Any]] = []
        self.sending: list[asyncio.Task[Any]] = []
        self.fed: list[str] = []
        self.said: list[str | bytes] = []
        self.begun = self._asked = False

    def step(self, name: str) -> None:
        """Do one thing, if it can be done."""
        client, app, protocol = self.client, self.app, self.client.protocol
        if name == "request":
            if not self._asked:
                self._asked = True
                client.feed(client.request())
        elif name in ("eof", "lose", "stall", "take", "interrupt", "shutdown"):
            self._happens(name)
        elif name in ("feed", "ping", "flood", "begin", "broken"):
            self._feed(name)
        elif name == "client closes":
            with suppress(Exception):
                client.closes(4001)
        elif name == "flush":
            client.flush()
        elif app.is_called:
            if name == "receive":
                self.receiving.append(asyncio.ensure_future(app.receive()))
            elif name == "cancel receive":
                for task in [*self.receiving]:
                    if not task.done():
                        task.cancel()
                        self.receiving.remove(task)
                        break
            elif name == "cancel":
                for task in [*self.state.tasks]:
                    task.cancel()
            elif name == "return":
                app.returns()
            elif name == "raise":
                if not app._result.done():
                    app.raises(ValueError("no"))
                    app._result.exception()  # the task may be cancelled already
            else:
                self._send(name)
        assert protocol.unsent >= 0

    def _happens(self, name: str) -> None:
        transport, protocol = self.client.transport, self.client.protocol
        if name == "eof":
            transport.eof()
        elif name == "lose":
            transport.lose(None)
        elif name == "stall":
            transport.is_taken = False
        elif name == "take":
            if not transport.is_taken and not transport.is_cut:
                transport.taken()
        elif name == "shutdown":
            protocol.drain = 0.0 if protocol.drain else 100.0
            protocol.shutdown()
        elif transport.is_lost is False:
            protocol.pause_writing()
            protocol.resume_writing()

    def _feed(self, name: str) -> None:
        if not self._asked:
            return
        number = len(self.fed)
        if name == "ping":
            self.client.feed(frame(9, b"here?"))
        elif name == "broken":
            self.client.feed(frame(3, b""))
        elif self.begun:
            self.begun = False
            self.client.feed(frame(0, b"%d" % number))
            self.fed.append(f"b{number}")
        elif name == "begin":
            self.begun = True
            self.client.feed(frame(1, b"b", fin=False))
        elif name == "feed":
            data = frame(1, b"%d" % number)
            self.client.feed(data[:3], data[3:])
            self.fed.append(f"{number}")
        else:
            many = [f"{number + more}" for more in range(40)]
            self.client.feed(b"".join(frame(1, one.encode()) for one in many))
            self.fed += many

    def _send(self, name: str) -> None:
        events: dict[str, tuple[str, dict[str, Any]]] = {
            "accept": ("accept", {}),
            "start": ("http.response.start", {"status": 404}),
            "body": ("http.response.body", {"body": b"y", "more_body": True}),
            "last body": ("http.response.body", {"body": b"z"}),
            "close": ("close", {"code": 4000}),
            "close wrong": ("close", {"code": 1005}),
            "big": ("send", {"bytes": BODY}),
            "say": ("send", {"text": f"{len(self.said)}"}),
        }
        if name in events:
            self.sending.append(asyncio.ensure_future(self._sent(*events[name])))

    async def _sent(self, kind: str, event: dict[str, Any]) -> None:
        try:
            await self.app.send(kind, **event)
        except (OSError, RuntimeError, ProtocolError):
            return
        if kind == "send":
            self.said.append(event.get("text", event.get("bytes")))

    async def end(self) -> None:
        """All of it ends, if it has not."""
        self._happens("take")
        self.app.returns()
        self.client.transport.lose(None)
        tasks = [*self.receiving, *self.sending]
        await turns_until(lambda: self.client.transport.is_lost and not self.state.tasks)
        if not self.app.is_called:
            assert not tasks
            return
        await turns_until(lambda: all(task.done() for task in tasks))
        self.received = [task.result() for task in self.receiving]
        while not self.received or self.received[-1]["type"] != "websocket.disconnect":
            self.received.append(await self.app.receive())
        last = await self.app.receive()
        assert last["type"] == "websocket.disconnect"
        ends = [one for one in self.received if one["type"] == "websocket.disconnect"]
        assert all(one == last for one in ends)
        for task in self.sending:
            task.result()

    def judge(self) -> None:
        """What came out is what went in, in its order; and nothing is left."""
        client, protocol = self.client, self.client.protocol
        assert not self.state.connections
        assert protocol.close_timer is protocol._abort_timer is protocol._blocked is None
        assert protocol.unsent == 0
        assert protocol._rest is protocol._authority is protocol._scope is None
        assert not len(protocol._shared.keeper)
        assert not protocol._shared.drain._waiting
        closes = [at for at, one in enumerate(client.frames) if one.opcode is Opcode.CLOSE]
        assert len(closes) <= 1
        messages = [message for message in client.messages if message != BODY]
        said = [message for message in self.said if message != BODY]
        assert messages == said[: len(messages)]
        if client.response is not None and client.response.status_code != 101:
            assert not client.frames
            assert client.response.status_code in (403, 404, 500, 503)
        if self.app.is_called:
            texts = [one["text"] for one in self.received if one["type"] == "websocket.receive"]
            # Who waits at the same time as others is told in any order.
            assert sorted(texts, key=self.fed.index) == self.fed[: len(texts)]


@pytest.fixture(scope="module")
def failures() -> list[Any]:
    """What the loop was told by what it called."""
    return []


@pytest.fixture(scope="module")
def runner(failures: list[Any]) -> Iterator[asyncio.Runner]:
    log = logging.getLogger("uvicorn.error")
    log.disabled = True
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: failures.append(context))
        yield runner
    log.disabled = False


async def run(names: list[str], deflate: bool) -> None:
    app = Handler()
    config = config_of(app, ws_ping_interval=100)
    state = ServerState()
    client = Client(
        lambda: WebSocketProtocol(config, state, {}),
        answers=False,
        extensions=DEFLATE if deflate else (),
    )
    course = Course(app, client, state)
    for name in names:
        course.step(name)
        if name == "turn":
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    await course.end()
    course.judge()


openings = st.sampled_from(
    [
        *[["request", "turn", "accept", "turn"]] * 6,
        ["request", "turn", "start", "turn"],
        ["request", "turn"],
        ["request"],
        [],
    ]
)
going_on = st.lists(st.sampled_from(GOING_ON), max_size=25)
endings = st.lists(st.sampled_from([*ENDING * 2, *GOING_ON]), max_size=10)


@profile(max_examples=EXAMPLES)
@given(openings, going_on, endings, st.booleans())
def test_every_order_of_events_ends_well(runner, failures, first, then, last, deflate):
    failures.clear()
    runner.run(run([*first, *then, *last], deflate))
    assert not failures
