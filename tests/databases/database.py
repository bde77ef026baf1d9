"""A new database, the broker on it, and a server process that has both."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import pytest
from django.core.management import call_command
from django.db import connections

from tests.kit.database import DatabaseServer
from tests.kit.server import Server

from . import BACKEND

__all__ = ["KINDS", "SERVERS", "Database", "made"]

SERVERS = ["postgresql", "postgresql-polled", "mariadb"]
"""those with a server"""
KINDS = [*SERVERS, "sqlite"]

Result = TypeVar("Result")

APP = "django_ws_dispatch_database"

_numbers = itertools.count()


class Database:
    """An entry of ``DATABASES`` for the time of a test.

    Args:
        kind: of ``KINDS``.
        settings: as ``DATABASES`` has it.
        server: that it is on, ``None`` where it is a file.
    """

    def __init__(
        self, kind: str, settings: Mapping[str, Any], server: DatabaseServer | None = None
    ) -> None:
        self.kind = kind
        self.settings = settings
        self.server = server
        self.alias = f"database{next(_numbers)}"
        """in this process; in that of a site it is the only one, ``"default"``"""
        self._wrappers: list[Any] = []
        self.options = {"poll": 0.1, "listen": kind != "postgresql-polled", "timeout": 2}

    def brokers(self, using: str = "default") -> dict[str, Any]:
        """``WEBSOCKET_BROKERS`` with it."""
        return {"default": {"BACKEND": BACKEND, "OPTIONS": {**self.options, "using": using}}}

    @property
    def environment(self) -> dict[str, str]:
        """Of a process of the site."""
        return {
            "DJANGO_SETTINGS_MODULE": "tests.databases.settings",
            "LIVE_DATABASE": json.dumps(self.settings),
            "WEBSOCKET_BROKERS": json.dumps(self.brokers()),
        }

    def site(self, **environment: str) -> Server:
        """Return a process of the site, not started yet."""
        environment = {**self.environment, **environment}
        return Server(settings="tests.databases.settings", environment=environment)

    def sessions(self) -> int:
        """How many connections to it there are."""
        if self.server is None:
            raise RuntimeError(f"{self.kind} has no server")
        return self.server.sessions(self.settings["NAME"])

    async def do(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Call it in a thread, whose connections are closed behind it."""

        def do() -> Result:
            try:
                return work(*arguments)
            finally:
                connections.close_all()

        return await asyncio.to_thread(do)

    @contextmanager
    def known(self) -> Iterator[None]:
        """Have it among Django's databases, with the broker's tables."""
        (configured,) = connections.configure_settings({"default": dict(self.settings)}).values()
        connections.databases[self.alias] = configured
        with patch.object(connections, "create_connection", self._create_connection):
            call_command("migrate", APP, database=self.alias, verbosity=0)
            try:
                yield
            finally:
                self.release()
                del connections[self.alias]
                del connections.databases[self.alias]

    def _create_connection(self, alias: str) -> Any:
        wrapper = type(connections).create_connection(connections, alias)
        if alias == self.alias:
            wrapper.inc_thread_sharing()
            self._wrappers.append(wrapper)
        return wrapper

    def release(self) -> None:
        """Close what threads that are no more have left connected, as a request's end would."""
        for wrapper in self._wrappers:
            wrapper.close()


@contextmanager
def made(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Make the one that a fixture was asked for. Django may use it all the while."""
    with (
        request.getfixturevalue("django_db_blocker").unblock(),
        _new(request.param, request) as database,
        database.known(),
    ):
        yield database


@contextmanager
def _new(kind: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="sqlite-") as folder:
            yield Database(kind, sqlite(Path(folder)))
        return
    server = request.getfixturevalue("mariadb" if kind == "mariadb" else "postgres")
    with server.database(f"site_{os.getpid()}_{next(_numbers)}") as settings:
        yield Database(kind, settings, server)


def sqlite(folder: Path) -> dict[str, Any]:
    """As docs/topics/brokers.md has it."""
    options = {
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        "timeout": 20,
    }
    engine = "django.db.backends.sqlite3"
    return {"ENGINE": engine, "NAME": str(folder / "db.sqlite3"), "OPTIONS": options}
