"""The tests of brokers that know who is here: what is wrong with one is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.brokers.presence import Entry, Roll, Tracked
from django_ws_dispatch.testing import rooms
from django_ws_dispatch.testing.presences import PresenceConformance


class Blind(MemoryBroker):
    has_presence = False


class TestWithoutPresence(PresenceConformance):
    def make_broker(self) -> MemoryBroker:
        return Blind("default", None, {})


class Adds(MemoryBroker):
    """Takes how many there are for how many have come."""

    async def atrack(self, *args: Any, **options: Any) -> Tracked:
        channel, tracker, entries, listed = args
        found = (await self.asnapshot(channel, 1000)).here
        had = {one.key: one.sockets for one in found}
        more = [
            one._replace(sockets=one.sockets + had.get(one.key, 0)) if one.sockets else one
            for one in entries
        ]
        return await super().atrack(channel, tracker, more, listed, **options)


class Silent(MemoryBroker):
    """Tells nobody of what has changed."""

    async def apublish(self, channel: str, message: bytes) -> None:
        if message == b"end":
            await super().apublish(channel, message)


class Hurries(MemoryBroker):
    """Has nobody linger."""

    async def atrack(self, *args: Any, **options: Any) -> Tracked:
        channel, tracker, entries, listed = args
        told: Sequence[Entry] = [one._replace(lingers=False) for one in entries]
        return await super().atrack(channel, tracker, told, listed, **options)


class Turns(MemoryBroker):
    """Lists the newest first."""

    def snapshot(self, channel: str, most: int) -> Roll:
        roll = super().snapshot(channel, most)
        return roll._replace(here=roll.here[::-1])

    async def asnapshot(self, channel: str, most: int) -> Roll:
        return self.snapshot(channel, most)


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Adds, "test_what_is_said_is_how_many_there_are_so_that_twice_is_once"),
        (Silent, "test_all_that_is_told_is_a_chain_that_leads_to_what_is_here"),
        (Hurries, "test_who_lingers_is_here_and_may_come_back"),
        (Turns, "test_who_is_here_longest_comes_first"),
    ],
)
def test_what_is_wrong_with_a_broker_is_found(
    kind: type[MemoryBroker], test: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "DEADLINE", 0.2)

    class Conformance(PresenceConformance):
        def make_broker(self) -> MemoryBroker:
            return kind("default", None, {})

    with pytest.raises(AssertionError, match="expected"):
        getattr(Conformance(), test)()


def test_it_is_over_at_once_where_the_broker_has_no_presence() -> None:
    broker = Blind("default", None, {})

    class Conformance(PresenceConformance):
        def make_broker(self) -> MemoryBroker:
            return broker

    for name in dir(Conformance):
        if name.startswith("test_"):
            getattr(Conformance(), name)()
    assert broker._presences._channels == {}
