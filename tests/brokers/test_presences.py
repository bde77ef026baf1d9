"""Who is here by what the process itself knows."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from django_ws_dispatch.brokers import presences
from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.brokers.presence import Changes, Entry, Here, Listed, Tracked, version_of
from django_ws_dispatch.brokers.presences import Presences

from ..kit.clock import Clock

LISTED = Listed(10, 10.0)


class Loop:
    """Ends when a test says so."""

    def __init__(self) -> None:
        self.closed = False

    def is_closed(self) -> bool:
        return self.closed


class Site:
    """Speaks for several event loops."""

    def __init__(self) -> None:
        self.store = Presences()
        self.loops: dict[str, Loop] = {}

    def say(self, tracker: str, *entries: Entry, name: str = "a", **options: Any) -> Tracked:
        loop = self.loops.setdefault(tracker, Loop())
        found = {"listed": LISTED, "roll": False, "ends": False, "replaces": "", **options}
        found.setdefault("replaced", bool(found["replaces"]))
        return self.store.track(name, tracker, loop.is_closed, entries, **found)

    def keys(self, name: str = "a") -> list[str]:
        return [one.key for one in self.store.snapshot(name, 100).here]


@pytest.fixture
def site(clock: Clock) -> Site:
    return Site()


def test_who_is_here_has_come_by_the_clock(site: Site, clock: Clock) -> None:
    site.say("one", Entry("ann", 1))
    clock.moment += 2.5
    site.say("one", Entry("bob", 1))
    here = site.store.snapshot("a", 10).here
    assert [one.since for one in here] == [1_000_000_000_000, 1_000_002_500_000]


def test_who_lingers_leaves_when_it_is_time_and_whoever_speaks_next_tells(
    site: Site, clock: Clock
) -> None:
    site.say("one", Entry("ann", 1), Entry("bob", 1))
    site.say("one", Entry("ann", 0, lingers=True))
    clock.moment += 9.9
    assert site.say("two").changes is None
    assert site.keys() == ["ann", "bob"]
    clock.moment += 0.1
    assert site.keys() == ["bob"]
    assert site.store.snapshot("a", 10).total == 1
    changes = site.say("two").changes
    assert changes is not None
    assert (changes.left, changes.here, changes.total) == (["ann"], [], 1)
    assert site.say("one").changes is None


def test_who_comes_back_lingers_no_more(site: Site, clock: Clock) -> None:
    site.say("one", Entry("ann", 1, "1"))
    site.say("one", Entry("ann", 0, lingers=True))
    clock.moment += 9
    site.say("two", Entry("ann", 1))
    clock.moment += 100
    assert site.store.snapshot("a", 10).here == [Here("ann", 1, 1_000_000_000_000, "1")]
    assert site.say("one").changes is None


def test_who_comes_back_in_the_call_that_would_have_swept_it_has_not_left(
    site: Site, clock: Clock
) -> None:
    site.say("one", Entry("ann", 1))
    site.say("one", Entry("ann", 0, lingers=True))
    clock.moment += 100
    changes = site.say("two", Entry("ann", 1)).changes
    assert changes is not None
    assert (changes.left, changes.here) == ([], [Here("ann", 1, 1_000_000_000_000, "null")])


def test_each_time_it_lingers_anew(site: Site, clock: Clock) -> None:
    for _ in range(3):
        site.say("one", Entry("ann", 1))
        clock.moment += 8
        site.say("one", Entry("ann", 0, lingers=True))
        clock.moment += 8
        assert site.keys() == ["ann"]
    clock.moment += 2
    assert site.keys() == []


def test_a_loop_that_has_ended_takes_its_sockets_with_it(site: Site) -> None:
    site.say("one", Entry("ann", 1), Entry("bob", 2))
    site.say("two", Entry("bob", 3))
    site.loops["one"].closed = True
    assert site.keys() == ["bob"]
    changes = site.say("two").changes
    assert changes is not None
    assert changes.left == ["ann"]
    assert changes.here is not None
    assert [(one.key, one.sockets) for one in changes.here] == [("bob", 3)]
    assert site.say("two").changes is None
    assert site.say("three", roll=True).roll == site.store.snapshot("a", 10)


def test_that_a_loop_ends_is_no_reason_for_those_who_linger(site: Site, clock: Clock) -> None:
    site.say("one", Entry("ann", 1))
    site.say("one", Entry("ann", 0, lingers=True))
    site.loops["one"].closed = True
    assert site.say("two").changes is None
    assert site.keys() == ["ann"]
    clock.moment += 10
    changes = site.say("two").changes
    assert changes is not None
    assert changes.left == ["ann"]


def test_an_event_loop_of_a_thread_that_ends_is_noticed(clock: Clock) -> None:
    broker = MemoryBroker("default", None, {})

    async def visit() -> None:
        await broker.atrack("a", "one", [Entry("ann", 1)], LISTED)

    thread = threading.Thread(target=asyncio.run, args=(visit(),))
    thread.start()
    thread.join()
    assert broker.snapshot("a", 10).here == []

    async def look() -> Changes | None:
        return (await broker.atrack("a", "two", [], LISTED)).changes

    changes = asyncio.run(look())
    assert changes is not None
    assert changes.left == ["ann"]
    assert asyncio.run(look()) is None


def test_of_who_came_and_left_in_one_call_only_that_is_told(site: Site) -> None:
    changes = site.say("one", Entry("ann", 1), Entry("ann", 0)).changes
    assert changes is not None
    assert (changes.left, changes.here, changes.total) == (["ann"], [], 0)


def test_a_channel_that_is_over_is_dropped_at_once(site: Site) -> None:
    site.say("one", Entry("ann", 1))
    site.say("one", Entry("ann", 0), ends=True)
    site.say("one", ends=True, name="b")
    assert site.store._channels == {}


def test_a_channel_whose_last_ones_linger_is_dropped_when_others_begin(
    site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(presences.MANY):
        site.say("one", Entry("ann", 1), name=f"{number}")
        site.say("one", Entry("ann", 0, lingers=True), name=f"{number}", ends=True)
    site.say("two", Entry("bob", 1), name="stays")
    clock.moment += 5
    # They linger still: nobody is dropped, and the next look comes when they are twice as many.
    site.say("one", Entry("ann", 1), name="b")
    assert len(site.store._channels) == presences.MANY + 2
    assert site.keys("7") == ["ann"]
    clock.moment += 5
    for number in range(presences.MANY + 10):
        site.say("one", Entry("ann", 1), name=f"c{number}")
    assert "7" not in site.store._channels
    assert {"stays", "b", "c7"} <= site.store._channels.keys()
    assert site.keys("stays") == ["bob"]


@pytest.mark.parametrize("step", [0.0, 1.0, -1000.0])
def test_what_begins_anew_has_an_epoch_of_its_own(site: Site, clock: Clock, step: float) -> None:
    epochs = []
    for _ in range(3):
        found = site.say("one", Entry("ann", 1)).changes
        assert found is not None
        epochs.append(version_of(found.version)[0])
        site.say("one", Entry("ann", 0), ends=True)
        clock.moment += step
    assert epochs == sorted(set(epochs))


def test_names_of_channels_do_not_meet(site: Site) -> None:
    site.say("one", Entry("ann", 1), name="a")
    site.say("one", Entry("bob", 1), name="A")
    assert (site.keys("a"), site.keys("A"), site.keys("")) == (["ann"], ["bob"], [])


def test_a_list_that_was_handed_out_does_not_change(site: Site) -> None:
    roll = site.say("one", Entry("ann", 1, "1"), roll=True).roll
    site.say("one", Entry("ann", 0))
    assert roll is not None
    assert [one.key for one in roll.here] == ["ann"]


def test_many_threads_speak_at_once(site: Site) -> None:
    told: list[Changes] = []

    def visit(tracker: str) -> None:
        for _ in range(50):
            for count in (1, 0):
                changes = site.say(tracker, Entry("ann", count), Entry(tracker, count)).changes
                if changes is not None:
                    told.append(changes)

    threads = [threading.Thread(target=visit, args=(f"{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert site.keys() == []
    versions = [(version_of(one.previous)[1], version_of(one.version)[1]) for one in told]
    assert sorted(versions) == [(number, number + 1) for number in range(len(versions))]
