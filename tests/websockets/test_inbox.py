"""What a client said while its handler did something else: what is kept of it, and how much."""

from __future__ import annotations

import pytest

from django_ws_dispatch.websockets.inbox import MESSAGES, Inbox


def filled(*messages: str | bytes, capacity: int = 10_000, keep: bool = True) -> Inbox:
    inbox = Inbox(capacity)
    for message in messages:
        inbox.put(message, keep=keep)
    return inbox


def taken(inbox: Inbox) -> list[str | bytes]:
    return [inbox.take() for _ in range(len(inbox))]


def test_messages_come_out_in_the_order_in_which_they_came() -> None:
    inbox = filled("a", b"b", "c")
    assert len(inbox) == 3
    assert taken(inbox) == ["a", b"b", "c"]
    assert len(inbox) == 0


@pytest.mark.parametrize(
    ("message", "size"),
    [("x" * 100, 100), (b"x" * 100, 100), ("é" * 100, 100), ("€" * 100, 200), ("😀" * 100, 400)],
)
def test_its_size_is_what_the_characters_take_in_memory(message: str | bytes, size: int) -> None:
    inbox = filled(message, message)
    # An implementation of Python may round a little.
    assert 2 * size <= inbox.size <= 2 * size + 2 * 64
    inbox.take()
    assert size <= inbox.size <= size + 64
    inbox.take()
    assert inbox.size == 0


def test_an_empty_message_is_a_message_and_takes_nothing() -> None:
    inbox = filled("", b"")
    assert (len(inbox), inbox.size) == (2, 0)
    assert taken(inbox) == ["", b""]


def test_it_is_full_once_its_capacity_is_reached_and_the_message_that_did_it_is_kept() -> None:
    inbox = filled(b"x" * 99, capacity=100)
    assert inbox.full_since is None
    inbox.put(b"y", keep=True)
    assert inbox.full_since is not None
    assert taken(inbox) == [b"x" * 99, b"y"]


def test_one_message_may_be_larger_than_all_there_is_room_for() -> None:
    inbox = filled(b"x" * 500, capacity=100)
    assert inbox.full_since is not None
    assert taken(inbox) == [b"x" * 500]


def test_it_is_full_with_so_many_messages_however_small_they_are() -> None:
    inbox = filled(*["x"] * (MESSAGES - 1))
    assert inbox.full_since is None
    inbox.put("x", keep=True)
    assert inbox.full_since is not None
    assert len(inbox) == MESSAGES


def test_who_takes_one_makes_room() -> None:
    inbox = filled(*["x"] * MESSAGES)
    assert inbox.take() == "x"
    assert inbox.full_since is None


def test_for_who_has_never_read_the_oldest_are_thrown_away_and_counted() -> None:
    messages = [str(number) for number in range(MESSAGES + 10)]
    inbox = filled(*messages, keep=False)
    assert inbox.full_since is None
    assert inbox.discarded == 11
    assert taken(inbox) == messages[11:]


def test_one_that_is_larger_than_all_there_is_room_for_leaves_nothing() -> None:
    inbox = filled(b"a", b"x" * 500, capacity=100, keep=False)
    assert (len(inbox), inbox.size, inbox.discarded) == (0, 0, 2)


def test_what_is_thrown_away_at_the_end_is_gone() -> None:
    inbox = filled(*["x"] * MESSAGES)
    inbox.clear()
    assert (len(inbox), inbox.size, inbox.full_since) == (0, 0, None)
