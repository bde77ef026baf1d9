"""One who joins gets what was missed, and then is level."""

from __future__ import annotations

import asyncio

import pytest

from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group
from django_ws_dispatch.groups.messages import Message
from django_ws_dispatch.groups.replay import follow, latest

from ..kit.members import FakeMember, run
from ..kit.remembering import joined, remembering

GROUP = Group("room:a")


@pytest.fixture(autouse=True)
def _groups():
    with remembering({"room:*": {"history": 5}}):
        yield


def test_who_joins_follows_until_it_is_level():
    async def scenario():
        first, got = FakeMember(), []
        group = await joined(first, GROUP)
        start = group.position
        for number in range(3):
            await GROUP.asend(str(number))

        async def send(message: Message) -> None:
            got.append(message.data)
            if len(got) < 5:  # while it is sent, more comes
                await GROUP.asend(f"more {len(got)}")

        assert await follow(group, start, send, ()) is None
        assert got == ["0", "1", "2", "more 1", "more 2", "more 3", "more 4"]
        assert first.got == got

    run(scenario)


@pytest.mark.parametrize("position", ["", "x", "1.2-3", "9" * 16 + ".9-9", "\0", "a" * 70])
def test_a_position_that_nobody_knows_is_lost(position):
    async def scenario():
        group = await joined(FakeMember(), GROUP)
        await GROUP.asend("1")

        async def send(message: Message) -> None:
            raise AssertionError(message)

        top = await follow(group, position, send, ())
        assert top is not None
        assert top.position == group.position

    run(scenario)


def test_what_excludes_a_reader_is_not_replayed_to_it():
    async def scenario():
        group, got = await joined(FakeMember(), GROUP), []
        start = group.position
        await GROUP.asend("1", exclude="me")
        await GROUP.asend("2", exclude="you")

        async def send(message: Message) -> None:
            got.append(message.data)

        await follow(group, start, send, ["me"])
        assert got == ["2"]
        await follow(group, start, send, ("now", "me", "you"))
        assert got == ["2"]

    run(scenario)


def test_sockets_that_come_back_together_share_what_is_read(monkeypatch):
    reads = []
    aread = MemoryBroker.aread

    async def counted(self, channel, since, *args, **kwargs):
        reads.append(since)
        await asyncio.sleep(0)
        return await aread(self, channel, since, *args, **kwargs)

    async def scenario():
        start = await GROUP.aposition()
        for number in range(5):
            await GROUP.asend(str(number))
        group = await joined(FakeMember(), GROUP)
        monkeypatch.setattr(MemoryBroker, "aread", counted)
        got: list[list[str | bytes]] = [[] for _ in range(50)]

        async def joins(mine: list[str | bytes]) -> None:
            async def send(message: Message) -> None:
                mine.append(message.data)

            assert await follow(group, start, send, ()) is None

        await asyncio.gather(*map(joins, got))
        assert got == [["0", "1", "2", "3", "4"]] * 50
        assert reads == [start]

    run(scenario)


def test_who_has_less_waits_for_what_is_read_for_who_has_least(monkeypatch):
    reads, aread = [], MemoryBroker.aread

    async def counted(self, channel, since, *args, **kwargs):
        reads.append(since)
        await asyncio.sleep(0)
        return await aread(self, channel, since, *args, **kwargs)

    async def scenario():
        positions = [await GROUP.aposition()]
        positions += [await GROUP.asend(str(number)) for number in range(4)]
        group = await joined(FakeMember(), GROUP)
        monkeypatch.setattr(MemoryBroker, "aread", counted)
        got: list[list[str]] = [[], [], []]

        def reader(number):
            async def send(message: Message) -> None:
                got[number].append(message.data)

            return follow(group, positions[number], send, ())

        await asyncio.gather(*(reader(number) for number in range(3)))
        assert got == [["0", "1", "2", "3"], ["1", "2", "3"], ["2", "3"]]
        assert reads == positions[:1]

    run(scenario)


def test_where_the_store_does_not_answer_one_asks_for_all(monkeypatch):
    reads = []

    async def away(self, channel, since, *args, **kwargs):
        reads.append(since)
        await asyncio.sleep(0)
        raise BrokerError("away")

    async def scenario():
        positions = [await GROUP.asend(str(number)) for number in range(4)]
        group = await joined(FakeMember(), GROUP)
        monkeypatch.setattr(MemoryBroker, "aread", away)

        async def send(message: Message) -> None:
            raise AssertionError(message)

        found = await asyncio.gather(
            *(follow(group, one, send, ()) for one in positions[:3]), return_exceptions=True
        )
        assert [str(one) for one in found] == ["away"] * 3
        assert reads == positions[:1]

    run(scenario)


def test_the_latest_are_counted_from_the_end():
    async def scenario():
        group = await joined(FakeMember(), GROUP)
        positions = [await GROUP.asend(str(number)) for number in range(4)]
        await GROUP.aclose()
        assert await latest(group, 2, None) == positions[1]
        assert await latest(group, 2, positions[2]) == positions[2]
        first = await latest(group, 100, None)
        assert [one.data for one in (await GROUP.ahistory(since=first)).messages] == list("0123")

    run(scenario)


def test_what_was_forgotten_is_gone_though_it_was_read_a_moment_ago():
    async def scenario():
        group = await joined(FakeMember(), GROUP)
        position = await GROUP.asend("1")
        await GROUP.aforget()
        await latest(group, 3, None)

        async def send(message: Message) -> None:
            raise AssertionError(message)

        assert await follow(group, position, send, ()) is not None

    run(scenario)
