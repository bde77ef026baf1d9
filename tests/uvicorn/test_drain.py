"""Who is told when that the server stops."""

from __future__ import annotations

import asyncio
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from django_ws_dispatch.servers import quirks
from django_ws_dispatch.uvicorn import drain as drains
from django_ws_dispatch.uvicorn.drain import Drain

from ..kit.waiting import DEADLINE, until
from .wire import Clock

pytestmark = pytest.mark.asyncio


class Told:
    """A connection: it notes its name once it is told."""

    def __init__(self, name: int, told: list[int]) -> None:
        self._name, self._told = name, told

    def restart(self) -> None:
        self._told.append(self._name)


@pytest.fixture
def server(monkeypatch) -> SimpleNamespace:
    """uvicorn's, which handles the signals."""
    server = SimpleNamespace(should_exit=False, force_exit=False, _captured_signals=[])
    monkeypatch.setattr(drains, "uvicorn_server", lambda: server)
    monkeypatch.setattr(quirks, "uvicorn_server", lambda: server)
    return server


def added(clock: Any, count: int, seconds: float) -> tuple[Drain, list[Told], list[int]]:
    told: list[int] = []
    drain = Drain(clock)
    connections = [Told(number, told) for number in range(count)]
    for one in connections:
        drain.add(one, seconds)
    return drain, connections, told


async def test_all_are_told_at_once_where_there_is_no_time_for_it():
    _, _, told = added(asyncio.get_running_loop(), 3, 0)
    assert told == [0, 1, 2]


async def test_all_are_told_one_after_the_other():
    _, _, told = added(asyncio.get_running_loop(), 20, 0.05)
    assert told == []
    await until(lambda: len(told) == 20)
    assert told == [*range(20)]


async def test_they_are_spread_over_the_time():
    clock = Clock()
    _, _, told = added(clock, 5, 10.0)
    counts = []
    for seconds in 0, 2.4, 2.6, 5.1, 7.4, 7.6, 9.9, 10.1:
        clock.turn_to(100.0 + seconds)
        counts.append(len(told))
    assert counts == [1, 1, 2, 3, 3, 4, 4, 5]
    assert not clock.due


async def test_a_time_that_is_short_for_so_many_is_kept():
    clock = Clock()
    _, _, told = added(clock, 10_000, 1.0)
    clock.turn_to(100.0)
    assert len(told) == 1
    clock.turn_to(100.5)
    assert 4000 < len(told) < 6000
    clock.turn_to(101.0)
    assert told == [*range(10_000)]


async def test_who_has_ended_meanwhile_leaves_its_time_to_the_others():
    clock = Clock()
    drain, connections, told = added(clock, 5, 10.0)
    clock.turn_to(100.0)
    for one in connections[1:4]:
        drain.remove(one)
        drain.remove(one)
    clock.turn_to(110.0)
    assert told == [0, 4]
    assert not clock.due


async def test_nobody_is_told_where_all_have_ended():
    clock = Clock()
    drain, connections, told = added(clock, 3, 10.0)
    for one in connections:
        drain.remove(one)
    clock.turn_to(120.0)
    assert told == []
    assert not clock.due
    drain.add(connections[0], 10.0)
    clock.turn_to(120.0)
    assert told == [0]


async def test_who_comes_late_is_told_too():
    clock = Clock()
    drain, _, told = added(clock, 2, 10.0)
    clock.turn_to(101.0)
    drain.add(Told(2, told), 10.0)
    clock.turn_to(110.0)
    assert told == [0, 1, 2]


@pytest.mark.parametrize("how", ["force_exit", "_captured_signals"])
async def test_who_is_hurried_tells_the_others_at_once(server, how):
    _, _, told = added(asyncio.get_running_loop(), 3, 10 * DEADLINE)
    await until(lambda: told)
    assert told == [0]
    setattr(server, how, [signal.SIGINT])
    await until(lambda: len(told) == 3)


async def test_who_is_hurried_from_the_beginning_tells_all_at_once(server):
    server._captured_signals.append(signal.SIGINT)
    _, _, told = added(asyncio.get_running_loop(), 3, 10 * DEADLINE)
    assert told == [0, 1, 2]


async def test_who_is_told_politely_is_not_hurried(server):
    server._captured_signals.append(signal.SIGTERM)
    clock = Clock()
    _, _, told = added(clock, 3, 10.0)
    clock.turn_to(100.0)
    assert told == [0]


async def test_a_server_stops_once_it_was_told_or_a_connection_was(server):
    drain = Drain(asyncio.get_running_loop())
    assert not drain.is_stopping
    server.should_exit = True
    assert drain.is_stopping
    server.should_exit = False
    assert not drain.is_stopping
    drain.add(Told(0, []), 0)
    assert drain.is_stopping


async def test_without_a_server_nothing_is_hurried(monkeypatch):
    monkeypatch.setattr(drains, "uvicorn_server", lambda: None)
    clock = Clock()
    _, _, told = added(clock, 2, 10.0)
    clock.turn_to(100.0)
    assert told == [0]
