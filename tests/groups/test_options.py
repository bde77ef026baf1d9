"""``WEBSOCKET_GROUPS``: which pattern fits a group, what is kept then, and who is known."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_ws_dispatch.brokers.history import Keep
from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.brokers.presence import Listed
from django_ws_dispatch.conf import MEMORY_BROKER, Conf
from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.groups import Group, group
from django_ws_dispatch.groups.options import GroupOptions, load_groups, options_of

from ..kit.fake_server import no_pages


class Forgetful(MemoryBroker):
    has_history = False


class Blind(MemoryBroker):
    has_presence = False


BROKERS = {
    "default": {"BACKEND": MEMORY_BROKER},
    "other": {"BACKEND": MEMORY_BROKER},
    "plain": {"BACKEND": f"{__name__}.Forgetful"},
    "blind": {"BACKEND": f"{__name__}.Blind"},
}


@pytest.fixture(autouse=True)
def _brokers(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEBSOCKET_BROKERS = BROKERS
    monkeypatch.setattr(group, "unheard", False)


def pattern_of(name: str, broker: str = "default", *, is_user: bool = False) -> str | None:
    options = options_of(name, broker, is_user=is_user)
    return options.pattern if options else None


def test_without_the_setting_nothing_is_kept() -> None:
    load_groups()
    assert options_of("room:1", "default") is None
    assert options_of("1", "default", is_user=True) is None


def test_what_is_kept_is_what_the_pattern_says(settings: Any) -> None:
    settings.WEBSOCKET_GROUPS = {"room:*": {"history": 100, "ttl": 60}, "ticker": {"history": 1}}
    room = options_of("room:1", "default")
    assert room == GroupOptions("room:*", 100, 60.0, 0, 10.0)
    assert room.keep == Keep(100, 60.0)
    assert options_of("ticker", "default") == GroupOptions("ticker", 1, 3600.0, 0, 10.0)
    assert options_of("lobby", "default") is None


def test_the_first_pattern_that_fits_counts(settings: Any) -> None:
    settings.WEBSOCKET_GROUPS = {
        "room:1": {"history": 1},
        "room:9": {},
        "room:*": {"history": 100},
        "room:2": {"history": 2},
    }
    assert pattern_of("room:1") == "room:1"
    assert pattern_of("room:2") == "room:*"
    assert pattern_of("room:9") == "room:9"  # it has a name for clients, and no more


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        ("room", "room", "rooms"),
        ("room", "room", "Room"),
        ("room:?", "room:1", "room:12"),
        ("room:[!0]", "room:1", "room:0"),
        ("*", "two\nlines", None),
        ("a*", "a\n", "\na"),
        ("[*]", "*", "a"),
        ("<user", "<user", "<user>"),
    ],
)
def test_a_pattern_fits_as_fnmatchcase_has_it(
    settings: Any, pattern: str, right: str, wrong: str | None
) -> None:
    settings.WEBSOCKET_GROUPS = {pattern: {"history": 1}}
    assert pattern_of(right) == pattern
    if wrong is not None:
        assert pattern_of(wrong) is None


def test_the_groups_of_users_have_a_pattern_of_their_own(settings: Any) -> None:
    settings.WEBSOCKET_GROUPS = {"*": {"history": 1}}
    assert pattern_of("7", is_user=True) is None
    settings.WEBSOCKET_GROUPS = {"<user>": {"history": 50}, "7": {"history": 1}}
    assert pattern_of("7", is_user=True) == "<user>"
    assert pattern_of("7") == "7"
    assert pattern_of("<user>") is None


def test_a_pattern_is_for_the_groups_of_one_broker(settings: Any) -> None:
    settings.WEBSOCKET_GROUPS = {
        "a": {"history": 1, "broker": "other"},
        "<user>": {"history": 1, "broker": "other"},
        "*": {"history": 2},
    }
    assert pattern_of("a", "other") == "a"
    assert pattern_of("b", "other") is None
    assert pattern_of("a") == "*"
    assert pattern_of("7", is_user=True) is None
    assert pattern_of("7", "other", is_user=True) == "<user>"
    assert pattern_of("a", "plain") is None


def test_a_name_is_looked_up_once_until_a_setting_changes(settings: Any) -> None:
    settings.WEBSOCKET_GROUPS = {"*": {"history": 1}}
    with mock.patch.object(Conf, "groups", new_callable=mock.PropertyMock) as groups:
        kept = {"history": 3, "ttl": 1.0, "presence": 0, "linger": 10.0, "broker": "default"}
        groups.return_value = {"*": kept}
        first = options_of("a", "default")
        assert options_of("a", "default") is first
        assert pattern_of("b") == "*"
        assert groups.call_count == 1
    with override_settings(WEBSOCKET_BROKERS=BROKERS):
        assert options_of("a", "default") == GroupOptions("*", 1, 3600.0, 0, 10.0)
    settings.WEBSOCKET_GROUPS = {"*": {"history": 2}}
    assert options_of("a", "default") == GroupOptions("*", 2, 3600.0, 0, 10.0)
    settings.WEBSOCKET_GROUPS = {}
    assert options_of("a", "default") is None


def test_a_wrong_setting_is_raised_again_each_time(settings: Any) -> None:
    settings.WEBSOCKET_GROUPS = {"*": {"history": "1"}}
    for _ in range(2):
        with pytest.raises(ImproperlyConfigured, match="WEBSOCKET_GROUPS"):
            options_of("a", "default")


def test_a_broker_that_keeps_nothing_is_named_when_the_application_is_built(settings: Any) -> None:
    settings.WEBSOCKET_GROUPS = {"a": {"broker": "plain"}, "b": {"history": 1}}
    WebSocketDispatcher(no_pages)
    settings.WEBSOCKET_GROUPS = {"a": {"broker": "plain", "history": 1}}
    for build in (load_groups, lambda: WebSocketDispatcher(no_pages)):
        with pytest.raises(ImproperlyConfigured) as raised:
            build()
        assert str(raised.value) == (
            "WEBSOCKET_GROUPS['a']['history']: the broker 'plain', a Forgetful, keeps no messages. "
            "Remove 'history', or name with 'broker' one that does, such as "
            "django_ws_dispatch.brokers.redis.RedisBroker."
        )


def test_a_broker_that_does_not_know_who_is_here_is_named_when_the_application_is_built(
    settings: Any,
) -> None:
    settings.WEBSOCKET_GROUPS = {
        "a": {"broker": "blind", "history": 1, "linger": 5},
        "b": {"broker": "plain", "presence": True},
    }
    WebSocketDispatcher(no_pages)
    settings.WEBSOCKET_GROUPS = {"a": {"broker": "blind", "history": 1, "presence": 5}}
    for build in (load_groups, lambda: WebSocketDispatcher(no_pages)):
        with pytest.raises(ImproperlyConfigured) as raised:
            build()
        assert str(raised.value) == (
            "WEBSOCKET_GROUPS['a']['presence']: the broker 'blind', a Blind, does not know who is "
            "here. Remove 'presence', or name with 'broker' one that does, such as "
            "django_ws_dispatch.brokers.redis.RedisBroker."
        )


def test_what_is_listed_is_what_the_pattern_says(settings: Any) -> None:
    settings.WEBSOCKET_GROUPS = {
        "room:*": {"presence": True},
        "hall:*": {"presence": 1000, "linger": 0},
        "shut:*": {"presence": False, "linger": 300},
    }
    room = options_of("room:1", "default")
    assert room == GroupOptions("room:*", 0, 3600.0, 200, 10.0)
    assert room.listed == Listed(200, 10.0)
    hall = options_of("hall:1", "default")
    assert hall is not None
    assert hall.listed == Listed(1000, 0.0)
    assert options_of("shut:1", "default") == GroupOptions("shut:*", 0, 3600.0, 0, 300.0)


def test_a_group_that_knows_who_is_here_keeps_nothing(settings: Any) -> None:
    settings.WEBSOCKET_GROUPS = {"room:*": {"presence": True}}
    room = Group("room:1")
    assert room.send("x") is None
    assert room.send_json("x") is None
    room.close()
    for ask in (room.history, room.position, room.forget):
        with pytest.raises(ValueError, match=r"Group\('room:1'\) has no history.*\"history\": 100"):
            ask()


@pytest.mark.asyncio
async def test_a_group_that_knows_who_is_here_keeps_nothing_where_a_loop_runs(
    settings: Any,
) -> None:
    settings.WEBSOCKET_GROUPS = {"room:*": {"presence": True}}
    room = Group("room:1")
    assert await room.asend("x") is None
    assert await room.asend_json("x") is None
    await room.aclose()
    for ask in (room.ahistory, room.aposition, room.aforget):
        with pytest.raises(ValueError, match="has no history"):
            await ask()
