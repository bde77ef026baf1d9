"""Joining a group that remembers: what was missed comes first, or is told to be gone."""

from __future__ import annotations

import asyncio

import pytest
from django.test import override_settings

from django_ws_dispatch.brokers import get_broker
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group, members
from django_ws_dispatch.groups.membership import wishes
from django_ws_dispatch.testing import WebSocketClient

from ..kit.fake_server import serving
from ..kit.remembering import remembering
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio

ROOM, OTHER, PLAIN = Group("room:a"), Group("room:b"), Group("plain")


@pytest.fixture(autouse=True)
def _groups():
    with remembering({"room:*": {"history": 5}}):
        yield


class Joins:
    """A handler that joins as it is told, and says what came of it."""

    def __init__(self, *names, **wanted):
        self.names, self.wanted = names or ("room:a",), wanted
        self.membership = None
        self.failed = None

    async def __call__(self, websocket):
        try:
            async with websocket.join(*self.names, **self.wanted) as self.membership:
                await websocket.send("in")
                await websocket.wait_closed()
        except (TypeError, ValueError) as exc:
            self.failed = exc


def texts(server):
    return [event["text"] for event in server.sent if event["type"] == "websocket.send"]


async def has(server, *expected):
    await until(lambda: len(texts(server)) >= len(expected))
    assert texts(server) == list(expected)


async def test_what_was_sent_behind_a_position_comes_before_the_block_is_entered():
    start = await ROOM.asend("0")
    await ROOM.asend("1")
    end = await ROOM.asend("2")
    async with serving(handler := Joins(since=start)) as server:
        await has(server, "1", "2", "in")
        assert server.types[0] == "accept"
        await ROOM.asend("3")
        await has(server, "1", "2", "in", "3")
        assert handler.membership.recovered is True
        assert handler.membership.lost == []
        assert handler.membership.positions == {"room:a": end}
        assert handler.membership.gaps == {"room:a": 0}


async def test_who_asks_for_nothing_begins_live():
    await ROOM.asend("0")
    async with serving(handler := Joins("room:a", "plain")) as server:
        await has(server, "in")
        position = await ROOM.aposition()
        await PLAIN.asend("plain")
        await ROOM.asend("1")
        await has(server, "in", "plain", "1")
        assert handler.membership.recovered is None
        assert handler.membership.positions == {"room:a": position}


@pytest.mark.parametrize("since", [None, "", {}, {"room:a": ""}, {"room:a": None}])
async def test_an_empty_position_asks_for_nothing(since):
    await ROOM.asend("0")
    async with serving(handler := Joins(since=since)) as server:
        await has(server, "in")
        assert handler.membership.recovered is None


@pytest.mark.parametrize("since", ["garbled", "1.2-3", "\0" * 100, "9" * 16 + ".0-0"])
async def test_a_position_that_nobody_knows_is_lost(since):
    await ROOM.asend("0")
    async with serving(handler := Joins(since=since)) as server:
        await has(server, "in")
        assert handler.membership.recovered is False
        assert handler.membership.lost == ["room:a"]


async def test_a_position_that_is_too_old_is_lost_and_never_a_part_that_looks_whole():
    start = await ROOM.asend("0")
    for number in range(6):
        await ROOM.asend(str(number))
    async with serving(handler := Joins(since=start)) as server:
        await has(server, "in")
        assert handler.membership.recovered is False


async def test_the_newest_come_where_there_is_no_position_or_a_lost_one():
    for number in range(4):
        await ROOM.asend(str(number))
    async with serving(handler := Joins(newest=2)) as server:
        await has(server, "2", "3", "in")
        assert handler.membership.recovered is None
    async with serving(handler := Joins(newest=2, since="gone")) as server:
        await has(server, "2", "3", "in")
        assert handler.membership.recovered is False
    async with serving(handler := Joins(newest=2, since=await ROOM.aposition())) as server:
        await has(server, "in")
        assert handler.membership.recovered is True
    async with serving(handler := Joins(newest=100)) as server:
        await has(server, "0", "1", "2", "3", "in")


async def test_nothing_is_older_than_not_before():
    positions = [await ROOM.asend(str(number)) for number in range(4)]
    async with serving(handler := Joins(newest=4, not_before=positions[1])) as server:
        await has(server, "2", "3", "in")
    async with serving(handler := Joins(since=positions[0], not_before=positions[1])) as server:
        await has(server, "2", "3", "in")
        assert handler.membership.recovered is True


async def test_several_groups_have_a_position_each():
    a, b = await ROOM.asend("a0"), await OTHER.aposition()
    await ROOM.asend("a1")
    await OTHER.asend("b1")
    since = {"room:a": a, "room:b": b, "room:unknown": "1.2-3"}
    async with serving(handler := Joins("room:a", "room:b", since=since)) as server:
        await until(lambda: "in" in texts(server))
        assert sorted(texts(server)) == ["a1", "b1", "in"]
        assert handler.membership.recovered is True


async def test_what_a_client_missed_goes_out_behind_the_accept_with_what_comes_live():
    start = await ROOM.aposition()
    await ROOM.asend("0")

    async def handler(websocket):
        async with websocket.join("room:a", since=start):
            await websocket.wait_closed()

    async with serving(handler) as server:
        sending = [asyncio.ensure_future(ROOM.asend(str(number))) for number in (1, 2)]
        await asyncio.gather(*sending)
        await has(server, "0", "1", "2")


async def test_a_gap_is_counted_and_told(caplog, monkeypatch):
    monkeypatch.setattr("django_ws_dispatch.groups.kept._warned_at", {})
    async with serving(handler := Joins()) as server:
        await has(server, "in")
        waiting = asyncio.ensure_future(handler.membership.gap())
        await asyncio.sleep(0)
        get_broker("default")._history._channels.clear()
        await ROOM.asend("of a new memory")
        assert await waiting == "room:a"
        assert handler.membership.gaps == {"room:a": 1}
        await ROOM.asend("live")
        await until(lambda: texts(server)[-1] == "live")
    assert "stay" in caplog.text


async def test_a_gap_that_nobody_waited_for_is_told_at_once():
    async with serving(handler := Joins()) as server:
        await has(server, "in")
        for count in (1, 2):
            get_broker("default")._history._channels.clear()
            await ROOM.asend("of a new memory")
            await until(lambda count=count: handler.membership.gaps == {"room:a": count})
        assert await handler.membership.gap() == "room:a"
        waiting = asyncio.ensure_future(handler.membership.gap())
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()


@pytest.mark.parametrize(
    "wanted",
    [
        {"since": 1},
        {"since": ["x"]},
        {"since": {"room:a": 1}},
        {"newest": -1},
        {"newest": True},
        {"newest": "1"},
        {"not_before": "garbled"},
        {"not_before": 1},
    ],
)
async def test_a_wrong_argument_joins_nothing(wanted):
    async with serving(handler := Joins(**wanted)) as server:
        await until(lambda: handler.failed is not None or server.sent)
        assert handler.failed is not None
        assert not members.local()._links


async def test_a_position_of_one_group_is_not_one_of_several():
    with pytest.raises(ValueError, match="mapping"):
        wishes([ROOM, OTHER], "1.2-3", 0, None)
    with pytest.raises(ValueError, match="one group"):
        wishes([ROOM, OTHER], None, 0, "1.2-3")


async def test_nobody_is_left_behind_when_the_socket_goes():
    start = await ROOM.asend("0")
    async with serving(Joins("room:a", "plain", since={"room:a": start})) as server:
        await has(server, "in")
        (link,) = members.local()._links.values()
        assert link.kept
    assert not link.kept
    assert not link.groups


async def test_a_group_that_can_not_say_where_it_stands_is_a_failure_of_the_broker(monkeypatch):
    async def away(*args, **kwargs):
        raise BrokerError("away")

    monkeypatch.setattr(type(get_broker("default")), "atop", away)
    get_broker("default").timeout = 0.05
    async with serving(Joins()) as server:
        await until(lambda: server.sent)
        assert server.sent[0]["status"] == 503
        for link in members.local()._links.values():
            assert not link.groups


async def test_the_test_client_sees_what_is_replayed():
    start = await ROOM.asend("0")
    await ROOM.asend("1")

    async def handler(websocket):
        async with websocket.join("room:a", since=start):
            await websocket.wait_closed()

    with override_settings(WEBSOCKET_HANDLERS={"ws/": handler}):
        async with WebSocketClient().connect("/ws/") as socket:
            assert await socket.receive() == "1"
            await ROOM.asend("2")
            assert await socket.receive() == "2"


async def test_a_group_that_is_named_twice_tells_of_a_gap_once():
    async with serving(handler := Joins("room:a", "room:a")) as server:
        await has(server, "in")
        get_broker("default")._history._channels.clear()
        await ROOM.asend("of a new memory")
        await until(lambda: any(handler.membership.gaps.values()))
        assert handler.membership.gaps == {"room:a": 1}
