"""What the clients of the subprotocol get of groups: named frames, in order, and nothing early."""

from __future__ import annotations

import asyncio
import json

import pytest
from django.test import override_settings

from django_ws_dispatch import groups
from django_ws_dispatch.brokers import get_broker
from django_ws_dispatch.decorators import asgi_handler, subprotocols
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.groups import Group, members
from django_ws_dispatch.groups.messages import GAP, PRESENCE, Message
from django_ws_dispatch.groups.tokens import encode
from django_ws_dispatch.testing import WebSocketClient
from django_ws_dispatch.uvicorn import WebSocketProtocol
from django_ws_dispatch.websockets.direct import DirectReader, DirectWriter
from django_ws_dispatch.websockets.enveloped import EnvelopedWriter
from django_ws_dispatch.websockets.reader import Reader
from django_ws_dispatch.websockets.state import SENDING
from django_ws_dispatch.websockets.writer import Writer

from ..kit.fake_server import only_socket, serving
from ..kit.late_broker import LATE, late
from ..kit.remembering import remembering
from ..kit.waiting import until
from ..uvicorn.wire import Client, served
from .echoes import echo, lines
from .speaking import V1, both_halves, offer, parsed, speaking
from .test_direct import on_the_class

pytestmark = pytest.mark.asyncio

ROOM, HALL, PLAIN = Group("room:a"), Group("hall:a"), Group("plain")

GROUPS = {
    "room:*": {"history": 50},
    "hall:*": {"presence": True, "linger": 0},
}


@pytest.fixture(autouse=True)
def _groups(monkeypatch):
    monkeypatch.setattr(groups.group, "unheard", False)
    with remembering(GROUPS):
        yield


class Joins:
    """A handler that joins, says so, and says back what comes."""

    def __init__(self, *names, **wanted):
        self.names, self.wanted = names or ("room:a",), wanted

    async def __call__(self, websocket):
        async with websocket.join(*self.names, **self.wanted):
            await websocket.send("in")
            async for message in websocket:
                await websocket.send(message)


async def telling():
    """Wait until the client of the one socket is told of something, which it does not take."""
    await until(lambda: only_socket().named and only_socket().connection.writer.state == SENDING)


# Which halves


async def test_who_does_not_offer_it_has_the_halves_of_every_socket():
    async with serving(echo) as server:
        await server.accepted()
        assert type(only_socket().connection.writer) is Writer
        assert only_socket().connection.envelope is None
    async with on_the_class(echo):
        await until(lambda: connections.local().sockets)
        assert type(only_socket().connection.writer) is DirectWriter


async def test_who_offers_it_has_halves_that_know_it_on_either_server():
    async with speaking("events", echo) as client:
        await until(lambda: client.messages)
        connection = only_socket().connection
        assert type(connection.reader) is Reader
        assert isinstance(connection.writer, EnvelopedWriter)
        assert not isinstance(connection.writer, DirectWriter)
    async with speaking("frames", echo) as client:
        await until(lambda: client.messages)
        connection = only_socket().connection
        assert type(connection.reader) is DirectReader
        assert isinstance(connection.writer, EnvelopedWriter)
        assert isinstance(connection.writer, DirectWriter)


# What goes


@both_halves
async def test_a_message_of_a_group_has_its_name_and_its_position(halves):
    async with speaking(halves, Joins()) as client:
        await client.sees("in")
        start = await ROOM.aposition()
        positions = [await ROOM.asend("one"), await ROOM.asend(b"two"), await ROOM.asend("")]
        client.says("\nmine")
        await client.sees("in", "one", b"two", "", "mine")
        assert client.heads == [
            ["j", "room:a", start, None],
            None,
            *(["m", "room:a", position] for position in positions),
            None,
        ]


@both_halves
async def test_a_group_that_fits_no_pattern_is_not_named(halves):
    async with speaking(halves, Joins("plain")) as client:
        await client.sees("in")
        await PLAIN.asend("one")
        await PLAIN.asend(b"two")
        await client.sees("in", "one", b"two")
        assert client.heads == [None] * 3


@both_halves
async def test_a_group_without_history_is_named_and_has_no_position(halves):
    async with speaking(halves, Joins("hall:a")) as client:
        await client.sees("in")
        await HALL.asend("one")
        await client.sees("in", "one")
        assert client.heads == [["j", "hall:a", None, None], None, ["m", "hall:a", None]]


@both_halves
async def test_who_is_here_comes_with_the_join_and_then_what_changes(halves, monkeypatch):
    monkeypatch.setattr("django_ws_dispatch.groups.watch.TOLD_EVERY", 0.0)
    async with speaking(halves, Joins("hall:a", info={"n": 1})) as client:
        await client.sees("in")
        head, payload = client.frames[0]
        assert head == ["j", "hall:a", None, None]
        (here,) = await HALL.apresent()
        since = here.here_since.timestamp()
        first = {"key": here.key, "info": {"n": 1}, "sockets": 1, "since": since}
        assert json.loads(payload) == {"count": 1, "present": [first]}
        async with WebSocketClient().connect("/ws/" if halves == "events" else "/ws/caf\u00e9/"):
            await client.has(["p", "hall:a"])
            told = json.loads(client.frames[-1].payload)
            assert (told["count"], told["left"], len(told["joined"])) == (2, [], 1)
            assert told["joined"][0]["key"] != here.key
        await until(lambda: client.heads.count(["p", "hall:a"]) == 2)
        again = json.loads(client.frames[-1].payload)
        assert again == {"count": 1, "left": told["joined"], "joined": []}


async def test_a_frame_of_a_group_is_made_once_for_all_members(monkeypatch):
    made = []
    make = WebSocketProtocol.make_frame

    def counting(self, message):
        made.append(message)
        return make(self, message)

    monkeypatch.setattr(WebSocketProtocol, "make_frame", counting)
    speaks = {"client": {"subprotocols": offer()}}
    async with on_the_class(Joins(), **speaks) as one:
        app = one.protocol._shared.app
        async with (
            served(app, **speaks) as two,
            served(app, **speaks) as three,
            served(app) as plain,
        ):
            for client in (one, two, three):
                await until(lambda client=client: "\nin" in client.messages)
            await until(lambda: "in" in plain.messages)
            position = await ROOM.asend("news")
            frame = f'["m","room:a","{position}"]\nnews'
            for client in (one, two, three):
                await until(lambda client=client: client.messages[-1] == frame)
            await until(lambda: plain.messages[-1] == "news")
            assert [each for each in made if "news" in each] == [frame, "news"]


# Nothing early


async def test_what_comes_before_the_accept_is_behind_the_hello_and_the_join():
    with override_settings(WEBSOCKET_BROKERS=LATE):
        broker = late()
        async with serving(Joins("plain", "hall:a"), scope={"subprotocols": offer()}) as server:
            await until(lambda: len(broker.asked) == 2)
            broker.acknowledge("plain")
            await PLAIN.asend("plain 1")
            await HALL.asend("hall 1")
            await PLAIN.asend("plain 2")
            assert server.sent == []
            broker.acknowledge("hall:a")
            await server.sends(6)
            heads = [parsed(one) for one in server.data]
            assert heads[0].head[0] == "hello"
            assert heads[3].head == ["j", "hall:a", None, None]
            del heads[3]
            assert heads[1:] == [
                (None, "plain 1"),
                (None, "plain 2"),
                (["m", "hall:a", None], "hall 1"),
                (None, "in"),
            ]


async def test_what_comes_before_the_accept_is_behind_the_hello_on_the_class_too():
    with override_settings(WEBSOCKET_BROKERS=LATE):
        broker = late()
        options = {"client": {"subprotocols": offer()}}
        async with on_the_class(Joins("plain", "hall:a"), wait=False, **options) as client:
            await until(lambda: len(broker.asked) == 2)
            for group in (PLAIN, HALL):
                await group.asend("text")
                await group.asend(b"bytes")
            assert client.response is None
            broker.acknowledge()
            await until(lambda: "\nin" in client.messages)
            assert [parsed(one).head for one in client.messages[1:]] == [
                None,
                None,
                ["j", "hall:a", None, None],
                ["m", "hall:a", None],
                ["m", "hall:a", None],
                None,
            ]
            assert client.messages[1:3] == ["\ntext", b"\nbytes"]


async def test_what_comes_before_an_accept_of_another_subprotocol_has_no_head():
    """The handler accepts it while another task of its joins."""

    async def joins(websocket):
        async with websocket.join("plain", "hall:a", "room:a"):
            await websocket.send("in")
            await websocket.wait_closed()

    async def handler(websocket):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(joins(websocket))
            await until(lambda: len(broker.asked) == 3)
            for group in (PLAIN, HALL):
                await group.asend("text")
                await group.asend(b"bytes")
            await websocket.accept(subprotocol="chat")
            await HALL.asend("behind")
            broker.acknowledge()

    with override_settings(WEBSOCKET_BROKERS=LATE):
        broker = late()
        start = await ROOM.asend("0")
        await ROOM.asend("missed")
        offered = offer(encode({"room:a": start}), ["chat"])
        async with serving(handler, scope={"subprotocols": offered}) as server:
            await until(lambda: "in" in server.data)
            assert server.sent[0]["subprotocol"] == "chat"
            assert server.data == ["text", b"bytes", "text", b"bytes", "behind", "missed", "in"]


@both_halves
@pytest.mark.parametrize("data", ["early", b"early"])
async def test_a_message_that_comes_before_the_join_is_told_waits_for_it(halves, data, monkeypatch):
    broker = get_broker("default")
    track = broker.atrack

    async def atrack(*args, **kwargs):
        await HALL.asend(data)
        return await track(*args, **kwargs)

    monkeypatch.setattr(broker, "atrack", atrack)
    async with speaking(halves, Joins("hall:a")) as client:
        await client.sees(data, "in")
        assert client.heads == [
            ["j", "hall:a", None, None],
            ["m", "hall:a", None],
            None,
        ]


async def test_what_comes_while_the_join_is_told_is_behind_it():
    async def handler(websocket):
        await websocket.accept()
        server.block()
        async with websocket.join("room:a"):
            await websocket.send("in")
            await websocket.wait_closed()

    async with serving(handler, scope={"subprotocols": offer()}, started=False) as server:
        server.start()
        await until(lambda: server.types == ["accept", "send"])
        await telling()
        start = await ROOM.aposition()
        position = await ROOM.asend("early")
        server.unblock()
        await server.sends(4)
        assert [parsed(one).head for one in server.data[1:]] == [
            ["j", "room:a", start, None],
            ["m", "room:a", position],
            None,
        ]


async def test_more_early_messages_than_the_outbox_holds_close_with_1013():
    async def handler(websocket):
        await websocket.accept()
        server.block()
        async with websocket.join("room:a"):
            await websocket.wait_closed()

    async with serving(
        handler, scope={"subprotocols": offer()}, WEBSOCKET_OUTBOX_SIZE=10_000
    ) as server:
        await server.accepted()
        await telling()
        socket = only_socket()
        await ROOM.asend("x" * 4000)
        assert socket.close_code is None
        await ROOM.asend("x" * 4000)
        await ROOM.asend("x" * 4000)
        assert socket.close_code == 1013
        server.unblock()


async def test_behind_the_close_nothing_more_is_kept_or_told(caplog):
    async def handler(websocket):
        await websocket.accept()
        server.block()
        async with websocket.join("room:a"):
            await websocket.wait_closed()

    async with serving(
        handler, scope={"subprotocols": offer()}, WEBSOCKET_OUTBOX_SIZE=10_000
    ) as server:
        await server.accepted()
        await telling()
        (named,) = only_socket().named.values()
        for _ in range(10):
            await ROOM.asend("x" * 4000)
        kept = len(named.early)
        server.unblock()
        await server.ended()
        assert len(lines(caplog)) == 1
        assert kept <= 3


async def test_what_waited_for_a_join_counts_until_it_is_sent():
    async def early():
        await telling()
        await HALL.asend("x" * 4000)
        server.unblock()

    async def handler(websocket):
        await websocket.accept()
        for _ in range(10):
            server.block()
            sending = asyncio.ensure_future(early())
            async with websocket.join("hall:a"):
                await sending

    async with serving(
        handler, scope={"subprotocols": offer()}, WEBSOCKET_OUTBOX_SIZE=10_000
    ) as server:
        await server.ended()
        assert server.closed == (1000, "")


@both_halves
async def test_a_client_that_takes_nothing_is_closed_with_1013_once_its_outbox_is_full(halves):
    async with speaking(halves, Joins(), WEBSOCKET_OUTBOX_SIZE=100_000) as client:
        await client.sees("in")
        client.block()
        socket = only_socket()
        for _ in range(40):
            await ROOM.asend("x" * 20_000)
            await asyncio.sleep(0)
        assert socket.close_code == 1013
        client.unblock()


@both_halves
async def test_nothing_is_lost_for_one_that_takes_it_late(halves):
    async with speaking(halves, Joins("room:a", "plain")) as client:
        await client.sees("in")
        client.block()
        texts = [f"{number}".zfill(20_000) for number in range(10)]
        for number, text in enumerate(texts):
            await (ROOM if number % 2 else PLAIN).asend(text)
            client.says(f'["ping",{number}]\n')
            await asyncio.sleep(0)
        client.unblock()
        await client.sees("in", *texts)
        await client.has(["pong", 9])


async def test_a_client_that_leaves_while_it_is_told_of_a_join_is_no_member():
    async def handler(websocket):
        await websocket.accept()
        server.block()
        async with websocket.join("room:a"):
            raise AssertionError("joined")

    async with serving(handler, scope={"subprotocols": offer()}) as server:
        await server.accepted()
        await telling()
        server.leave()
        await server.ended()
        await until(lambda: not any(link.groups for link in members.local()._links.values()))


async def test_a_client_that_leaves_while_it_is_told_of_a_join_is_told_nothing_more():
    async def handler(websocket):
        await websocket.accept()
        server.block()
        async with websocket.join("hall:a"):
            raise AssertionError("joined")

    async with serving(handler, scope={"subprotocols": offer()}) as server:
        await server.accepted()
        await telling()
        (link,) = members.local()._links.values()
        (present,) = link.present.values()
        await until(lambda: present.audience)
        server.leave()
        await server.ended()
        try:
            assert not present.audience
        finally:
            await members.aclose()


# What else is told


@both_halves
async def test_a_gap_is_told_with_the_position_behind_which_it_goes_on(halves):
    async with speaking(halves, Joins()) as client:
        await client.sees("in")
        get_broker("default")._history._channels.clear()
        lost = await ROOM.asend("of a new memory")
        await client.has(["g", "room:a", lost])
        live = await ROOM.asend("live")
        await client.sees("in", "live")
        assert client.heads[-2:] == [["g", "room:a", lost], ["m", "room:a", live]]
        assert client.frames[-2].payload == ""


async def test_a_plain_client_is_told_of_no_gap():
    async with serving(Joins()) as server:
        await server.sends(1)
        get_broker("default")._history._channels.clear()
        await ROOM.asend("of a new memory")
        await ROOM.asend("live")
        assert await server.sends(2) == ["in", "live"]


@both_halves
async def test_what_excludes_a_former_socket_of_the_page_is_not_sent_to_it(halves):
    since = encode({}, ["first", "second"])
    async with speaking(halves, Joins("room:a", "plain"), since=since) as client:
        await client.sees("in")
        for group in (ROOM, PLAIN):
            for exclude in ("first", "second", only_socket().id):
                await group.asend("own", exclude=exclude)
            await group.asend("other", exclude="third")
        await client.sees("in", "other", "other")


async def test_who_has_left_is_told_nothing_that_was_on_its_way():
    async with speaking("events", Joins("plain")) as client:
        await client.sees("in")
        writer = only_socket().connection.writer
        writer.deliver(Message(PRESENCE, {"text": "{}"}, 0, None, place=HALL.place))
        writer.notice(Message(GAP, {}, 0, None, position="1.2-3", place=ROOM.place))
        await PLAIN.asend("news")
        await client.sees("in", "news")
        assert client.heads == [None, None]


@both_halves
async def test_a_long_replay_lets_others_have_their_turn(halves):
    options = {"room:*": {"history": 2000}}
    with override_settings(WEBSOCKET_GROUPS=options):
        start = await ROOM.asend("0")
        for number in range(1500):
            await ROOM.asend(str(number))
        turns = []

        async def beat():
            while True:
                turns.append(len(only_socket().connection.envelope.resumed))
                await asyncio.sleep(0)

        async def handler(websocket):
            beating = asyncio.create_task(beat())
            try:
                await Joins()(websocket)
            finally:
                beating.cancel()

        since = encode({"room:a": start})
        async with speaking(halves, handler, since=since) as client:
            await client.sees(*map(str, range(1500)), "in")
    assert turns.count(1) > 2


POSITIONS = [
    "garbled",
    "1.2-3",
    "9" * 16 + ".0-0",
    "-1.0-0",
    "\0",
    "\ud800",
    "\u0661.0-0",
    "x" * 3000,
    "1" * 64,
]


@pytest.mark.parametrize("position", POSITIONS, ids=range(len(POSITIONS)))
async def test_any_position_that_is_none_is_lost(position, caplog):
    top = await ROOM.asend("0")
    async with speaking("events", Joins(), since=encode({"room:a": position})) as client:
        await client.sees("in")
        assert client.heads == [["j", "room:a", top, False], None]
    assert lines(caplog) == []


# Another subprotocol, or none


@both_halves
async def test_who_speaks_another_gets_what_a_plain_client_gets(halves):
    start = await ROOM.asend("0")
    await ROOM.asend("1")
    names = ("room:a", "hall:a", "plain")
    handler = subprotocols("chat")(Joins(*names, since={"room:a": start}))
    token = encode({"room:a": start})
    async with speaking(halves, handler, since=token, others=["chat"]) as client:
        await until(lambda: len(client.messages) == 2)
        await ROOM.asend("2")
        await PLAIN.asend(b"3")
        await HALL.asend("4")
        get_broker("default")._history._channels.clear()
        await ROOM.asend("of a new memory")
        client.says('["ping",1]\n')
        await until(lambda: len(client.messages) == 6)
        assert client.messages == ["1", "in", "2", b"3", "4", '["ping",1]\n']


async def test_who_speaks_another_gets_what_came_before_the_accept():
    with override_settings(WEBSOCKET_BROKERS=LATE):
        broker = late()
        handler = subprotocols("chat")(Joins("hall:a", "plain"))
        async with serving(handler, scope={"subprotocols": offer(None, ["chat"])}) as server:
            await until(lambda: len(broker.asked) == 2)
            await HALL.asend("one")
            await PLAIN.asend(b"two")
            broker.acknowledge()
            await server.sends(3)
            assert server.data == ["one", b"two", "in"]


@both_halves
async def test_a_raw_handler_whose_client_offers_it_is_a_member_as_any(halves):
    @asgi_handler
    async def handler(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({**event, "type": "websocket.send"})

    async with speaking(halves, handler) as client:
        client.says('["ping",1]\n', b"\n")
        await until(lambda: client.messages == ['["ping",1]\n', b"\n"])


async def test_it_works_with_deflate():
    from ..uvicorn.wire import DEFLATE

    options = {"client": {"subprotocols": offer(), "extensions": DEFLATE}}
    async with on_the_class(Joins(), **options) as client:
        assert isinstance(client, Client)
        client.sends("\n" + "x" * 1000)
        await until(lambda: "\n" + "x" * 1000 in client.messages)
        position = await ROOM.asend("y" * 1000)
        await until(lambda: client.messages[-1] == f'["m","room:a","{position}"]\n' + "y" * 1000)
        assert client.response.headers["Sec-WebSocket-Protocol"] == V1
