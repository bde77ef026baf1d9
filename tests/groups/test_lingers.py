"""When those who left a moment ago are to be swept."""

from __future__ import annotations

import asyncio

import pytest

from django_ws_dispatch.groups import lingers as module
from django_ws_dispatch.groups.lingers import Lingers

from ..kit.waiting import until

pytestmark = pytest.mark.asyncio


def due(lingers):
    """In how many seconds it sweeps next."""
    return lingers._timer.when() - asyncio.get_running_loop().time()


async def test_nobody_lingers_at_first():
    lingers = Lingers(300.0, lambda: None)
    assert not lingers
    lingers.close()


async def test_it_sweeps_once_a_linger_is_over():
    swept = []
    lingers = Lingers(300.0, lambda: swept.append(bool(lingers)))
    lingers.begin()
    assert lingers
    assert 290 < due(lingers) < 310
    lingers._linger = 0.001
    lingers.close()
    lingers.begin()
    await until(lambda: swept)
    assert swept == [False]
    assert not lingers
    assert lingers._timer is None


async def test_where_nobody_lingers_nothing_is_waited_for():
    lingers = Lingers(0.0, lambda: None)
    lingers.begin()
    assert not lingers
    assert lingers._timer is None


async def test_many_that_end_together_are_swept_at_once_and_the_next_ones_not_too_soon(
    monkeypatch,
):
    monkeypatch.setattr(module, "TOLD_EVERY", 600.0)
    swept = []
    lingers = Lingers(0.001, lambda: swept.append(1))
    lingers._swept_at = -1e9
    for _ in range(5):
        lingers.begin()
    await until(lambda: swept and not lingers)
    assert len(swept) == 1
    lingers.begin()
    assert due(lingers) > 500
    lingers.close()


async def test_what_ends_later_is_swept_later():
    swept = []
    lingers = Lingers(300.0, lambda: swept.append(1))
    lingers.begin()
    lingers.begin()
    lingers._ends[0] = 0.0
    timer = lingers._timer
    lingers._end()
    timer.cancel()
    assert swept == [1]
    assert lingers
    assert due(lingers) > 200
    lingers.close()


async def test_what_is_closed_sweeps_nothing_and_can_be_closed_again():
    lingers = Lingers(300.0, lambda: None)
    lingers.begin()
    timer = lingers._timer
    for _ in range(2):
        lingers.close()
    assert timer.cancelled()
    assert not lingers
