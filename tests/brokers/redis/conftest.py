"""What the tests of the Redis broker have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.brokers.redis.babbler import Babbler


@pytest.fixture
def server() -> Iterator[Babbler]:
    babbler = Babbler()
    yield babbler
    babbler.close()
