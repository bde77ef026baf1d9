"""A subscription that is deaf, and still answers, is found; and who is here is said again."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from django_ws_dispatch.brokers.history import Keep, Top
from django_ws_dispatch.brokers.presence import REFRESH
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import patrol as module

from ..kit.waiting import until

pytestmark = pytest.mark.asyncio


class FakeBroker:
    def __init__(self):
        self.answers, self.renewed, self.asked = [], [], []

    async def atops(self, channels):
        self.asked.append(channels)
        answer = self.answers.pop(0) if self.answers else [None] * len(channels)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def atop(self, channel, keep):
        self.renewed.append((channel, keep))


class FakeGroup:
    options = SimpleNamespace(keep=Keep(1, 1.0))

    def __init__(self):
        self.compared = []

    def compare(self, top):
        self.compared.append(top)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)


async def patrolling(broker, groups, condition):
    task = asyncio.ensure_future(module.patrol(broker, groups))
    try:
        await until(condition)
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_each_group_is_compared_with_its_store():
    broker, a, b = FakeBroker(), FakeGroup(), FakeGroup()
    broker.answers = [[Top("1.2-3", 0), None]]
    await patrolling(broker, {"a": a, "b": b}, lambda: a.compared)
    assert broker.asked[0] == ["a", "b"]
    assert (a.compared[0], b.compared[0]) == (Top("1.2-3", 0), None)


async def test_it_goes_on_when_the_broker_is_away_or_answers_nonsense(caplog):
    broker, group = FakeBroker(), FakeGroup()
    broker.answers = [BrokerError("away"), ValueError("nonsense"), [Top("1.2-3", 0)]]
    await patrolling(broker, {"a": group}, lambda: group.compared)
    assert caplog.text.count("could not be compared") == 1


async def test_a_group_that_has_gone_meanwhile_is_left_alone():
    groups = {"a": FakeGroup(), "b": FakeGroup()}
    gone = groups["a"]

    class Slow(FakeBroker):
        async def atops(self, channels):
            groups.pop("a", None)
            return await super().atops(channels)

    await patrolling(Slow(), groups, lambda: groups["b"].compared)
    assert gone.compared == []


async def test_positions_of_quiet_groups_are_kept_alive(monkeypatch):
    monkeypatch.setattr(module, "RENEWED_AFTER", 2)
    broker, group = FakeBroker(), FakeGroup()
    await patrolling(broker, {"a": group}, lambda: broker.renewed)
    assert broker.renewed[0] == ("a", Keep(1, 1.0))


# Who is here


class FakePresent:
    def __init__(self, then=lambda: None):
        self.beats = 0
        self.then = then

    def refresh(self):
        self.beats += 1
        self.then()


async def beating(groups, condition):
    task = asyncio.ensure_future(module.beat(groups))
    try:
        await until(condition)
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_each_group_says_again_and_again_that_it_is_there(monkeypatch):
    monkeypatch.setattr(module, "REFRESH", 0.0)
    a, b = FakePresent(), FakePresent()
    await beating({"a": a, "b": b}, lambda: a.beats > 2)
    assert abs(a.beats - b.beats) <= 1


async def test_it_does_not_say_so_at_once():
    group = FakePresent()
    task = asyncio.ensure_future(module.beat({"a": group}))
    for _ in range(10):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert not group.beats


async def test_groups_may_come_and_go_while_it_is_said(monkeypatch):
    monkeypatch.setattr(module, "REFRESH", 0.0)
    groups = {}
    groups["a"] = FakePresent(lambda: groups.pop("a"))
    groups["b"] = FakePresent()
    await beating(groups, lambda: groups["b"].beats > 1)
    assert list(groups) == ["b"]


async def test_thousands_of_groups_are_spread_over_the_time(monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 2)
    groups = {name: FakePresent() for name in "abcde"}
    slept = []

    async def sleep(seconds):
        slept.append((seconds, sum(group.beats for group in groups.values())))
        if len(slept) > 4:
            raise asyncio.CancelledError

    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep))
    with pytest.raises(asyncio.CancelledError):
        await module.beat(groups)
    assert slept == [(REFRESH / 3, beats) for beats in (0, 2, 4, 5, 7)]


async def test_a_beat_without_groups_waits_for_some(monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) > 2:
            raise asyncio.CancelledError

    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep))
    with pytest.raises(asyncio.CancelledError):
        await module.beat({})
    assert slept == [REFRESH] * 3
