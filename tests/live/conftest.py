"""What several live tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kit.postgres import PostgresServer, find_binaries
from tests.kit.server import Server

from .classes import CLASSES


@pytest.fixture(scope="module", params=CLASSES.values(), ids=CLASSES)
def ws(request: pytest.FixtureRequest) -> Iterator[str]:
    """The WebSocket class of all servers of a test, which runs once with each.

    What starts a server for a whole module must ask for this before.
    """
    before, Server.WS = Server.WS, request.param
    yield request.param
    Server.WS = before


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server. Without PostgreSQL the test is skipped, but where CI is set it fails."""
    missing = None
    try:
        import psycopg  # noqa: F401
    except ImportError:
        missing = "psycopg is not installed"
    folder = find_binaries()
    if folder is None:
        missing = "PostgreSQL (postgres, initdb, pg_isready) is not installed"
    if missing or folder is None:
        if os.environ.get("CI"):
            pytest.fail(f"{missing}, and CI is set.")
        pytest.skip(f"{missing}.")
    server = PostgresServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.remove()
