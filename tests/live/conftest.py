"""What several live tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.database_servers import postgres
from tests.kit.server import Server

from .classes import CLASSES

__all__ = ["postgres", "ws"]


@pytest.fixture(scope="module", params=CLASSES.values(), ids=CLASSES)
def ws(request: pytest.FixtureRequest) -> Iterator[str]:
    """The WebSocket class of all servers of a test, which runs once with each.

    What starts a server for a whole module must ask for this before.
    """
    before, Server.WS = Server.WS, request.param
    yield request.param
    Server.WS = before
