"""The newest messages that one event loop has delivered."""

from __future__ import annotations

import pytest

from django_ws_dispatch.groups import tail as module
from django_ws_dispatch.groups.messages import TEXT, Message
from django_ws_dispatch.groups.options import GroupOptions
from django_ws_dispatch.groups.tail import Tail

OPTIONS = GroupOptions("*", 3, 60.0, 0, 10.0)


def message(number: int, size: int = 1) -> Message:
    event = {"type": "websocket.send", "text": str(number)}
    return Message(TEXT, event, size, None, position=str(number), previous=str(number - 1))


def numbers(messages: list[Message] | None) -> list[str] | None:
    return None if messages is None else [str(one.data) for one in messages]


def test_what_is_behind_a_position_is_found():
    tail = Tail(OPTIONS)
    for number in (1, 2, 3):
        tail.add(message(number))
    assert numbers(tail.behind("1")) == ["2", "3"]
    assert numbers(tail.behind("0")) == ["1", "2", "3"]
    assert tail.behind("9") is None


def test_it_has_no_more_than_the_history():
    tail = Tail(OPTIONS)
    for number in range(1, 6):
        tail.add(message(number))
    assert numbers(tail.behind("2")) == ["3", "4", "5"]
    assert tail.behind("1") is None


def test_it_has_no_more_bytes_than_a_page():
    tail = Tail(OPTIONS)
    for number in (1, 2):
        tail.add(message(number, module.MOST_BYTES - 1))
    assert tail.behind("0") is None
    assert numbers(tail.behind("1")) == ["2"]


@pytest.mark.parametrize("position", ["2", "elsewhere"])
def test_what_was_read_goes_before_it_only_where_it_fits(position):
    tail = Tail(OPTIONS)
    tail.prepend([message(1), message(2)], position)
    assert numbers(tail.behind("0")) == (["1", "2"] if position == "2" else None)
    tail = Tail(OPTIONS)
    tail.add(message(3))
    tail.prepend([message(2)], "3")
    tail.prepend([message(7)], "3")
    assert numbers(tail.behind("1")) == ["2", "3"]


def test_of_what_was_read_only_what_it_has_not_goes_before_it():
    tail = Tail(OPTIONS)
    tail.add(message(3))
    assert not tail.is_full
    tail.prepend([message(1), message(2), message(3)], "3")
    assert numbers(tail.behind("0")) == ["1", "2", "3"]
    assert tail.is_full


def test_it_expires_as_its_store_does(monkeypatch):
    now = 0.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    tail = Tail(OPTIONS)
    tail.add(message(1))
    now = 60.0
    assert tail.behind("0") is not None
    now = 60.1
    assert tail.behind("0") is None


def test_it_is_empty_once_it_is_cleared():
    tail = Tail(OPTIONS)
    tail.add(message(1))
    tail.clear()
    assert tail.behind("0") is None
