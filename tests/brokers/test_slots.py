"""A bounded number of calls at once."""

import asyncio

import pytest

from django_ws_dispatch.brokers.slots import Slots

pytestmark = pytest.mark.asyncio


async def test_no_more_calls_than_places_are_at_once():
    slots = Slots(1, 10)
    assert await slots.take() == pytest.approx(10, abs=9)
    second = asyncio.ensure_future(slots.take())
    await asyncio.sleep(0)
    assert not second.done()
    slots.release()
    assert await second > 0


async def test_whoever_waits_gives_up_where_nobody_is_answered():
    slots = Slots(1, 0.01)
    await slots.take()
    with pytest.raises(TimeoutError):
        await slots.take()


async def test_whoever_waits_goes_on_as_long_as_others_are_answered():
    slots = Slots(1, 0.01)
    await slots.take()
    loop = asyncio.get_running_loop()
    second = asyncio.ensure_future(slots.take())
    end = loop.time() + 0.1
    while loop.time() < end:
        slots.answered()  # in each turn of the loop, so in each time-out as well
        await asyncio.sleep(0)
    assert not second.done()
    slots.answered()
    slots.release()
    assert await second <= 0.01
