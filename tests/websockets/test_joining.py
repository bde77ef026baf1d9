"""What joining does, in its order; who is here then, under which key, and until when."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.test import override_settings

from django_ws_dispatch import groups
from django_ws_dispatch.brokers import get_broker
from django_ws_dispatch.decorators import subprotocols
from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.exceptions import BrokerError, WebSocketDisconnect
from django_ws_dispatch.groups import Group, members
from django_ws_dispatch.groups.tokens import encode
from django_ws_dispatch.testing import WebSocketClient
from django_ws_dispatch.websockets import WebSocketState

from ..kit.fake_server import no_pages, only_socket, serving
from ..kit.late_broker import LATE, late
from ..kit.remembering import remembering
from ..kit.waiting import until
from .speaking import offer, parsed, speaking

pytestmark = pytest.mark.asyncio

ROOM, OTHER = Group("room:a"), Group("room:b")
OLD, BOTH = Group("old:a"), Group("both:a")


@pytest.fixture(autouse=True)
def _groups(monkeypatch):
    monkeypatch.setattr(groups.group, "unheard", False)
    with remembering(
        {
            "room:*": {"presence": True, "history": 5, "linger": 0},
            "hall:*": {"presence": True, "linger": 300},
            "bare:*": {"presence": True, "linger": 0},
            "old:*": {"history": 5},
            "both:*": {"presence": True, "history": 5, "linger": 300},
            "<user>": {"presence": True, "linger": 0},
        }
    ):
        yield


class Joins:
    """A handler that joins as it is told, and keeps what came of it."""

    def __init__(self, *names, first=None, **wanted):
        self.names, self.wanted, self.first = names or ("room:a",), wanted, first
        self.failed = None
        self.inside = 0

    async def __call__(self, websocket):
        if self.first is not None:
            await self.first(websocket)
        try:
            async with websocket.join(*self.names, **self.wanted) as self.membership:
                self.inside += 1
                await websocket.send("in")
                async for _ in websocket:
                    pass
        except (TypeError, ValueError) as exc:
            self.failed = exc


async def is_in(server):
    await until(lambda: "in" in server.data)


def keys(found):
    return [one.key for one in found]


def nobody_is_joined():
    """Whether this loop has no members of groups, and nobody who is here."""
    return not any(link.groups or link.present for link in members.local()._links.values())


# The order


async def test_first_it_subscribes_then_it_is_here_then_it_accepts_then_it_replays(monkeypatch):
    with override_settings(WEBSOCKET_BROKERS=LATE):
        broker, order = late(), []
        start = await ROOM.asend("0")
        await ROOM.asend("1")
        track, follow = broker.atrack, groups.Membership.follow

        async def atrack(*args, **kwargs):
            order.append(("here", list(server.types), dict(broker.asked)))
            return await track(*args, **kwargs)

        async def replay(*args):
            order.append(("replay", list(server.types), len(await ROOM.apresent())))
            await follow(*args)

        monkeypatch.setattr(broker, "atrack", atrack)
        monkeypatch.setattr(groups.Membership, "follow", replay)
        async with serving(Joins(since=start)) as server:
            await until(lambda: broker.asked)
            for _ in range(10):
                await asyncio.sleep(0)
            assert order == []
            broker.acknowledge()
            await is_in(server)
            assert order == [("here", [], {}), ("replay", ["accept"], 1)]
            assert server.data == ["1", "in"]


async def test_it_is_accepted_once_the_broker_knows_that_it_is_here(monkeypatch):
    broker, told = get_broker("default"), asyncio.Event()
    track = broker.atrack

    async def atrack(*args, **kwargs):
        await told.wait()
        return await track(*args, **kwargs)

    monkeypatch.setattr(broker, "atrack", atrack)
    async with serving(Joins()) as server:
        await until(lambda: members.local()._links and not nobody_is_joined())
        for _ in range(10):
            await asyncio.sleep(0)
        assert server.types == []
        told.set()
        await is_in(server)
        assert keys(await ROOM.apresent())


async def test_in_the_block_it_is_here_and_behind_it_no_more():
    async def handler(websocket):
        async with websocket.join("room:a", "room:b", key="anna", info={"name": "Anna"}):
            seen.append(await ROOM.apresent() + await OTHER.apresent())
        await until(lambda: not members.local()._links[get_broker("default")].present)
        seen.append(await ROOM.apresent() + await OTHER.apresent())

    seen = []
    async with serving(handler) as server:
        await server.ended()
    one, other = seen[0]
    assert (one.key, one.info, one.sockets) == ("anna", {"name": "Anna"}, 1)
    assert (other.key, other.info) == ("anna", {"name": "Anna"})
    assert seen[1] == []


async def test_a_group_that_is_named_twice_has_one_socket_here():
    async with serving(Joins("room:a", "room:a", key="anna")) as server:
        await is_in(server)
        assert [one.sockets for one in await ROOM.apresent()] == [1]


async def test_a_socket_that_joins_twice_is_here_twice_under_its_key():
    async def handler(websocket):
        async with websocket.join("room:a", key="anna", info=1):
            async with websocket.join("room:a", key="anna", info=2):
                seen.append(await ROOM.apresent())
            await until(lambda: not link().present["group:room:a"].tasks())
            seen.append(await ROOM.apresent())

    def link():
        return members.local()._links[get_broker("default")]

    seen = []
    async with serving(handler) as server:
        await server.ended()
    assert [[(one.sockets, one.info) for one in them] for them in seen] == [[(2, 2)], [(1, 1)]]


async def test_groups_of_users_know_who_is_here():
    group = groups.user_group(User(pk=7))
    async with serving(Joins(group, key="anna")) as server:
        await is_in(server)
        assert keys(await group.apresent()) == ["anna"]


# What fails


async def test_a_broker_that_does_not_take_who_is_here_is_a_503_and_nothing_is_joined(monkeypatch):
    async def away(*args, **kwargs):
        raise BrokerError("away")

    broker = get_broker("default")
    async with serving(handler := Joins("room:a", "room:b")) as server:
        with monkeypatch.context() as patched:
            patched.setattr(broker, "atrack", away)
            await server.ended()
        assert server.denied is not None
        assert server.denied[0] == 503
        assert not handler.inside
        for link in members.local()._links.values():
            assert not link.groups
            for group in link.present.values():
                group.refresh()
        await until(nobody_is_joined)
    assert await ROOM.apresent() == []


async def test_a_broker_that_fails_leaves_the_socket_as_it_was(monkeypatch):
    async def away(*args, **kwargs):
        raise BrokerError("away")

    async def handler(websocket):
        broker = get_broker("default")
        with monkeypatch.context() as patched:
            patched.setattr(broker, "atrack", away)
            with pytest.raises(BrokerError, match="away"):
                async with websocket.join("room:a"):
                    raise AssertionError("joined")
        assert websocket.ready_state is WebSocketState.CONNECTING
        assert not websocket.joined
        async with websocket.join("room:a", key="anna"):
            seen.append(keys(await ROOM.apresent()))

    seen = []
    async with serving(handler) as server:
        await server.ended()
    assert seen == [["anna"]]


async def test_a_socket_that_is_over_joins_nothing():
    async def handler(websocket):
        await websocket.accept()
        await websocket.wait_closed()
        with pytest.raises(WebSocketDisconnect) as raised:
            async with websocket.join("room:a"):
                raise AssertionError("joined")
        assert raised.value.code == 1001
        assert not members.local()._links

    async with serving(handler) as server:
        await server.accepted()
        server.leave()
        await server.ended()


async def test_a_socket_that_is_over_while_it_joins_is_here_no_more():
    async with serving(Joins(), WEBSOCKET_BROKERS=LATE) as server:
        await until(lambda: late().asked)
        server.leave()
        await until(lambda: only_socket().is_over)
        late().acknowledge()
        await server.ended()
        assert server.types == []
        await until(nobody_is_joined)
        assert await ROOM.apresent() == []


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"key": 7}, TypeError),
        ({"key": b"anna"}, TypeError),
        ({"key": ""}, ValueError),
        ({"key": "x" * 201}, ValueError),
        ({"key": "\ud800"}, ValueError),
        ({"info": object()}, TypeError),
        ({"info": {1, 2}}, TypeError),
        ({"info": "x" * 1023}, ValueError),
        ({"info": float("nan")}, ValueError),
        ({"info": "\ud800"}, ValueError),
    ],
)
async def test_a_key_or_an_info_that_can_not_be_joins_nothing(wanted, error):
    async with serving(handler := Joins(**wanted)) as server:
        await server.ended()
        assert type(handler.failed) is error
        assert not handler.inside
        assert not members.local()._links


@pytest.mark.parametrize("name", ["room:a", "old:a"])
async def test_two_groups_of_one_name_can_not_be_told_apart(name):
    brokers = {
        alias: {"BACKEND": "django_ws_dispatch.brokers.memory.MemoryBroker"}
        for alias in ("default", "other")
    }
    options = {"presence": True, "history": 5, "linger": 0}
    found = {"*": options, "?*": {**options, "broker": "other"}}
    handler = Joins(name, Group(name, broker="other"))
    async with serving(handler, WEBSOCKET_BROKERS=brokers, WEBSOCKET_GROUPS=found) as server:
        await server.ended()
        assert isinstance(handler.failed, ValueError)
        assert f"Two of these groups are called '{name}'" in str(handler.failed)
        assert not members.local()._links


async def test_two_groups_of_one_name_are_joined_where_only_one_is_told_of():
    brokers = {
        alias: {"BACKEND": "django_ws_dispatch.brokers.memory.MemoryBroker"}
        for alias in ("default", "other")
    }
    handler = Joins("room:a", Group("room:a", broker="other"))
    async with serving(handler, WEBSOCKET_BROKERS=brokers) as server:
        await is_in(server)
        assert handler.failed is None


# What a client of the subprotocol is told


class Talks:
    """A handler that joins, and leaves once it is told to."""

    def __init__(self, *names, **wanted):
        self.names, self.wanted = names or ("old:a",), wanted
        self.memberships = []

    async def __call__(self, websocket):
        async for message in websocket:
            if message != "join":
                break
            async with websocket.join(*self.names, **self.wanted) as membership:
                self.memberships.append(membership)
                await websocket.send("in")
                await websocket.receive()
            await websocket.send("out")


def token(**positions):
    return encode({name.replace("_", ":"): position for name, position in positions.items()})


async def two_messages():
    """Return the positions before, between and behind."""
    return [await OLD.asend("0"), await OLD.asend("1"), await OLD.asend("2")]


async def test_the_join_is_told_then_what_was_missed_comes_and_then_the_block_is_entered():
    start, one, two = await two_messages()
    handler = Joins("old:a")
    async with speaking("events", handler, since=token(old_a=start)) as client:
        await client.sees("1", "2", "in")
        assert client.heads == [
            ["j", "old:a", start, True],
            ["m", "old:a", one],
            ["m", "old:a", two],
            None,
        ]
        assert handler.membership.recovered is True
        assert handler.membership.positions == {"old:a": two}


async def test_what_the_client_brought_is_for_the_first_join_of_a_group():
    start, *_ = await two_messages()
    handler = Talks()
    async with speaking("events", handler, since=token(old_a=start)) as client:
        client.says("\njoin", "\nleave")
        await client.sees("1", "2", "in", "out")
        position = await OLD.asend("3")
        client.says("\njoin")
        await client.sees("1", "2", "in", "out", "in")
        assert client.heads[3:] == [
            None,
            ["l", "old:a"],
            None,
            ["j", "old:a", position, None],
            None,
        ]
    assert [one.recovered for one in handler.memberships] == [True, None]


async def test_a_join_that_names_no_position_is_the_first_join_too():
    start, _, two = await two_messages()
    handler = Talks(since=None)
    async with speaking("events", handler, since=token(old_a=start)) as client:
        client.says("\njoin")
        await client.sees("in")
        assert client.heads[0] == ["j", "old:a", two, None]
        handler.wanted = {}
        client.says("\nleave", "\njoin")
        await client.sees("in", "out", "in")
        assert client.heads[-2] == ["j", "old:a", two, None]


@pytest.mark.parametrize("since", [None, "", {}, {"old:a": ""}])
async def test_an_empty_position_is_not_what_the_client_brought(since):
    start, _, two = await two_messages()
    handler = Joins("old:a", since=since)
    async with speaking("events", handler, since=token(old_a=start)) as client:
        await client.sees("in")
        assert client.heads == [["j", "old:a", two, None], None]
        assert handler.membership.recovered is None


async def test_a_position_of_the_handlers_counts_instead_of_what_the_client_brought():
    start, one, _ = await two_messages()
    handler = Joins("old:a", since=one)
    async with speaking("events", handler, since=token(old_a=start)) as client:
        await client.sees("2", "in")
        assert client.heads[0] == ["j", "old:a", one, True]


async def test_of_what_the_client_brought_only_what_is_joined_is_replayed():
    start, *_ = await two_messages()
    here, away = await ROOM.asend("0"), await OTHER.asend("0")
    for group in (ROOM, OTHER):
        await group.asend("missed")
    handler = Joins("old:a", "room:a", "bare:a", "plain")
    brought = token(old_a=start, room_b=away, room_a="gone", bare_a=here, plain=here)
    async with speaking("events", handler, since=brought) as client:
        await client.sees("1", "2", "in")
        joined = [head for head in client.heads if head and head[0] == "j"]
        assert sorted(joined) == [
            ["j", "bare:a", None, None],
            ["j", "old:a", start, True],
            ["j", "room:a", await ROOM.aposition(), False],
        ]
        assert handler.membership.lost == ["room:a"]
        assert handler.membership.recovered is False


async def test_the_newest_come_where_what_the_client_brought_is_lost():
    _, one, two = await two_messages()
    async with speaking("events", Joins("old:a", newest=1), since=token(old_a="gone")) as client:
        await client.sees("2", "in")
        assert client.heads == [["j", "old:a", one, False], ["m", "old:a", two], None]


async def test_what_the_page_excluded_from_itself_is_not_replayed_to_it():
    start = await OLD.asend("0")
    for exclude in ("former", "older"):
        await OLD.asend("own", exclude=exclude)
    last = await OLD.asend("other", exclude="another")
    brought = encode({"old:a": start}, ["older", "former"])
    async with speaking("events", Joins("old:a"), since=brought) as client:
        await client.sees("other", "in")
        assert client.heads == [["j", "old:a", start, True], ["m", "old:a", last], None]


async def test_who_speaks_another_subprotocol_begins_live():
    start, *_ = await two_messages()
    handler = Joins("old:a")
    chat = subprotocols("chat")(handler.__call__)
    brought = token(old_a=start)
    async with speaking("events", chat, since=brought, others=["chat"]) as client:
        await until(lambda: client.messages == ["in"])
        assert handler.membership.recovered is None
        assert only_socket().since == {"old:a": start}


@pytest.mark.parametrize("inner", [["room:a", "plain"], ["room:a", "room:a"]])
@pytest.mark.parametrize("outer", [["room:a"], ["room:a", "room:a"]])
async def test_a_group_that_is_joined_twice_is_told_of_once(outer, inner):
    async def handler(websocket):
        async with websocket.join(*outer):
            async with websocket.join(*inner):
                await websocket.send("in")
                await websocket.receive()
            await websocket.send("out")
            await ROOM.asend("live")
            await websocket.receive()
        await websocket.send("over")
        await websocket.wait_closed()

    async with speaking("events", handler) as client:
        await client.sees("in")
        client.says("\n", "\n")
        await client.sees("in", "out", "live", "over")
        heads = [head[0] if head else None for head in client.heads if not head or head[0] != "p"]
        assert heads == ["j", None, None, "m", "l", None]


async def test_a_join_that_waits_for_another_one_of_its_group_has_what_comes_behind_it():
    """Else the client would be at a newer position in the middle of what it has missed."""
    start, one, two = await two_messages()

    async def other(websocket):
        async with websocket.join("old:a", since=None):
            entered.set()
            await websocket.wait_closed()

    async def handler(websocket):
        await websocket.accept()
        async with asyncio.TaskGroup() as tasks:
            server_send = websocket.connection.writer.server_send

            async def slow(event):
                await server_send(event)
                if len(server.data) == 3:  # in the middle of the replay
                    tasks.create_task(other(websocket))
                    for _ in range(10):
                        await asyncio.sleep(0)
                    sent.append(await OLD.asend("live"))

            websocket.connection.writer.server_send = slow
            async with websocket.join("old:a"):
                await entered.wait()
                await websocket.send("in")
                await websocket.wait_closed()

    entered, sent = asyncio.Event(), []
    scope = {"subprotocols": offer(token(old_a=start))}
    async with serving(handler, scope=scope) as server:
        await server.sends(6)
        assert [parsed(message).head for message in server.data[1:]] == [
            ["j", "old:a", start, True],
            ["m", "old:a", one],
            ["m", "old:a", two],
            ["m", "old:a", sent[0]],
            None,
        ]


async def test_joins_of_one_group_at_tell_of_it_once():
    start, *_ = await two_messages()

    async def joins(websocket, entered):
        async with websocket.join("old:a"):
            entered.set()
            await websocket.wait_closed()

    async def handler(websocket):
        await websocket.accept()
        events = [asyncio.Event() for _ in range(3)]
        async with asyncio.TaskGroup() as tasks:
            for event in events:
                tasks.create_task(joins(websocket, event))
            for event in events:
                await event.wait()
            await OLD.asend("live")
            await websocket.send("in")

    async with speaking("events", handler, since=token(old_a=start)) as client:
        await until(lambda: "in" in client.payloads)
        heads = client.heads
        assert [head for head in heads if head and head[0] == "j"] == heads[:1]


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [(None, 1000, True), (LookupError, 1011, False), (PermissionDenied, 4403, True)],
)
async def test_a_client_forgets_its_position_where_it_will_not_come_back(raised, code, told):
    async def handler(websocket):
        async with websocket.join("old:a"):
            await websocket.send("in")
            if raised is not None:
                raise raised

    async with speaking("events", handler) as client:
        assert await client.closed() == code
        assert (["l", "old:a"] in client.heads) is told


@pytest.mark.parametrize("code", [1000, 1012, 4000])
async def test_who_is_closed_from_elsewhere_keeps_its_position(code):
    async with speaking("events", Joins("old:a")) as client:
        await client.sees("in")
        await OLD.aclose(code)
        assert await client.closed() == code
        assert client.heads == [["j", "old:a", client.heads[0][2], None], None]


async def test_a_replay_that_fails_in_the_middle_lets_the_client_keep_its_position(monkeypatch):
    for _ in range(2):
        start = await OLD.aposition()
        await OLD.asend("1")
    broker, other = get_broker("default"), await ROOM.aposition()
    await ROOM.asend("1")
    read = broker.aread

    async def aread(channel, *args, **kwargs):
        if channel == ROOM.channel:
            raise BrokerError("away")
        return await read(channel, *args, **kwargs)

    monkeypatch.setattr(broker, "aread", aread)

    async def handler(websocket):
        for _ in range(2):
            with pytest.raises(BrokerError):
                async with websocket.join("old:a", "room:a", key="anna"):
                    raise AssertionError("joined")
        await websocket.send("out")
        await websocket.wait_closed()

    brought = token(old_a=start, room_a=other)
    async with speaking("events", handler, since=brought) as client:
        await until(lambda: "out" in client.payloads)
        assert not any(head and head[0] == "l" for head in client.heads)
        assert only_socket().named == {}
        await until(nobody_is_joined)


async def test_a_group_that_is_only_a_name_is_told_of_neither_when_joined_nor_left():
    async with speaking("events", Talks("plain")) as client:
        client.says("\njoin", "\nleave")
        await client.sees("in", "out")
        assert client.heads == [None, None]


async def test_who_is_here_is_told_as_it_is_when_the_replay_begins():
    start = await ROOM.asend("0")
    async with speaking("events", Joins("room:a", key="anna"), since=token(room_a=start)) as client:
        await client.sees("in")
        payload = json.loads(client.frames[0].payload)
        assert [one["key"] for one in payload["present"]] == ["anna"]
        assert payload["count"] == 1


async def test_behind_the_block_a_client_is_told_of_nobody_any_more(monkeypatch):
    monkeypatch.setattr("django_ws_dispatch.groups.watch.TOLD_EVERY", 0.0)
    async with speaking("events", Talks("room:a", key="anna")) as client:
        client.says("\njoin")
        await client.sees("in")
        async with serving(Joins(key="bob")) as other:
            await is_in(other)
            await client.has(["p", "room:a"])
            client.says("\nleave")
            await client.sees("in", "out")
            assert client.heads[-2:] == [["l", "room:a"], None]
            count = len(client.frames)
            await ROOM.asend("not for it")
            await until(lambda: "not for it" in other.data)
        assert len(client.frames) == count


# What groups are called


class Knows:
    """A handler whose user is known, or is not."""

    def __init__(self, user, *names):
        self.user, self.names = user, names
        self.failed = None

    async def __call__(self, websocket):
        if self.user is not None:
            websocket.request.user = self.user
        try:
            async with websocket.join(*self.names) as self.membership:
                await websocket.send("in")
                await websocket.receive()
        except ValueError as exc:
            self.failed = exc


ADA, BOB = groups.user_group(User(pk=7)), groups.user_group(User(pk=8))
TWO_KINDS = {"<user>": {"history": 5}, "*": {"history": 5}}


@pytest.mark.parametrize("user", [None, User(pk=7), AnonymousUser()])
async def test_a_users_group_is_called_as_no_key_shows(user):
    with remembering(TWO_KINDS):
        start = await ADA.asend("0")
        position = await ADA.asend("missed")
        handler = Knows(user, ADA)
        async with speaking("events", handler, since=encode({"<user>": start})) as client:
            await client.sees("missed", "in")
            assert client.heads[:2] == [["j", "<user>", start, True], ["m", "<user>", position]]
            assert handler.membership.positions == {"<user>": position}
            client.says("\nleave")
            await client.has(["l", "<user>"])


async def test_another_users_group_is_called_by_its_key():
    with remembering(TWO_KINDS):
        handler = Knows(User(pk=7), ADA, BOB)
        async with speaking("events", handler) as client:
            await client.sees("in")
            position = await BOB.asend("news")
            await client.sees("in", "news")
            assert client.heads[-1] == ["m", "8", position]
            assert sorted(handler.membership.positions) == ["8", "<user>"]


async def test_one_message_to_a_user_has_the_name_that_each_client_has_for_it():
    with remembering(TWO_KINDS):
        async with (
            speaking("events", Knows(User(pk=8), BOB)) as own,
            another_socket(Knows(User(pk=7), BOB)) as other,
        ):
            await own.sees("in")
            assert await other.receive(20) == "in"
            position = await BOB.asend("news")
            await own.sees("in", "news")
            assert own.heads[-1] == ["m", "<user>", position]
            assert await other.receive_frame(20) == (["m", "8", position], "news")


@asynccontextmanager
async def another_socket(handler):
    """A second socket, of a site of its own."""
    with override_settings(WEBSOCKET_HANDLERS={"ws/": handler}):
        application = WebSocketDispatcher(no_pages)
        client = WebSocketClient(application=application)
        async with client.connect("/ws/", envelope=True) as socket:
            yield socket


@pytest.mark.parametrize(
    ("user", "names", "called"),
    [
        (None, (ADA, BOB), "<user>"),
        (AnonymousUser(), (ADA, BOB), "<user>"),
        (User(pk=7), (ADA, Group("<user>")), "<user>"),
        (User(pk=7), (BOB, Group("8")), "8"),
    ],
)
@pytest.mark.parametrize("speaks", [True, False])
async def test_users_groups_of_one_name_for_a_client_can_not_be_joined_at_once(
    user, names, called, speaks
):
    with remembering(TWO_KINDS):
        scope = {"subprotocols": offer()} if speaks else {}
        async with serving(handler := Knows(user, *names), scope=scope) as server:
            await server.ended()
            assert f"Two of these groups are called {called!r}" in str(handler.failed)
            assert not members.local()._links


@pytest.mark.parametrize("speaks", [True, False])
async def test_two_joins_of_a_socket_can_not_have_groups_of_one_name(speaks):
    async def handler(websocket):
        async with websocket.join(ADA):
            with pytest.raises(ValueError, match="Two of these groups are called '<user>'"):
                async with websocket.join(BOB):
                    raise AssertionError("joined")
            async with websocket.join(ADA):
                pass
        async with websocket.join(BOB):
            await websocket.send("in")

    with remembering(TWO_KINDS):
        scope = {"subprotocols": offer()} if speaks else {}
        async with serving(handler, scope=scope) as server:
            await server.ended()
            assert server.closed == (1000, "")


async def test_a_name_is_free_again_where_a_join_fails(monkeypatch):
    async def away(*args, **kwargs):
        raise BrokerError("away")

    async def handler(websocket):
        await websocket.accept()
        with monkeypatch.context() as patched:
            patched.setattr(type(get_broker("default")), "atop", away)
            get_broker("default").timeout = 0.05
            with pytest.raises(BrokerError):
                async with websocket.join(ADA):
                    raise AssertionError("joined")
        assert not websocket.named
        async with websocket.join(BOB):
            await websocket.send("in")
            await websocket.receive()

    with remembering(TWO_KINDS):
        async with speaking("events", handler) as client:
            await client.sees("in")
            assert client.heads == [["j", "<user>", await BOB.aposition(), None], None]


async def test_groups_that_are_only_names_may_have_one_name_for_a_client():
    async with serving(Joins(Group("7"), groups.user_group(User(pk=7)), Group("<user>"))) as server:
        await is_in(server)


# Under which key


async def test_whoever_is_not_known_has_a_key_that_is_not_its_id():
    async with serving(Joins("room:a", "room:b")) as server:
        await is_in(server)
        (one,), (other,) = await ROOM.apresent(), await OTHER.apresent()
        assert one.key == other.key
        assert only_socket().id not in one.key
        assert len(one.key) == 64
        assert one.info is None


async def test_two_whom_nobody_knows_are_two():
    with override_settings(WEBSOCKET_HANDLERS={"ws/": Joins()}):
        async with WebSocketClient().connect("/ws/"), WebSocketClient().connect("/ws/"):
            assert len(set(keys(await ROOM.apresent()))) == 2


class FakeUser:
    def __init__(self, pk, *, is_authenticated=True):
        self.pk, self.is_authenticated = pk, is_authenticated


@pytest.mark.parametrize(
    ("user", "key"),
    [
        (FakeUser(42), "42"),
        (FakeUser("anna"), "anna"),
        (FakeUser(None), None),
        (FakeUser(42, is_authenticated=False), None),
        (None, None),
    ],
)
async def test_a_user_who_is_known_is_the_key(monkeypatch, user, key):
    monkeypatch.setattr("django_ws_dispatch.websockets.WebSocket.resolved_user", user)
    async with serving(Joins()) as server:
        await is_in(server)
        (found,) = keys(await ROOM.apresent())
        assert found == key if key else len(found) == 64


@pytest.mark.parametrize(("asked", "known"), [(False, False), (True, True)])
async def test_a_user_is_the_key_where_somebody_has_asked_for_it(asked, known):
    async def knows(websocket):
        if asked:
            websocket.request.user = User(pk=42)  # as middleware does
        assert (websocket.resolved_user is None) is not known
        assert len(keys(await ROOM.apresent())) == 0

    async with serving(Joins(first=knows)) as server:
        await is_in(server)
        assert (keys(await ROOM.apresent()) == ["42"]) is known


async def test_a_key_that_the_handler_says_is_the_key(monkeypatch):
    monkeypatch.setattr("django_ws_dispatch.websockets.WebSocket.resolved_user", FakeUser(42))
    async with serving(Joins(key="x" * 200)) as server:
        await is_in(server)
        assert keys(await ROOM.apresent()) == ["x" * 200]


# Until when


HALL = Group("hall:a")


async def lingers(server):
    """Whether somebody is still here once the handler has ended."""
    await server.ended()
    # Where nobody lingers it ends by itself.
    await until(lambda: not any(group.tasks() for group in present()))
    await asyncio.sleep(0)
    here = await HALL.apresent()
    assert all(one.sockets == 0 for one in here)
    assert await HALL.acount() == len(here)
    await members.aclose()
    return bool(here)


def present():
    return [group for link in members.local()._links.values() for group in link.present.values()]


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 4000])
async def test_who_leaves_may_come_back_whatever_the_client_says(code):
    async with serving(Joins("hall:a")) as server:
        await is_in(server)
        server.leave(code)
        assert await lingers(server)


@pytest.mark.parametrize(
    ("code", "may_come_back"),
    [
        (1001, True),
        (1011, True),
        (1012, True),
        (1013, True),
        (4408, True),
        (4429, True),
        (4503, True),
        (1000, False),
        (1008, False),
        (4000, False),
        (4401, False),
        (4403, False),
        (4404, False),
    ],
)
@pytest.mark.parametrize("how", ["websocket.close()", "Group.aclose()", "a kick"])
async def test_who_is_closed_may_come_back_where_its_code_says_so(how, code, may_come_back):
    async def closes(websocket):
        async with websocket.join("hall:a"):
            await websocket.send("in")
            await go.wait()
            await websocket.close(code)

    go = asyncio.Event()
    async with serving(closes if how == "websocket.close()" else Joins("hall:a")) as server:
        await is_in(server)
        if how == "Group.aclose()":
            await HALL.aclose(code)
        elif how == "a kick":
            only_socket().kick(code)
        go.set()
        assert await lingers(server) is may_come_back
        assert server.closed[0] == code


async def test_who_leaves_the_block_with_an_open_socket_has_left():
    async def handler(websocket):
        async with websocket.join("hall:a"):
            pass
        await websocket.send("in")
        await websocket.wait_closed()

    async with serving(handler) as server:
        await is_in(server)
        await until(lambda: not present())
        assert await HALL.apresent() == []
        server.leave()
        assert not await lingers(server)


async def test_who_is_closed_by_the_end_of_its_handler_has_left():
    async def handler(websocket):
        async with websocket.join("hall:a"):
            await websocket.send("in")

    async with serving(handler) as server:
        assert not await lingers(server)
        assert server.closed == (1000, "")


@pytest.mark.parametrize(("fails", "may_come_back"), [(False, False), (True, True)])
async def test_the_end_of_a_handler_ends_a_join_that_it_has_not_left(
    fails, may_come_back, caplog, monkeypatch
):
    async def handler(websocket):
        context = websocket.join("hall:a")
        await context.__aenter__()
        kept.append(context)
        if fails:
            raise LookupError

    kept = []
    async with serving(handler) as server:
        assert await lingers(server) is may_come_back
        await kept[0].__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("raised", "code", "may_come_back"),
    [
        (LookupError, 1011, True),
        (BrokerError, 1011, True),
        (PermissionDenied, 4403, False),
        (Http404, 4404, False),
    ],
)
async def test_who_is_closed_since_its_handler_failed_may_come_back(raised, code, may_come_back):
    async def handler(websocket):
        async with websocket.join("hall:a"):
            await websocket.send("in")
            raise raised

    async with serving(handler) as server:
        assert await lingers(server) is may_come_back
        assert server.closed[0] == code


async def test_who_is_closed_since_its_server_stops_may_come_back():
    async def handler(websocket):
        async with websocket.join("hall:a"):
            await websocket.send("in")
            await asyncio.Event().wait()

    async with serving(handler) as server:
        await is_in(server)
        server.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server.ended()
        assert server.closed[0] == 1012
        await until(lambda: not any(group.tasks() for group in present()))
        assert [one.sockets for one in await HALL.apresent()] == [0]
        await asyncio.sleep(0)
        await members.aclose()


async def test_a_replay_that_fails_leaves_the_socket_open_and_nobody_here(monkeypatch):
    start = await BOTH.asend("0")
    await BOTH.asend("1")

    async def away(*args, **kwargs):
        raise BrokerError("away")

    monkeypatch.setattr(groups.Membership, "follow", away)

    async def handler(websocket):
        with pytest.raises(BrokerError, match="away"):
            async with websocket.join("both:a", since=start):
                raise AssertionError("joined")
        assert websocket.ready_state is WebSocketState.OPEN
        assert not websocket.joined
        await until(nobody_is_joined)

    async with serving(handler) as server:
        await server.ended()
    assert await BOTH.apresent() == []
