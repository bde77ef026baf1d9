"""What a group remembers, where its broker crashes: with its data, without, or with older data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
import redis.asyncio

from django_ws_dispatch import groups
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group
from tests.kit.valkey import Valkey
from tests.kit.waiting import until

from .test_redis import use

pytestmark = [pytest.mark.live, pytest.mark.asyncio]

ROOM = Group("room:a")
ALL_IS_KEPT = ("--appendonly", "yes", "--appendfsync", "always")


@pytest_asyncio.fixture(autouse=True)
async def release() -> AsyncIterator[None]:
    yield
    await groups.members.aclose()


@pytest.fixture
def valkey(request: pytest.FixtureRequest, settings: Any) -> Iterator[Valkey]:
    settings.WEBSOCKET_GROUPS = {"room:*": {"history": 100_000}}
    with Valkey(arguments=getattr(request, "param", ())) as valkey:
        yield use(valkey, settings)


class Reader:
    """Reads the numbers that are sent, until it is told that some are lost."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.told: BrokerError | None = None

    async def read(self, messages: AsyncIterator[str | bytes]) -> None:
        try:
            async for message in messages:
                self.got.append(int(message))
        except BrokerError as exc:
            self.told = exc


@asynccontextmanager
async def reading(group: Group = ROOM) -> AsyncIterator[Reader]:
    reader = Reader()
    async with group.subscribe() as messages:
        task = asyncio.create_task(reader.read(messages))
        try:
            yield reader
        finally:
            task.cancel()
            await asyncio.wait([task])


class Publisher:
    """Sends numbers, each once, one after the other; what is refused is sent no second time."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.unsure: set[int] = set()

    async def publish(self) -> None:
        number = 0
        while True:
            try:
                await ROOM.asend(str(number))
            except BrokerError:
                self.unsure.add(number)
                await asyncio.sleep(0.01)
            else:
                self.sent.append(number)
            number += 1
            await asyncio.sleep(0.001)

    async def has_sent(self, count: int) -> None:
        """Return once it has sent so many more."""
        count += len(self.sent)
        await until(lambda: len(self.sent) >= count)


@asynccontextmanager
async def publishing() -> AsyncIterator[Publisher]:
    publisher = Publisher()
    task = asyncio.create_task(publisher.publish())
    try:
        yield publisher
    finally:
        task.cancel()
        await asyncio.wait([task])


async def nothing_is_lost(publisher: Publisher, *readers: Reader) -> None:
    """Wait for the last message, and see that each has all of them, in order and once."""
    last = publisher.sent[-1]
    for reader in readers:
        await until(lambda one=reader: one.told or (one.got and one.got[-1] >= last))
    for reader in readers:
        assert reader.told is None
        assert reader.got == sorted(set(reader.got))
        # Of what was refused nobody knows whether it was kept.
        assert set(publisher.sent) <= set(reader.got)
        assert set(reader.got) <= {*publisher.sent, *publisher.unsure, last + 1}


async def crash(valkey: Valkey) -> None:
    """Kill it and start it again; who reads and publishes goes on meanwhile."""
    await asyncio.to_thread(valkey.restart)


@pytest.mark.parametrize("valkey", [ALL_IS_KEPT], indirect=True)
async def test_a_broker_that_comes_back_with_its_data_has_lost_nothing(valkey: Valkey) -> None:
    async with reading() as first, reading() as second:
        async with publishing() as publisher:
            for _ in range(3):
                await publisher.has_sent(50)
                await crash(valkey)
            await publisher.has_sent(50)
        await nothing_is_lost(publisher, first, second)


async def test_a_broker_that_comes_back_with_nothing_is_told(valkey: Valkey) -> None:
    async with reading() as reader:
        for number in range(10):
            await ROOM.asend(str(number))
        await until(lambda: len(reader.got) == 10)
        await crash(valkey)
        await until(lambda: reader.told)
    assert reader.got == [*range(10)]
    assert "were lost" in str(reader.told)


async def test_who_reads_is_told_of_an_older_state(valkey: Valkey) -> None:
    async with reading() as reader:
        for number in range(20):
            await ROOM.asend(str(number))
            if number == 9:
                async with redis.asyncio.from_url(valkey.url) as client:
                    await client.save()
        await until(lambda: len(reader.got) == 20)
        older = await ROOM.aposition()
        await crash(valkey)
        await until(lambda: reader.told)
        assert reader.got == [*range(20)]
        assert "were lost" in str(reader.told)
        # What comes now has no position that there was.
        async with reading() as fresh:
            assert await ROOM.asend("20") != older
            await until(lambda: fresh.got == [20])
            assert not (await ROOM.ahistory(older)).complete
