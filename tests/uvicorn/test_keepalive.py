"""One timer pings all connections, and knows which of them does not answer."""

from __future__ import annotations

import asyncio

import pytest

from django_ws_dispatch.uvicorn import keepalive
from django_ws_dispatch.uvicorn.keepalive import Keeper

from ..kit.waiting import DEADLINE, until
from .wire import Clock

pytestmark = pytest.mark.asyncio

NEVER = 10 * DEADLINE


class Kept:
    """A connection.

    Args:
        keeper: that pings it.
        answers: each ping at once.
    """

    def __init__(self, keeper: Keeper, *, answers: bool = False) -> None:
        self.keeper = keeper
        self.answers = answers
        self.is_open = True
        self.reading_is_paused = False
        self.ping_sent_at = 0.0
        self.latency: float | None = None
        self.pings: list[bytes] = []
        self.timeouts = 0
        keeper.add(self)

    def ping(self, payload: bytes) -> bool:
        if not self.is_open:
            return False
        self.pings.append(payload)
        if self.answers:
            asyncio.get_running_loop().call_soon(self.keeper.pong, self, payload)
        return True

    def ping_timed_out(self) -> None:
        self.timeouts += 1


def keeper_of(interval: float | None = 0.01, timeout: float | None = NEVER) -> Keeper:
    return Keeper(asyncio.get_running_loop(), interval, timeout)


def end(keeper: Keeper, *kept: Kept) -> None:
    """End all, and see that nothing is left."""
    for one in kept:
        keeper.remove(one)
    assert not len(keeper)
    assert keeper._timer is None


async def test_each_is_pinged_again_and_again():
    keeper = keeper_of()
    kept = [Kept(keeper, answers=True) for _ in range(10)]
    assert len(keeper) == 10
    await until(lambda: all(len(one.pings) > 2 for one in kept))
    assert all(len(set(one.pings)) == len(one.pings) for one in kept)
    assert all(len(payload) == 4 for one in kept for payload in one.pings)
    end(keeper, *kept)
    assert not any(one.timeouts for one in kept)


async def test_a_pong_tells_the_latency():
    keeper = keeper_of()
    kept = Kept(keeper, answers=True)
    await until(lambda: kept.latency is not None)
    assert kept.latency is not None
    assert kept.latency >= 0
    assert kept.ping_sent_at > 0
    end(keeper, kept)


async def test_one_timer_serves_all():
    keeper = keeper_of()
    first = Kept(keeper)
    timer = keeper._timer
    others = [Kept(keeper) for _ in range(10)]
    assert keeper._timer is timer
    keeper.remove(first)
    assert keeper._timer is timer
    end(keeper, *others)


async def test_those_that_came_together_are_pinged_together():
    turns = []

    class Noting(Kept):
        def ping(self, payload: bytes) -> bool:
            turns.append(keeper._timer is None)
            return super().ping(payload)

    keeper = keeper_of()
    kept = [Noting(keeper) for _ in range(5)]
    await until(lambda: turns)
    assert turns == [True] * 5
    end(keeper, *kept)


async def test_who_does_not_answer_is_told_so_once():
    keeper = keeper_of(timeout=0.01)
    late, good = Kept(keeper), Kept(keeper, answers=True)
    await until(lambda: late.timeouts)
    assert len(keeper) == 1
    await until(lambda: len(good.pings) > 3)
    assert late.timeouts == len(late.pings) == 1
    assert good.timeouts == 0
    keeper.remove(good)
    assert keeper._timer is None


async def test_an_answer_to_another_ping_is_none():
    keeper = keeper_of(timeout=0.02)
    kept = Kept(keeper)
    keeper.pong(kept, b"")
    await until(lambda: kept.pings)
    keeper.pong(kept, b"other")
    assert kept.latency is None
    await until(lambda: kept.timeouts)
    keeper.pong(kept, kept.pings[-1])
    assert kept.latency is None


async def test_nobody_is_pinged_twice_before_the_pong():
    keeper = keeper_of()
    kept, other = Kept(keeper), Kept(keeper, answers=True)
    await until(lambda: len(other.pings) > 3)
    assert len(kept.pings) == 1
    keeper.pong(kept, kept.pings[0])
    await until(lambda: len(kept.pings) == 2)
    end(keeper, kept, other)


async def test_without_a_time_out_it_is_pinged_all_the_same():
    keeper = keeper_of(timeout=None)
    kept = Kept(keeper)
    await until(lambda: len(kept.pings) > 2)
    keeper.pong(kept, kept.pings[-2])
    assert kept.latency is None
    keeper.pong(kept, kept.pings[-1])
    assert kept.latency is not None
    end(keeper, kept)
    assert kept.timeouts == 0


async def test_who_is_not_read_has_its_time_later():
    keeper = keeper_of(timeout=0.01)
    kept = Kept(keeper)
    kept.reading_is_paused = True
    await until(lambda: kept.pings)
    for _ in range(3):
        ends = keeper._waiting[kept]
        await until(lambda ends=ends: keeper._waiting[kept] != ends)
    assert kept.timeouts == 0
    kept.reading_is_paused = False
    keeper.resumed(kept)
    keeper.pong(kept, kept.pings[0])
    assert kept.latency is not None
    await until(lambda: kept.timeouts)


async def test_who_is_read_again_has_all_of_its_time():
    keeper = keeper_of()
    kept, other = Kept(keeper), Kept(keeper)
    await until(lambda: other.pings)
    first = keeper._waiting[kept]
    await until(lambda: asyncio.get_running_loop().time() + NEVER > first[0])
    keeper.resumed(kept)
    assert keeper._waiting[kept][0] > first[0]
    assert keeper._waiting[kept][1] == first[1]
    assert list(keeper._waiting) == [other, kept]
    end(keeper, kept, other)


async def test_who_was_not_pinged_has_nothing_to_resume():
    for timeout in None, NEVER:
        keeper = keeper_of(NEVER, timeout)
        kept = Kept(keeper)
        keeper.resumed(kept)
        assert not keeper._waiting
        end(keeper, kept)


async def test_who_takes_no_ping_is_not_kept():
    keeper = keeper_of()
    kept = Kept(keeper)
    kept.is_open = False
    await until(lambda: not len(keeper))
    assert keeper._timer is None
    assert kept.ping_sent_at == 0


@pytest.mark.parametrize("interval", [None, 0])
async def test_without_an_interval_nobody_is_kept(interval):
    keeper = keeper_of(interval)
    kept = Kept(keeper)
    assert not len(keeper)
    assert keeper._timer is None
    keeper.remove(kept)


async def test_who_comes_when_all_have_left_is_pinged():
    keeper = keeper_of()
    end(keeper, Kept(keeper), Kept(keeper))
    kept = Kept(keeper)
    await until(lambda: kept.pings)
    end(keeper, kept)


async def test_who_ends_others_when_it_is_told_ends_them():
    class Ending(Kept):
        def ping_timed_out(self) -> None:
            super().ping_timed_out()
            for one in kept:
                keeper.remove(one)

    keeper = keeper_of(timeout=0.01)
    kept = [Ending(keeper) for _ in range(3)]
    await until(lambda: kept[0].timeouts)
    assert not len(keeper)
    assert keeper._timer is None


def times_of(kept: Kept, clock: Clock, until: float) -> list[int]:
    """In which seconds it is pinged until then."""
    times: list[int] = []
    while clock.now < until:
        before = len(kept.pings)
        clock.turn_to(clock.now + 0.01)
        times += [round(clock.now - 100.0)] * (len(kept.pings) - before)
    return times


async def test_those_that_came_apart_are_pinged_apart():
    clock = Clock()
    keeper = Keeper(clock, 10.0, None)
    first = Kept(keeper)
    clock.turn_to(105.0)
    second = Kept(keeper)
    clock.turn_to(121.0)
    assert len(first.pings) == 2
    assert times_of(second, clock, 150.0) == [25, 35, 45]
    assert len(first.pings) == 4
    end(keeper, first, second)
    assert not clock.due


async def test_who_does_not_answer_is_told_so_when_its_time_is_over():
    clock = Clock()
    keeper = Keeper(clock, 100.0, 1.0)
    first = Kept(keeper)
    clock.turn_to(150.0)
    second = Kept(keeper)
    clock.turn_to(200.9)
    assert (len(first.pings), first.timeouts) == (1, 0)
    clock.turn_to(201.1)
    assert (first.timeouts, second.timeouts) == (1, 0)
    clock.turn_to(251.1)
    assert (first.timeouts, second.timeouts) == (1, 1)
    assert not clock.due


async def test_who_was_not_read_is_told_so_behind_those_that_are_in_time():
    clock = Clock()
    keeper = Keeper(clock, 100.0, 10.0)
    first = Kept(keeper)
    clock.turn_to(105.0)
    second = Kept(keeper)
    first.reading_is_paused = True
    clock.turn_to(211.0)
    assert (first.timeouts, second.timeouts) == (0, 0)
    first.reading_is_paused = False
    clock.turn_to(216.0)
    assert (first.timeouts, second.timeouts) == (0, 1)
    clock.turn_to(221.0)
    assert (first.timeouts, second.timeouts) == (1, 1)
    assert not clock.due


async def test_who_is_read_again_still_tells_its_latency_where_there_is_no_time_out(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(keepalive, "monotonic", clock.time)
    keeper = Keeper(clock, 10.0, None)
    kept = Kept(keeper)
    clock.turn_to(111.0)
    keeper.resumed(kept)
    clock.turn_to(112.0)
    keeper.pong(kept, kept.pings[0])
    assert kept.latency == pytest.approx(2.0, abs=0.1)
    end(keeper, kept)
