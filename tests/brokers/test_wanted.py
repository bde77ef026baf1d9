"""What is wanted of a server, and what a connection was told of it."""

from __future__ import annotations

import asyncio

import pytest

from django_ws_dispatch.brokers.wanted import Wanted
from django_ws_dispatch.exceptions import BrokerError
from tests.kit.waiting import DEADLINE

pytestmark = pytest.mark.asyncio


def wanted(timeout: float = 60) -> Wanted:
    return Wanted(timeout, lambda: BrokerError("not in time"))


def told(wanted: Wanted) -> tuple[list[bytes], list[bytes]]:
    wanted.news.clear()
    return wanted.take_changes()


async def test_a_channel_is_asked_for_once_and_ready_once_it_is_acknowledged():
    one = wanted()
    ready = one.add("a", b"a")
    assert ready is not None
    assert one.add("a", b"a") is ready
    assert one.news.is_set()
    assert told(one) == ([b"a"], [])
    assert told(one) == ([], [])
    assert not ready.done()
    one.acknowledge(b"a")
    assert ready.done()
    assert one.add("a", b"a") is None


async def test_what_is_wanted_no_more_before_it_was_told_is_forgotten():
    one = wanted()
    one.add("a", b"a")
    one.remove(b"a")
    assert told(one) == ([], [])
    assert not one.subscriptions


async def test_what_is_wanted_again_waits_for_the_answer_to_the_last_request():
    one = wanted()
    one.add("a", b"a")
    told(one)
    one.remove(b"a")
    assert told(one) == ([], [b"a"])
    ready = one.add("a", b"a")
    assert ready is not None
    assert told(one) == ([b"a"], [])
    one.acknowledge(b"a")  # of the first one
    assert not ready.done()
    one.acknowledge(b"a")
    assert ready.done()


async def test_what_is_wanted_no_more_is_kept_until_its_answer_is_there():
    one = wanted()
    one.add("a", b"a")
    told(one)
    one.remove(b"a")
    told(one)
    assert one.subscriptions
    one.acknowledge(b"a")
    assert not one.subscriptions


async def test_a_new_connection_is_told_all_and_a_join_does_not_wait_for_it():
    one = wanted()
    for name in (b"a", b"b", b"c"):
        one.add(name.decode(), name)
    told(one)
    one.acknowledge(b"a")
    one.acknowledge(b"b")
    one.remove(b"b")
    one.begin()
    assert one.add("a", b"a") is None
    assert not one.confirmed
    assert told(one) == ([b"a", b"c"], [])
    one.acknowledge(b"a")
    assert not one.confirmed
    one.remove(b"c")
    told(one)
    assert one.confirmed


async def test_what_is_not_acknowledged_in_time_fails_and_stays_wanted():
    one = wanted(timeout=0.01)
    ready = one.add("a", b"a")
    assert ready is not None
    with pytest.raises(BrokerError, match="not in time"):
        await ready
    again = one.add("a", b"a")
    assert again not in (None, ready)
    told(one)
    one.acknowledge(b"a")
    assert again.done()


async def test_who_reads_has_its_turn_before_it_is_given_up_where_the_loop_stood_still():
    one = wanted()
    ready = one.add("a", b"a")
    assert ready is not None
    one._give_up(ready, asyncio.get_running_loop().time() - 5)  # a timer that is late
    assert not ready.done()
    told(one)
    one.acknowledge(b"a")
    await ready
    ready = one.add("b", b"b")
    assert ready is not None
    one._give_up(ready, asyncio.get_running_loop().time() - 5)
    with pytest.raises(BrokerError, match="not in time"):
        await ready


async def test_whoever_waits_fails_when_all_is_given_up():
    one = wanted()
    ready = one.add("a", b"a")
    one.clear()
    assert not one.subscriptions
    with pytest.raises(BrokerError):
        await asyncio.wait_for(ready, DEADLINE)


async def test_an_acknowledgement_that_nobody_waits_for_is_nothing():
    one = wanted()
    one.acknowledge(b"a")
    assert not one.subscriptions


async def test_what_is_given_is_wanted_elsewhere_and_who_waits_waits_for_that():
    one, other = wanted(), wanted()
    ready = one.add("a", b"a")
    one.begin()
    told(one)
    one.give(b"a", other)
    assert one.news.is_set()
    assert one.confirmed
    assert not other.confirmed
    one.acknowledge(b"a")  # of a connection that has it no more
    assert ready is not None
    assert not ready.done()
    assert told(other) == ([b"a"], [])
    other.acknowledge(b"a")
    assert ready.done()
    assert other.confirmed


async def test_what_nobody_wants_any_more_is_not_given():
    one, other = wanted(), wanted()
    one.add("a", b"a")
    told(one)
    one.remove(b"a")
    one.give(b"a", other)
    assert not one.subscriptions
    assert not other.subscriptions
