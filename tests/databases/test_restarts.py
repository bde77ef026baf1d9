"""The database is stopped, or crashes, and comes back: it is a broker that was away."""

from __future__ import annotations

import asyncio
import signal
from itertools import cycle, islice

import pytest

from tests.live.test_history import nothing_is_lost, publishing, reading

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
            for how in islice(cycle((None, signal.SIGQUIT, signal.SIGKILL)), 10):
                await publisher.has_sent(50)
                await asyncio.to_thread(here.server.restart, how)
            await publisher.has_sent(50)
        await nothing_is_lost(publisher, first, second)
