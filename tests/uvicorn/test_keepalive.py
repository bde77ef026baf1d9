"""One timer pings all connections, and knows which of them does not answer."""

from __future__ import annotations

import asyncio

import pytest

from django_ws_dispatch.uvicorn.keepalive import Keeper

from ..kit.waiting import DEADLINE, until

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
