"""The client's end of a socket that speaks the subprotocol, in a test of a site."""

from __future__ import annotations

import json

import pytest
from django.test import override_settings

from django_ws_dispatch import groups
from django_ws_dispatch.brokers import get_broker
from django_ws_dispatch.decorators import subprotocols
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group, asince_token
from django_ws_dispatch.groups.tokens import decode
from django_ws_dispatch.testing import WebSocketClient
from django_ws_dispatch.testing.envelopes import EnvelopeSocket, Frame
from django_ws_dispatch.testing.sockets import ClientSocket

from ..kit.remembering import remembering

pytestmark = pytest.mark.asyncio

ROOM, HALL, PLAIN = Group("room:a"), Group("hall:a"), Group("plain")


async def member(websocket):
    """Is in groups until it is told to leave, and says back what comes."""
    async with websocket.join("room:a", "hall:a", "plain"):
        async for message in websocket:
            if message == "leave":
                break
            await websocket.send(message)
    await websocket.send("left")
    await websocket.wait_closed()


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


@pytest.fixture(autouse=True)
def _groups(monkeypatch):
    monkeypatch.setattr(groups.group, "unheard", False)
    handlers = {"ws/": member, "chat/": subprotocols("chat")(echo)}
    with (
        remembering({"room:*": {"history": 5}, "hall:*": {"presence": True, "linger": 0}}),
        override_settings(WEBSOCKET_HANDLERS=handlers),
    ):
        yield


@pytest.fixture
def client():
    return WebSocketClient()


async def test_it_is_a_socket_that_knows_who_it_is(client):
    async with client.connect("/ws/", envelope=True) as socket:
        assert isinstance(socket, EnvelopeSocket)
        assert socket.subprotocol == "django-ws-dispatch.v1"
        assert socket.hello == {"ping": 25}
        assert len(socket.id) >= 16
    async with client.connect("/ws/") as socket:
        assert type(socket) is ClientSocket
        assert socket.subprotocol is None


@pytest.mark.parametrize("message", ["hi", "", "a\nb", b"hi", b"", b"\n"])
async def test_it_sends_and_receives_payloads(client, message):
    async with client.connect("/ws/", envelope=True) as socket:
        await socket.send(message)
        assert await socket.receive(20) == message


async def test_json_is_a_payload_as_any(client):
    async with client.connect("/ws/", envelope=True) as socket:
        await socket.send_json({"a": 1})
        assert await socket.receive_json(20) == {"a": 1}


async def test_what_is_no_message_is_the_error_of_every_socket(client):
    async with client.connect("/ws/", envelope=True) as socket:
        with pytest.raises(TypeError):
            await socket.send(1)


async def test_its_positions_move_with_what_comes(client):
    start = await ROOM.asend("0")
    async with client.connect("/ws/", envelope=True) as socket:
        await socket.send("in")
        assert await socket.receive(20) == "in"
        assert socket.groups == {"room:a": start, "hall:a": None}
        position = await ROOM.asend("1")
        assert await socket.receive(20) == "1"
        assert socket.groups["room:a"] == position
        await PLAIN.asend("2")
        await HALL.asend("3")
        assert [await socket.receive(20), await socket.receive(20)] == ["2", "3"]
        assert socket.groups == {"room:a": position, "hall:a": None}
        await socket.send("leave")
        assert await socket.receive(20) == "left"
        assert socket.groups == {}


async def test_a_gap_moves_its_position(client):
    async with client.connect("/ws/", envelope=True) as socket:
        await socket.send("in")
        await socket.receive(20)
        get_broker("default")._history._channels.clear()
        position = await ROOM.asend("of a new memory")
        assert await socket.receive_frame(20) == Frame(["g", "room:a", position], "")
        assert socket.groups["room:a"] == position


async def test_a_socket_goes_on_where_another_one_was(client):
    async with client.connect("/ws/", envelope=True) as socket:
        await socket.send("in")
        await socket.receive(20)
        await ROOM.asend("1")
        await socket.receive(20)
        first = socket.since
        ids = [socket.id]
    assert decode(first) == ({"room:a": await ROOM.aposition()}, tuple(ids))
    await ROOM.asend("2")
    await ROOM.asend("own", exclude=socket.id)
    async with client.connect("/ws/", envelope=True, since=first) as socket:
        assert socket.groups == {"room:a": decode(first).positions["room:a"]}
        assert await socket.receive(20) == "2"
        await socket.send("in")
        assert await socket.receive(20) == "in"
        assert socket.groups["room:a"] == decode(socket.since).positions["room:a"]
        assert decode(socket.since).ids == (*ids, socket.id)
        await socket.receive_nothing()


async def test_it_takes_the_token_of_a_page(client):
    token = await asince_token(ROOM)
    await ROOM.asend("1")
    async with client.connect("/ws/", envelope=True, since=token) as socket:
        assert await socket.receive(20) == "1"


async def test_frames_can_be_looked_at_and_sent(client):
    async with client.connect("/ws/", envelope=True) as socket:
        joined = [await socket.receive_frame(20) for _ in range(2)]
        assert [head for head, _ in joined] == [
            ["j", "room:a", await ROOM.aposition(), None],
            ["j", "hall:a", None, None],
        ]
        assert json.loads(joined[1].payload)["count"] == 1
        await socket.send_frame(["ping", 7])
        assert await socket.receive_frame(20) == Frame(["pong", 7], "")
        position = await ROOM.asend(b"1")
        assert await socket.receive_frame(20) == Frame(["m", "room:a", position], b"1")
        await PLAIN.asend("2")
        assert await socket.receive_frame(20) == Frame(None, "2")
        await PLAIN.asend(b"3")
        assert await socket.receive_frame(20) == Frame(None, b"3")


async def test_a_frame_that_is_none_is_the_close_that_every_client_sees(client):
    async with client.connect("/ws/", envelope=True) as socket:
        await socket.send_frame(["later"])
        await socket.wait_closed(20)
        assert socket.close_code == 4400


async def test_nothing_comes_where_only_positions_move(client):
    async with client.connect("/ws/", envelope=True) as socket:
        await socket.send("in")
        await socket.receive(20)
        await socket.send_frame(["ping", 7])
        await socket.receive_nothing()
        await PLAIN.asend("something")
        with pytest.raises(AssertionError, match="'something' came"):
            await socket.receive_nothing(20)


async def test_what_does_not_come_in_time_is_a_time_out(client):
    async with client.connect("/ws/", envelope=True) as socket:
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.01)
        await PLAIN.asend("late")
        assert await socket.receive(20) == "late"


async def test_a_handler_that_speaks_something_else_is_told(client):
    with pytest.raises(AssertionError, match=r"/chat/ chose the subprotocol 'chat', not django-"):
        async with client.connect("/chat/", envelope=True, subprotocols=["chat"]):
            raise LookupError
    async with client.connect("/chat/", envelope=True, subprotocols=["other"]) as socket:
        await socket.send("hi")
        assert await socket.receive(20) == "hi"


async def test_a_site_whose_broker_is_away_has_an_empty_token_which_is_none(client, monkeypatch):
    async def away(*args, **kwargs):
        raise BrokerError("away")

    with monkeypatch.context() as patched:
        patched.setattr(get_broker("default"), "atop", away)
        token = await asince_token(ROOM)
    async with client.connect("/ws/", envelope=True, since=token) as socket:
        assert (await socket.receive_frame(20)).head[:2] == ["j", "room:a"]
