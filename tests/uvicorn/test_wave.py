"""A fan-out that leaves in waves: a few connections in each turn of the loop."""

from __future__ import annotations

import asyncio

import pytest

from django_ws_dispatch.uvicorn.wave import WIDTH, Wave

from ..kit.waiting import until

pytestmark = pytest.mark.asyncio


class Waved:
    """A connection that notes when its turn has come."""

    def __init__(self, told: list[object], fails: bool = False) -> None:
        self._told = told
        self._fails = fails

    def wave_comes(self) -> None:
        self._told.append(self)
        if self._fails:
            raise OSError("gone")


async def test_all_have_their_turn_in_the_order_in_which_they_came():
    told: list[object] = []
    wave = Wave(asyncio.get_running_loop())
    connections = [Waved(told) for _ in range(3 * WIDTH + 1)]
    for one in connections:
        wave.add(one)
    assert told == []
    await until(lambda: len(told) == len(connections))
    assert told == connections


async def test_no_more_than_a_few_have_theirs_in_one_turn_of_the_loop():
    told: list[object] = []
    wave = Wave(asyncio.get_running_loop())
    for _ in range(3 * WIDTH):
        wave.add(Waved(told))
    for turn in range(1, 4):
        await asyncio.sleep(0)
        assert len(told) == turn * WIDTH


async def test_who_comes_while_others_have_their_turn_is_behind_them():
    told: list[object] = []
    wave = Wave(asyncio.get_running_loop())
    first = [Waved(told) for _ in range(WIDTH + 1)]
    for one in first:
        wave.add(one)
    await asyncio.sleep(0)
    last = Waved(told)
    wave.add(last)
    await until(lambda: last in told)
    assert told == [*first, last]


async def test_one_that_fails_costs_the_others_nothing():
    told: list[object] = []
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    wave = Wave(loop)
    bad, good = Waved(told, fails=True), Waved(told)
    wave.add(bad)
    wave.add(good)
    await until(lambda: good in told)
    assert told == [bad, good]
    assert len(complaints) == 1


async def test_an_empty_wave_wakes_nobody_and_begins_again():
    told: list[object] = []
    wave = Wave(asyncio.get_running_loop())
    for _ in range(2):
        wave.add(Waved(told))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(told) == 2
