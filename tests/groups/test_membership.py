"""Joining a group that remembers: what was missed comes first, or is told to be gone. And who joins
one that knows who is here.
"""

from __future__ import annotations

import asyncio
import datetime
import decimal
import uuid
from types import SimpleNamespace

import pytest
from django.test import override_settings

from django_ws_dispatch.brokers import get_broker
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group, members
from django_ws_dispatch.groups.membership import MOST_INFO, MOST_KEY, Membership, who, wishes
from django_ws_dispatch.testing import WebSocketClient

from ..kit.fake_server import serving
from ..kit.members import FakeMember
from ..kit.remembering import joined, remembering
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


async def test_what_is_forgotten_while_the_newest_are_replayed_is_told():
    for number in range(3):
        await ROOM.asend(str(number))
    got = []

    async def send(message):
        if not got:
            get_broker("default")._history._channels.clear()
            await ROOM.asend("of a new memory")
        got.append(message.data)

    group = await joined(FakeMember(), ROOM)
    membership, wanted = Membership(), wishes(["room:a"], None, 2, None)
    begins = await membership.begin("room:a", group, wanted)
    await membership.follow("room:a", group, begins, wanted, send, "")
    assert got[:2] == ["1", "2"]
    assert (membership.recovered, membership.lost) == (False, ["room:a"])


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


async def test_two_gaps_in_one_turn_are_counted_and_told_as_one():
    group = SimpleNamespace(position="1.2-3", on_gap={})
    membership = Membership()
    for _ in range(2):
        membership.entered("room:a", group)
    (tell,) = group.on_gap
    waiting = asyncio.ensure_future(membership.gap())
    await asyncio.sleep(0)
    tell()
    tell()
    assert await waiting == "room:a"
    assert membership.gaps == {"room:a": 2}
    membership.end()
    assert group.on_gap == {}


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
        wishes(["room:a", "room:b"], "1.2-3", 0, None)
    with pytest.raises(ValueError, match="one group"):
        wishes(["room:a", "room:b"], None, 0, "1.2-3")


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


# A client that is told


class Client:
    """What one who joins is told, and what it is sent, in their order.

    Args:
        then: is done once, behind so many of them.
    """

    def __init__(self, then=None, behind=0):
        self.got, self._then, self._behind = [], then, behind

    async def _take(self, one):
        self.got.append(one)
        if self._then is not None and len(self.got) == self._behind:
            await self._then()

    async def joined(self, position, recovered):
        await self._take(("j", position, recovered))

    async def lost(self, position):
        await self._take(("g", position))

    async def send(self, message):
        await self._take((message.data, message.position))


async def follows(client, since=None, *, newest=0, not_before=None, ids=""):
    """Return the membership of one who has joined, and its group."""
    group = await joined(FakeMember(), ROOM)
    membership = Membership()
    wanted = wishes(["room:a"], since, newest, not_before)
    begins = await membership.begin("room:a", group, wanted)
    await membership.follow("room:a", group, begins, wanted, client.send, ids, client)
    return membership, group


async def test_a_client_is_told_where_the_replay_begins_in_front_of_it():
    start = await ROOM.asend("0")
    one, two = await ROOM.asend("1"), await ROOM.asend("2")
    membership, _ = await follows(client := Client(), start)
    assert client.got == [("j", start, True), ("1", one), ("2", two)]
    assert membership.recovered is True


async def test_a_client_that_has_all_is_told_so():
    start = await ROOM.asend("0")
    membership, group = await follows(client := Client(), start)
    assert client.got == [("j", start, True)]
    assert group.position == start
    assert membership.recovered is True


async def test_a_client_whose_position_is_lost_is_told_where_it_goes_on():
    await ROOM.asend("0")
    top = await ROOM.asend("1")
    membership, _ = await follows(client := Client(), "gone")
    assert client.got == [("j", top, False)]
    assert (membership.recovered, membership.lost) == (False, ["room:a"])


async def test_a_client_that_asks_for_the_newest_is_told_what_is_before_them():
    positions = [await ROOM.asend(str(number)) for number in range(4)]
    newest = [("2", positions[2]), ("3", positions[3])]
    membership, _ = await follows(client := Client(), newest=2)
    assert client.got == [("j", positions[1], None), *newest]
    assert membership.recovered is None
    await follows(client := Client(), "gone", newest=2)
    assert client.got == [("j", positions[1], False), *newest]


async def test_a_client_is_told_of_not_before_where_its_position_is_older():
    positions = [await ROOM.asend(str(number)) for number in range(4)]
    await follows(client := Client(), positions[0], not_before=positions[2])
    assert client.got == [("j", positions[2], True), ("3", positions[3])]
    await follows(client := Client(), newest=4, not_before=positions[2])
    assert client.got == [("j", positions[2], None), ("3", positions[3])]


async def test_a_position_that_is_before_what_is_left_out_is_told():
    start = await ROOM.asend("0")
    await ROOM.asend("own", exclude="me")
    await ROOM.asend("former", exclude="earlier")
    last = await ROOM.asend("other", exclude="you")
    await follows(client := Client(), start, ids=("me", "earlier"))
    assert client.got == [("j", start, True), ("other", last)]


async def test_what_is_sent_while_the_client_is_told_is_replayed():
    sent = []

    async def send():
        sent.append(await ROOM.asend("meanwhile"))

    start = await ROOM.asend("0")
    _, group = await follows(client := Client(send, 1), start)
    assert client.got == [("j", start, True), ("meanwhile", sent[0])]
    assert group.position == sent[0]
    _, group = await follows(client := Client(send, 1), newest=0)
    assert client.got == [("j", sent[0], None), ("meanwhile", sent[1])]


async def test_a_client_is_told_of_a_loss_in_the_middle_of_the_replay():
    positions = []

    async def forget():
        get_broker("default")._history._channels.clear()
        positions.append(await ROOM.asend("of a new memory"))

    start = await ROOM.asend("0")
    one = await ROOM.asend("1")
    await ROOM.asend("2")
    membership, group = await follows(client := Client(forget, 2), start)
    assert client.got[:2] == [("j", start, True), ("1", one)]
    assert client.got[-1] == ("g", positions[0])
    assert group.position == positions[0]
    assert (membership.recovered, membership.lost) == (False, ["room:a"])


async def test_behind_a_loss_in_the_middle_the_newest_come():
    positions = []

    async def forget():
        get_broker("default")._history._channels.clear()
        positions.extend([await ROOM.asend("new 1"), await ROOM.asend("new 2")])

    for number in range(3):
        await ROOM.asend(str(number))
    membership, _ = await follows(client := Client(forget, 2), newest=1)
    assert client.got[0][::2] == ("j", None)
    assert client.got[-2:] == [("g", positions[0]), ("new 2", positions[1])]
    assert (membership.recovered, membership.lost) == (False, ["room:a"])


async def test_a_loss_while_the_client_is_told_is_told_behind_it():
    positions = []

    async def forget():
        get_broker("default")._history._channels.clear()
        positions.append(await ROOM.asend("of a new memory"))

    start = await ROOM.asend("0")
    membership, group = await follows(client := Client(forget, 1), start)
    assert client.got == [("j", start, True), ("g", positions[0])]
    assert group.position == positions[0]
    assert membership.recovered is False


async def test_a_store_that_does_not_answer_leaves_a_client_untold(monkeypatch):
    async def away(*args, **kwargs):
        raise BrokerError("away")

    start = await ROOM.asend("0")
    await ROOM.asend("1")
    group = await joined(FakeMember(), ROOM)
    monkeypatch.setattr(get_broker("default"), "aread", away)
    client, membership, wanted = Client(), Membership(), wishes(["room:a"], start, 0, None)
    begins = await membership.begin("room:a", group, wanted)
    with pytest.raises(BrokerError):
        await membership.follow("room:a", group, begins, wanted, client.send, "", client)
    assert client.got == []


async def test_positions_are_by_the_names_that_the_client_has():
    assert wishes(["<user>"], "1.2-3", 0, None).since == {"<user>": "1.2-3"}
    assert wishes(["<user>"], {"<user>": "1.2-3", "7": ""}, 0, None).since == {"<user>": "1.2-3"}


# Who joins


async def test_who_says_nothing_has_no_key_and_null_for_others():
    assert who(None, None) == (None, "null")


@pytest.mark.parametrize("key", ["a", "x" * MOST_KEY, "\u00e9" * MOST_KEY, "\0", " ", "{a}"])
async def test_a_key_is_any_text_of_so_many_characters(key):
    assert who(key, None).key == key


@pytest.mark.parametrize("key", [7, b"anna", ["anna"], True, object()])
async def test_a_key_of_another_type_is_named_with_a_remedy(key):
    with pytest.raises(TypeError, match=rf"key is a str, not {type(key).__name__}: say, str\(user"):
        who(key, None)


@pytest.mark.parametrize("key", ["", "x" * (MOST_KEY + 1), "a\ud800"])
async def test_a_key_that_is_too_long_empty_or_no_unicode_is_an_error(key):
    with pytest.raises(ValueError, match=f"key has 1 to {MOST_KEY} characters") as raised:
        who(key, None)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("info", "encoded"),
    [
        (
            {"name": "Zo\u00eb", "n": [1, 2.5, None, True]},
            '{"name":"Zo\u00eb","n":[1,2.5,null,true]}',
        ),
        (0, "0"),
        (False, "false"),
        ("", '""'),
        ([], "[]"),
        (decimal.Decimal("1.10"), '"1.10"'),
        (uuid.UUID(int=7), '"00000000-0000-0000-0000-000000000007"'),
        (datetime.date(2026, 1, 2), '"2026-01-02"'),
    ],
)
async def test_an_info_is_encoded_as_django_encodes_it(info, encoded):
    assert who(None, info).info == encoded


async def test_an_info_is_measured_in_bytes_of_its_json():
    assert len(who(None, "x" * (MOST_INFO - 2)).info) == MOST_INFO
    assert who(None, "\u00e9" * (MOST_INFO // 2 - 1)).info
    for info in ("x" * (MOST_INFO - 1), "\u00e9" * (MOST_INFO // 2)):
        with pytest.raises(ValueError, match=f"at most {MOST_INFO} bytes of JSON, not 102"):
            who(None, info)


async def test_an_info_that_is_no_json_is_an_error():
    for info in (object(), {1, 2}, b"x"):
        with pytest.raises(TypeError, match="not JSON serializable"):
            who(None, info)
    for info in (float("inf"), float("nan")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            who(None, info)
    with pytest.raises(ValueError, match="surrogate"):
        who(None, "\ud800")
    endless = []
    endless.append(endless)
    with pytest.raises(ValueError, match="Circular"):
        who(None, endless)
    deep = []
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deeply"):
        who(None, deep)
    while deep:  # else the garbage collector nests as deep
        deep = deep.pop()


# Others see it


PRESENT = {"room:*": {"presence": True, "linger": 0}, "old:*": {"history": 5}}


def infos(found):
    return [(one.key, one.info, one.sockets) for one in found]


class Tells:
    """A handler that shows others what its client says; what it can not show it says back."""

    def __init__(self, *names, **wanted):
        self.names, self.wanted = names or ("room:a",), wanted
        self.membership = None

    async def __call__(self, websocket):
        async with websocket.join(*self.names, **self.wanted) as self.membership:
            await websocket.send("in")
            async for message in websocket:
                try:
                    await self.membership.update({"says": message})
                except Exception as exc:
                    await websocket.send(f"{type(exc).__name__}: {exc}")
                else:
                    await websocket.send("told")


async def test_an_update_is_seen_in_all_groups_that_know_who_is_here(settings):
    settings.WEBSOCKET_GROUPS = PRESENT
    handler = Tells("room:a", "room:b", "old:a", "plain", key="anna")
    async with serving(handler) as server:
        await has(server, "in")
        assert infos(await ROOM.apresent()) == [("anna", None, 1)]
        server.message("busy")
        await has(server, "in", "told")
        for group in (ROOM, OTHER):
            assert infos(await group.apresent()) == [("anna", {"says": "busy"}, 1)]


async def test_of_several_sockets_of_a_key_the_newest_counts(settings):
    settings.WEBSOCKET_GROUPS = PRESENT
    first, second = Tells(key="anna", info=1), Tells(key="anna", info=2)
    async with serving(None, route={"ws/1/": first, "ws/2/": second}, started=False):
        client = WebSocketClient()
        async with client.connect("/ws/1/") as one, client.connect("/ws/2/") as two:
            assert await one.receive() == await two.receive() == "in"
            assert infos(await ROOM.apresent()) == [("anna", 2, 2)]
            await one.send("busy")
            assert await one.receive() == "told"
            assert infos(await ROOM.apresent()) == [("anna", {"says": "busy"}, 2)]


@pytest.mark.parametrize(
    ("message", "error"), [("x" * MOST_INFO, "ValueError: info has at most"), ("", "told")]
)
async def test_an_update_that_is_too_large_changes_nothing(settings, message, error):
    settings.WEBSOCKET_GROUPS = PRESENT
    async with serving(Tells(key="anna", info="old")) as server:
        await has(server, "in")
        server.message(message)
        await until(lambda: len(texts(server)) == 2)
        assert texts(server)[1].startswith(error)
        shown = "old" if message else {"says": ""}
        assert infos(await ROOM.apresent()) == [("anna", shown, 1)]


async def test_an_update_behind_the_block_is_an_error(settings):
    settings.WEBSOCKET_GROUPS = PRESENT
    async with serving(handler := Tells(key="anna")) as server:
        await has(server, "in")
        server.leave()
        await server.ended()
        with pytest.raises(RuntimeError, match="block of this join"):
            await handler.membership.update("late")


@pytest.mark.parametrize("names", [("plain",), ("old:a", "plain")])
async def test_an_update_where_nobody_knows_who_is_here_names_the_setting(settings, names):
    settings.WEBSOCKET_GROUPS = PRESENT
    async with serving(Tells(*names)) as server:
        await has(server, "in")
        server.message("busy")
        await until(lambda: len(texts(server)) == 2)
        assert texts(server)[1].startswith("ValueError: None of these groups knows who is here.")
        assert "WEBSOCKET_GROUPS" in texts(server)[1]
    with pytest.raises(ValueError, match="None of these groups"):
        await Membership().update(1)
    with pytest.raises(TypeError, match="not JSON serializable"):
        await Membership().update(object())


async def test_an_update_that_the_broker_does_not_take_is_told_again(settings, monkeypatch):
    async def away(*args, **kwargs):
        raise BrokerError("away")

    settings.WEBSOCKET_GROUPS = PRESENT
    async with serving(Tells(key="anna")) as server:
        await has(server, "in")
        with monkeypatch.context() as patched:
            patched.setattr(get_broker("default"), "atrack", away)
            server.message("busy")
            await has(server, "in", "BrokerError: away")
        (link,) = members.local()._links.values()
        link.present[ROOM.channel].refresh()
        await until(lambda: not link.present[ROOM.channel].tasks())
        assert infos(await ROOM.apresent()) == [("anna", {"says": "busy"}, 1)]
