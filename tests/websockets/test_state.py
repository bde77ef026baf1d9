"""The automata of a socket, as far as they can be seen from outside: every arrow of the first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from django_ws_dispatch.exceptions import Deny
from django_ws_dispatch.websockets import WebSocketState
from django_ws_dispatch.websockets.state import ABSENT, BUSY, DETACHED, FREE, READING, WAITING

from ..kit.fake_server import HABITS, hurry, only_socket, serving
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio

CONNECTING, OPEN, CLOSING, CLOSED = WebSocketState


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def test_a_state_has_the_number_that_it_has_in_a_browser() -> None:
    assert [(state.name, int(state)) for state in WebSocketState] == [
        ("CONNECTING", 0),
        ("OPEN", 1),
        ("CLOSING", 2),
        ("CLOSED", 3),
    ]


async def test_the_states_of_reading_up_to_absent_may_go_straight_to_the_server() -> None:
    assert max(BUSY, ABSENT) < min(READING, WAITING, DETACHED)


async def test_a_sender_who_finds_nothing_in_the_way_finds_something_false() -> None:
    assert not FREE


@pytest.mark.parametrize("server_name", HABITS)
async def test_an_accept_opens_and_a_close_is_closing_until_the_end(server_name: str) -> None:
    states: list[WebSocketState] = []

    async def handler(websocket: Any) -> None:
        states.append(websocket.ready_state)
        await websocket.accept()
        states.append(websocket.ready_state)
        await websocket.close()
        states.append(websocket.ready_state)
        sockets.append(websocket)

    sockets: list[Any] = []
    async with serving(handler, server=server_name) as fake:
        await fake.ended()
        assert states == [CONNECTING, OPEN, CLOSING]
        assert sockets[0].ready_state is CLOSED


async def test_a_client_that_leaves_closes_it_at_once() -> None:
    states: list[WebSocketState] = []

    async def handler(websocket: Any) -> None:
        async for _ in websocket:
            pass
        states.append(websocket.ready_state)

    async with serving(handler) as fake:
        await fake.accepted()
        fake.leave()
        await fake.ended()
    assert states == [CLOSED]


async def test_a_denial_closes_it_without_it_ever_being_open() -> None:
    sockets: list[Any] = []

    async def handler(websocket: Any) -> None:
        sockets.append(websocket)
        raise Deny(403)

    async with serving(handler) as fake:
        await fake.ended()
        assert sockets[0].ready_state is CLOSED
        assert fake.denied is not None


async def test_one_that_is_kicked_before_it_is_open_is_closing_until_it_is_denied() -> None:
    states: list[WebSocketState] = []
    over = asyncio.Event()

    async def handler(websocket: Any) -> None:
        websocket.kick(4401, "logged out")
        states.append(websocket.ready_state)
        over.set()

    async with serving(handler) as fake:
        await over.wait()
        await fake.ended()
        assert states == [CLOSING]
        assert "accept" not in fake.types


async def test_one_that_is_kicked_while_it_is_open_is_closing() -> None:
    async def handler(websocket: Any) -> None:
        async for _ in websocket:
            pass

    async with serving(handler) as fake:
        await fake.accepted()
        socket = only_socket()
        socket.kick(4401, "logged out")
        assert socket.ready_state is CLOSING
        await fake.ended()
        assert socket.ready_state is CLOSED
        assert fake.closed == (4401, "logged out")


async def test_a_reader_goes_round_from_reading_over_busy_and_absent_to_detached_and_back() -> None:
    go_on = asyncio.Event()

    async def handler(websocket: Any) -> None:
        async for _ in websocket:
            await go_on.wait()

    async with serving(handler) as fake:
        await fake.accepted()
        reader = only_socket().connection.reader
        await until(lambda: reader.state == READING)
        fake.message("work")
        await until(lambda: reader.state == DETACHED)  # a task reads ahead
        fake.message("more")
        await until(lambda: not fake.unread)
        go_on.set()
        await until(lambda: reader.state in (READING, WAITING))
