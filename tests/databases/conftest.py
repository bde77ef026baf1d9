"""Each database in turn: a new one, with the broker's tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from django_ws_dispatch import groups
from tests.kit.database_servers import mariadb, postgres

from .database import KINDS, Database, made

__all__ = ["mariadb", "postgres"]


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A new one. A test can say on which of ``KINDS`` it runs."""
    with made(request) as database:
        yield database


@pytest.fixture(scope="module", params=KINDS)
def lasting_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """One for all tests of a module."""
    with made(request) as database:
        yield database


@pytest_asyncio.fixture
async def here(
    database: Database, settings: Any, django_db_blocker: Any
) -> AsyncIterator[Database]:
    """The database is that of the test's own broker, too; at the end nothing is left on it."""
    settings.WEBSOCKET_BROKERS = database.brokers(database.alias)
    with django_db_blocker.unblock():
        yield database
        await groups.members.aclose()
