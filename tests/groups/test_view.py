"""Who was in a group at some moment, as code sees it and as clients are told."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from django_ws_dispatch.brokers.presence import Here
from django_ws_dispatch.groups.view import Present, View, presents

from .views import here, keys, view


def test_who_is_here_has_a_moment_in_utc_and_the_info_that_was_joined_with():
    (anna,) = presents([Here("anna", 2, 1_500_000, '{"name": "Anna"}')])
    moment = datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert anna == Present("anna", {"name": "Anna"}, 2, moment)


def test_a_view_lists_the_longest_here_first_and_is_made_once():
    one = view(here("late", 3), here("first", 1), here("second", 2))
    assert keys(one.present) == ["first", "second", "late"]
    assert one.present is one.present
    assert View(None, 7).present is None


SAME = [
    (view("a"), view("a"), True),
    (view("a"), view(here("a", sockets=3)), True),
    (view("a"), view("b"), False),
    (view("a"), view("a", "b"), False),
    (view("a"), view(here("a", info="1")), False),
    (view("a"), view(here("a", since=2)), False),
    (View(None, 7), View(None, 7), True),
    (View(None, 7), View(None, 8), False),
    (view("a", count=7), View(None, 7), False),
    (View(None, 1), view("a"), False),
]


@pytest.mark.parametrize(("told", "now", "same"), SAME)
def test_a_view_shows_what_another_does(told, now, same):
    assert now.shows(told) is same


def test_who_came_left_and_came_again_is_known_by_when():
    before, now = view("anna", "bob", here("eve", 1)), view("bob", "tom", here("eve", 2))
    assert keys(now.left(before.here)) == ["anna", "eve"]
    assert keys(now.joined(before.here)) == ["tom", "eve"]
    assert keys(View(None, 9).left(before.here)) == ["anna", "bob", "eve"]
    assert View(None, 9).joined(before.here) == []


# As clients are told


def test_a_payload_has_everybody_longest_here_first():
    one = view(here("bob", 2_500_000, '{"name":"Bob \\" \u00e9"}', 3), here("anna", 1_000_001))
    assert json.loads(one.payload) == {
        "count": 2,
        "present": [
            {"key": "anna", "info": None, "sockets": 1, "since": 1.000001},
            {"key": "bob", "info": {"name": 'Bob " \u00e9'}, "sockets": 3, "since": 2.5},
        ],
    }
    assert one.payload is one.payload


@pytest.mark.parametrize("key", ['"', "\n", "\\", "\u00e9", "\u2028", "\0", "{a}"])
def test_any_key_is_json_on_one_line(key):
    payload = view(key).payload
    assert json.loads(payload)["present"][0]["key"] == key
    assert "\n" not in payload


def test_a_moment_of_today_keeps_its_microseconds():
    (one,) = json.loads(view(here("a", 1_790_000_000_123_457)).payload)["present"]
    assert one["since"] == 1_790_000_000.123457


def test_nobody_is_an_empty_list_and_too_many_are_a_count():
    assert json.loads(view().payload) == {"count": 0, "present": []}
    assert json.loads(View(None, 7).payload) == {"count": 7}


def told(payload):
    return {
        name: value if name == "count" else [one["key"] for one in value]
        for name, value in json.loads(payload).items()
    }


@pytest.mark.parametrize(
    ("before", "now", "payload"),
    [
        (view("a", "b"), view("b", "c"), {"count": 2, "left": ["a"], "joined": ["c"]}),
        (view("a"), view(here("a", info="1")), {"count": 1, "left": [], "joined": ["a"]}),
        (view("a"), view(here("a", 2)), {"count": 1, "left": ["a"], "joined": ["a"]}),
        (view("a"), view(), {"count": 0, "left": ["a"], "joined": []}),
        (view("a"), View(None, 7), {"count": 7}),
        (View(None, 7), View(None, 8), {"count": 8}),
        (View(None, 7), view("a"), {"count": 1, "present": ["a"]}),
    ],
)
def test_what_has_changed_is_told_or_the_list_that_replaces_where_there_was_none(
    before, now, payload
):
    assert told(now.payload_after(before)) == payload
