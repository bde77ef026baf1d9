"""What joining does, in its order; who is here then, under which key, and until when."""

from __future__ import annotations

import asyncio

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.test import override_settings

from django_ws_dispatch import groups
from django_ws_dispatch.brokers import get_broker
from django_ws_dispatch.exceptions import BrokerError, WebSocketDisconnect
from django_ws_dispatch.groups import Group, members
from django_ws_dispatch.testing import WebSocketClient
from django_ws_dispatch.websockets import WebSocketState

from ..kit.fake_server import only_socket, serving
from ..kit.late_broker import LATE, late
from ..kit.remembering import remembering
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio

ROOM, OTHER, OLD = Group("room:a"), Group("room:b"), Group("both:a")


@pytest.fixture(autouse=True)
def _groups(monkeypatch):
    monkeypatch.setattr(groups.group, "unheard", False)
    with remembering(
        {
            "room:*": {"presence": True, "history": 5, "linger": 0},
            "hall:*": {"presence": True, "linger": 300},
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
    start = await OLD.asend("0")
    await OLD.asend("1")

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
    assert await OLD.apresent() == []
