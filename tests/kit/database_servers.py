"""Fixtures: one server of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TypeVar

import pytest

from .database import DatabaseServer
from .mariadb import MariaDBServer, find_programs
from .missing import missing
from .postgres import PostgresServer, find_binaries

__all__ = ["mariadb", "postgres"]

Server = TypeVar("Server", bound=DatabaseServer)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL."""
    if find_spec("psycopg") is None:
        missing("psycopg")
    if (folder := find_binaries()) is None:
        missing("PostgreSQL (postgres, initdb, pg_isready)")
    yield from running(PostgresServer(folder))


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDBServer]:
    """A running MariaDB."""
    if find_spec("MySQLdb") is None:
        missing("mysqlclient")
    if (programs := find_programs()) is None:
        missing("MariaDB (mariadbd, mariadb-install-db)")
    yield from running(MariaDBServer(programs))


def running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.remove()
