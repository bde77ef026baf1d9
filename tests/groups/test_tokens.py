"""Where a page is in its groups, as it travels; what a client may bring instead."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.exceptions import SynchronousOnlyOperation

from django_ws_dispatch.brokers import get_broker
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group, asince_token, since_token, user_group
from django_ws_dispatch.groups.tokens import MOST_BYTES, NOTHING, Brought, decode, encode

from ..kit.remembering import remembering

ROOM, OTHER = Group("room:a"), Group("room:b")


@pytest.fixture(autouse=True)
def _groups():
    with remembering(
        {"room:*": {"history": 5}, "hall:*": {"presence": True}, "<user>": {"history": 5}}
    ):
        yield


def token_of(value):
    """Any JSON as a token; a ``str`` is JSON already."""
    text = value if isinstance(value, str) else json.dumps(value)
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


# What a client brings


@pytest.mark.parametrize("ids", [(), ("one",), tuple("abcdefgh")])
def test_a_token_says_what_was_put_in(ids):
    positions = {"room:a": "1.2-3", "<user>": "4.5-6", 'caf\u00e9 "\n': "7.8-9"}
    token = encode(positions, ids)
    assert token.isascii()
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert decode(token) == Brought(positions, ids)


def test_a_token_has_the_newest_ids():
    assert decode(encode({}, [str(number) for number in range(20)])).ids == tuple(
        str(number) for number in range(12, 20)
    )
    many = {"": [str(number) for number in range(20)]}
    assert decode(token_of(many)).ids == tuple(str(number) for number in range(12, 20))


def test_a_token_of_nothing_is_one_that_says_nothing():
    assert decode(encode({})) == decode("") == NOTHING


@pytest.mark.parametrize("length", range(1, 5))
def test_a_token_has_no_padding(length):
    token = encode({"a" * length: "1"})
    assert "=" not in token
    assert decode(token).positions == {"a" * length: "1"}


@pytest.mark.parametrize(
    "token",
    [
        "!",
        "a",
        "e30\u00e9",
        "e30+/",
        "e 30",
        "\0",
        "=" * 7,
        "_w",  # no UTF-8
        token_of("nothing"),
        token_of("{"),
        token_of('{"a": "1'),
        token_of([{"a": "1.2-3"}]),
        token_of("null"),
        token_of("7"),
        token_of('"{}"'),
        token_of("1" * 4000),
        token_of("[" * 4000),
        token_of('{"a":' * 800),
        "A" * (1024 * 1024),
        "=" * (1024 * 1024),
    ],
    ids=range(20),
)
def test_a_token_that_can_not_be_read_is_as_good_as_none(token):
    assert decode(token) == NOTHING


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"a": 1, "b": "1.2-3"}, Brought({"b": "1.2-3"})),
        ({"a": None, "b": ["x"], "c": {"d": "e"}, "f": True}, NOTHING),
        ({"a": ""}, NOTHING),
        ({"": "one"}, NOTHING),
        ({"": {"one": 1}}, NOTHING),
        ({"": ["one", 2, None, ["x"], "two"]}, Brought({}, ("one", "two"))),
        ('{"a":"1","a":"2"}', Brought({"a": "2"})),
        ('{"a":NaN,"b":Infinity}', NOTHING),
        ('{"\\ud800":"\\udfff"}', Brought({"\ud800": "\udfff"})),
    ],
)
def test_what_a_token_has_of_other_types_is_left_out(value, found):
    assert decode(token_of(value)) == found


def test_a_token_that_is_too_long_is_not_read():
    short = {"a": "x" * (MOST_BYTES - len('{"a":""}'))}
    assert decode(token_of(json.dumps(short, separators=(",", ":")))).positions == short
    long = {"a": short["a"] + "x"}
    assert decode(token_of(json.dumps(long, separators=(",", ":")))) == NOTHING


def test_a_token_that_would_be_too_long_is_an_error_that_says_so():
    assert len(encode({"a": "x" * 3064})) == MOST_BYTES
    with pytest.raises(ValueError, match="1 groups make a token of 4100 characters"):
        encode({"a": "x" * 3065})
    positions = {f"room:{number}": "1790000000000.1790000000000-0" for number in range(100)}
    with pytest.raises(ValueError, match=r"100 groups .* take one for fewer groups"):
        encode(positions)


# Where groups stand now


def test_a_page_has_a_token_of_where_its_groups_stand():
    assert ROOM.send("0") == ROOM.position()
    token = since_token("room:a", OTHER)
    assert decode(token) == Brought({"room:a": ROOM.position(), "room:b": OTHER.position()})


def test_the_token_of_now_has_what_comes_behind_it():
    token = since_token(ROOM)
    ROOM.send("1")
    history = ROOM.history(decode(token).positions["room:a"])
    assert ([one.data for one in history.messages], history.complete) == (["1"], True)


@pytest.mark.asyncio
async def test_a_page_that_is_async_has_it_too():
    await ROOM.asend("0")
    token = await asince_token(ROOM, "room:b")
    assert decode(token) == Brought(
        {"room:a": await ROOM.aposition(), "room:b": await OTHER.aposition()}
    )
    assert token == await sync_to_async(since_token)("room:a", "room:b")


def test_a_users_group_is_called_as_its_client_calls_it():
    group = user_group(User(pk=7))
    assert decode(since_token(group)).positions == {"<user>": group.position()}


def test_a_group_that_is_named_twice_is_in_it_once():
    assert decode(since_token("room:a", ROOM)).positions == {"room:a": ROOM.position()}


@pytest.mark.parametrize("name", ["plain", "hall:a"])
def test_a_group_without_history_is_an_error_that_names_the_setting(name):
    with pytest.raises(ValueError, match="WEBSOCKET_GROUPS"):
        since_token("room:a", name)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["plain", "hall:a"])
async def test_a_group_without_history_is_one_in_async_code(name):
    with pytest.raises(ValueError, match="WEBSOCKET_GROUPS"):
        await asince_token("room:a", name)


@pytest.mark.parametrize(
    "groups",
    [
        (user_group(User(pk=7)), user_group(User(pk=8))),
        (ROOM, Group("room:a", broker="other")),
    ],
)
def test_two_groups_of_one_name_are_an_error(groups):
    with pytest.raises(ValueError, match="Two of these groups are called"):
        since_token(*groups)
    with pytest.raises(ValueError, match="Two of these groups are called"):
        asyncio.run(asince_token(*groups))


def test_so_many_groups_that_no_handshake_carries_them_are_an_error():
    with pytest.raises(ValueError, match="take one for fewer groups"):
        since_token(*[f"room:{number:0100}" for number in range(60)])


@pytest.mark.asyncio
async def test_where_a_loop_runs_the_sync_one_is_an_error():
    with pytest.raises(SynchronousOnlyOperation, match="asince_token"):
        since_token(ROOM)


def lines(caplog):
    return [(record.levelname, record.getMessage()) for record in caplog.records]


AWAY = [("WARNING", "A page is served without a token, and may miss messages: away")]


def test_a_broker_that_is_away_is_one_line_of_the_log_and_no_token(caplog, monkeypatch):
    def away(*args, **kwargs):
        raise BrokerError("away")

    monkeypatch.setattr(get_broker("default"), "top", away)
    assert since_token("room:a", "room:b") == ""
    assert lines(caplog) == AWAY


@pytest.mark.asyncio
async def test_a_broker_that_is_away_is_one_line_in_async_code(caplog, monkeypatch):
    async def away(*args, **kwargs):
        raise BrokerError("away")

    monkeypatch.setattr(get_broker("default"), "atop", away)
    assert await asince_token("room:a", "room:b") == ""
    assert lines(caplog) == AWAY
