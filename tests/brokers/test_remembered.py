"""What the process itself remembers."""

from __future__ import annotations

from django_ws_dispatch.brokers.history import Keep, order_of
from django_ws_dispatch.brokers.remembered import DAY, Remembered

from ..kit.clock import Clock

KEEP = Keep(5, 60.0)


def test_messages_go_before_the_place_does(clock: Clock) -> None:
    store = Remembered()
    first = store.keep("a", b"1", KEEP, order=False).position
    last = store.keep("a", b"2", KEEP, order=False).position
    clock.moment += KEEP.ttl
    assert store.newest("a", KEEP, 5, None).entries == []
    assert store.read("a", last, KEEP, 5, heard=False).known
    assert not store.read("a", first, KEEP, 5, heard=False).known
    clock.moment += KEEP.ttl + DAY
    assert store.tops(["a"]) == [None]


def test_positions_go_up_also_where_the_clock_goes_back(clock: Clock) -> None:
    store = Remembered()
    positions = []
    for step in (0, 0, -100, 1, 2 * DAY, -2 * DAY):
        clock.moment += step
        positions.append(order_of(store.keep("a", b"x", KEEP, order=False).position) or (0, 0, 0))
    assert positions == sorted(set(positions))


def test_what_is_over_is_dropped_when_others_are_kept(clock: Clock) -> None:
    store = Remembered()
    for number in range(100):
        store.keep(f"{number}", b"x", KEEP, order=False)
    clock.moment += KEEP.ttl + DAY
    for _ in range(200):
        store.keep("a", b"x", KEEP, order=False)
    assert list(store._channels) == ["a"]
