"""Who of many may call a broker: a few at once, the others in turn, and whoever hurries at once."""

from __future__ import annotations

import asyncio

import pytest

from django_ws_dispatch.groups.turns import Turns

pytestmark = pytest.mark.asyncio


class Site:
    """Some who want a turn, each of whom has it until the test says so."""

    def __init__(self, most):
        self.turns = Turns(most)
        self.having = []
        self.places = {}
        self.tasks = {}
        self._done = {}

    async def want(self, *names, hurries=False):
        for name in names:
            self.places[name] = asyncio.get_running_loop().create_future()
            self._done[name] = asyncio.Event()
            if hurries:
                self.places[name].set_result(False)
            self.tasks[name] = asyncio.create_task(self._have(name))
        await self.settle()

    async def _have(self, name):
        async with self.turns.turn(self.places[name]):
            self.having.append(name)
            try:
                await self._done[name].wait()
            finally:
                self.having.remove(name)

    async def end(self, *names):
        for name in names:
            self._done[name].set()
        await self.settle()

    async def cancel(self, *names):
        for name in names:
            self.tasks[name].cancel()
        await self.settle()

    @staticmethod
    async def settle():
        for _ in range(5):
            await asyncio.sleep(0)


async def test_so_many_have_a_turn_at_once_and_the_others_one_after_the_other():
    site = Site(2)
    await site.want(*"abcde")
    assert site.having == ["a", "b"]
    await site.end("b")
    assert site.having == ["a", "c"]
    await site.end("a", "c")
    assert site.having == ["d", "e"]
    await site.end("d", "e")
    assert site.having == []
    await site.want(*"fgh")
    assert site.having == ["f", "g"]
    await site.end(*"fgh")


async def test_whoever_hurries_takes_no_turn():
    site = Site(1)
    await site.want("a", "b")
    await site.want("c", hurries=True)
    assert site.having == ["a", "c"]
    await site.end("c")
    assert site.having == ["a"]
    await site.end("a")
    assert site.having == ["b"]
    await site.end("b")


async def test_whoever_hurries_while_it_waits_is_let_in_and_its_turn_is_the_next_ones():
    site = Site(1)
    await site.want("a", "b", "c")
    site.places["b"].set_result(False)
    await site.settle()
    assert site.having == ["a", "b"]
    await site.end("b")
    assert site.having == ["a"]
    await site.end("a")
    assert site.having == ["c"]
    await site.end("c")


@pytest.mark.parametrize("who", ["a", "b"])
async def test_whoever_is_cancelled_costs_no_turn(who):
    site = Site(1)
    await site.want("a", "b", "c")
    await site.cancel(who)
    assert site.having == (["b"] if who == "a" else ["a"])
    await site.end("a", "b")
    assert site.having == ["c"]
    await site.end("c")
    await site.want("d", "e")
    assert site.having == ["d"]
    await site.end("d", "e")


async def test_whoever_is_cancelled_as_its_turn_comes_hands_it_on():
    site = Site(1)
    await site.want("a", "b", "c")
    site._done["a"].set()
    while not site.places["b"].done():  # noqa: ASYNC110
        await asyncio.sleep(0)
    await site.cancel("b")
    assert site.having == ["c"]
    await site.end("c")
    await site.want("d")
    assert site.having == ["d"]
    await site.end("d")


async def test_a_turn_that_ends_with_an_exception_is_the_next_ones():
    turns, loop = Turns(), asyncio.get_running_loop()
    for _ in range(2):
        with pytest.raises(LookupError):
            async with turns.turn(loop.create_future()):
                raise LookupError
