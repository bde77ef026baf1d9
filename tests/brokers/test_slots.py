"""A bounded number of calls at once."""

import asyncio
from itertools import count, repeat

import pytest

from django_ws_dispatch.brokers.slots import Slots
from tests.kit.waiting import until

pytestmark = pytest.mark.asyncio


class Busy(Slots):
    """All places are held by others, who are answered, or not."""

    _answers = repeat(0)

    @property
    def _answered(self) -> int:
        return next(self._answers)

    @_answered.setter
    def _answered(self, value: int) -> None: ...


async def wait(slots: Slots) -> float:
    async with slots.hold() as left:
        return left


async def test_no_more_calls_than_places_are_at_once():
    slots = Slots(1, 60)
    async with slots.hold() as left:
        assert 0 < left <= 60
        second = asyncio.ensure_future(wait(slots))
        await asyncio.sleep(0)
        assert not second.done()
    assert 0 < await second <= 60


@pytest.mark.parametrize("others_are_answered", [True, False])
async def test_the_wait_for_a_place_counts_only_where_nobody_is_answered(others_are_answered: bool):
    slots = Busy(0, 0.02)
    if others_are_answered:
        slots._answers = count()
    waiting = asyncio.ensure_future(wait(slots))
    if not others_are_answered:
        with pytest.raises(TimeoutError):
            await waiting
        return
    await until(lambda: next(slots._answers) > 10)
    assert not waiting.done()
    slots._places.release()
    assert await waiting == 0.02
