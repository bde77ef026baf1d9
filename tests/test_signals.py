"""The signals around the life of a socket, as a site receives them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from django_ws_dispatch.exceptions import Deny
from django_ws_dispatch.signals import websocket_closed, websocket_opened
from django_ws_dispatch.websockets import WebSocket
from tests.kit.fake_server import serving

pytestmark = pytest.mark.asyncio


async def handler(websocket: Any) -> None:
    async for _ in websocket:
        pass


class Heard:
    """What receivers have got of both signals."""

    def __init__(self) -> None:
        self.opened: list[dict[str, Any]] = []
        self.closed: list[dict[str, Any]] = []

    def open(self, **kwargs: Any) -> None:
        self.opened.append(kwargs)

    async def close(self, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        self.closed.append(kwargs)


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    websocket_opened.connect(heard.open)
    websocket_closed.connect(heard.close)
    yield heard
    websocket_opened.disconnect(heard.open)
    websocket_closed.disconnect(heard.close)


async def test_they_come_from_the_class_of_sockets_with_the_socket_itself(heard: Heard) -> None:
    sockets: list[Any] = []

    async def keeps(websocket: Any) -> None:
        sockets.append(websocket)
        await handler(websocket)

    async with serving(keeps) as fake:
        await fake.accepted()
        fake.leave(1001, "going away")
        await fake.ended()
    (opened,), (closed,) = heard.opened, heard.closed
    assert opened["sender"] is closed["sender"] is WebSocket
    assert [opened["websocket"], closed["websocket"]] == [sockets[0]] * 2
    assert (closed["code"], closed["reason"]) == (1001, "going away")


async def test_a_handler_that_closes_says_the_code_and_the_reason(heard: Heard) -> None:
    async def closes(websocket: Any) -> None:
        await websocket.accept()
        await websocket.close(4000, "enough")

    async with serving(closes) as fake:
        await fake.ended()
    assert [(one["code"], one["reason"]) for one in heard.closed] == [(4000, "enough")]


async def test_a_socket_that_was_not_accepted_has_neither(heard: Heard) -> None:
    async def denies(websocket: Any) -> None:
        raise Deny(403)

    async with serving(denies) as fake:
        await fake.ended()
        assert fake.denied is not None
    assert (heard.opened, heard.closed) == ([], [])


async def test_what_a_receiver_raises_is_logged_and_touches_no_socket(
    heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**kwargs: Any) -> None:
        raise LookupError("no statistics")

    async def echo(websocket: Any) -> None:
        async for message in websocket:
            await websocket.send(message)

    websocket_opened.connect(fail)
    try:
        async with serving(echo) as fake:
            fake.message("still here")
            assert await fake.sends(1) == ["still here"]
    finally:
        websocket_opened.disconnect(fail)
    assert "no statistics" in caplog.text
    assert len(heard.closed) == 1
