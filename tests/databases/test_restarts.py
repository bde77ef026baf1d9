"""The database is stopped, or crashes, and comes back: it is a broker that was away."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.kit.waiting import until
from tests.live.test_history import publishing, reading

from .database import SERVERS, Database

pytestmark = [
    pytest.mark.live,
    pytest.mark.databases,
    pytest.mark.asyncio,
    pytest.mark.parametrize("database", SERVERS, indirect=True),
]


async def test_a_database_that_comes_back_has_lost_nothing(here: Database) -> None:
    assert here.server is not None
    async with reading() as first, reading() as second:
        async with publishing() as publisher:
            for how in (None, signal.SIGQUIT, signal.SIGKILL):
                await publisher.has_sent(50)
                await asyncio.to_thread(here.server.restart, how)
            await publisher.has_sent(50)
        last = publisher.sent[-1]
        for reader in (first, second):
            await until(lambda one=reader: one.told or (one.got and one.got[-1] >= last))
    for reader in (first, second):
        assert reader.told is None
        # In order, and once.
        assert reader.got == sorted(set(reader.got))
        # Of what was refused nobody knows whether it was committed.
        assert set(publisher.sent) <= set(reader.got)
        assert set(reader.got) <= {*publisher.sent, *publisher.unsure, last + 1}
