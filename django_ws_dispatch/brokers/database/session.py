"""SQL on one connection: that of a thread, or one that no request ever shares."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from copy import deepcopy
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import DatabaseError, load_backend

__all__ = ["OwnSession", "Row", "Session", "in_memory", "is_conflict"]

Row = tuple[Any, ...]

# What a database has come to refuse since two transactions met: SQLite's texts, the numbers of
# MySQL (a deadlock, a lock that was waited for too long, or not at all), PostgreSQL's states.
_LOCKED = ("database is locked", "database table is locked", "database schema is locked")
_MYSQL = (1205, 1213, 3572)
_POSTGRES = ("40001", "40P01", "55P03")


class Session:
    """SQL on Django's connection of the running thread: part of its transaction.

    Args:
        using: an alias of ``DATABASES``.
    """

    def __init__(self, using: str = DEFAULT_DB_ALIAS) -> None:
        self.wrapper: BaseDatabaseWrapper = connections[using]
        self.vendor = self.wrapper.vendor

    def cursor(self) -> AbstractContextManager[Any]:
        """Return a cursor for one block."""
        return self.wrapper.cursor()

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Execute one statement; return its rows, if it has any."""
        with self.cursor() as cursor:
            cursor.execute(sql, parameters)
            return [*cursor.fetchall()] if cursor.description else []

    def one(self, sql: str, parameters: Sequence[object] = ()) -> Row | None:
        """Return the first row, ``None`` if there is none."""
        rows = self.execute(sql, parameters)
        return rows[0] if rows else None

    def transaction(self) -> AbstractContextManager[None]:
        """Make one transaction of a block, which writes."""
        return transaction.atomic(using=self.wrapper.alias)

    @property
    def in_transaction(self) -> bool:
        """Whether what is written may be rolled back yet."""
        wrapper = self.wrapper
        return wrapper.in_atomic_block or (
            wrapper.connection is not None and not wrapper.get_autocommit()
        )

    @property
    def is_in_test(self) -> bool:
        """Whether that is the transaction of a ``TestCase``, which never commits."""
        # As Django itself tells it, where it is asked for a durable transaction.
        return any(getattr(one, "_from_testcase", False) for one in self.wrapper.atomic_blocks)

    @property
    def is_broken(self) -> bool:
        """Whether the connection is of no use any more."""
        return self.wrapper.connection is not None and not self.wrapper.is_usable()

    @contextmanager
    def patience(self, timeout: float) -> Iterator[None]:
        """Wait for another one's lock no longer than that, in seconds, where it is known how."""
        connection = self.wrapper.connection
        if self.vendor != "sqlite" or connection is None or self.in_transaction:
            yield
            return
        # On the driver's connection, and put back: nothing of it is left to who looks.
        (before,) = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute(f"PRAGMA busy_timeout = {round(timeout * 1000)}")
        try:
            yield
        finally:
            if self.wrapper.connection is connection:
                connection.execute(f"PRAGMA busy_timeout = {before}")

    def close(self) -> None:
        """Close the connection, whatever state it is in."""
        with suppress(Exception):
            self.wrapper.close()

    # What databases say in different words

    @property
    def now(self) -> str:
        """SQL: the microseconds since 1970, by the database's clock."""
        if self.vendor == "postgresql":
            return "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
        if self.vendor == "mysql":
            return "timestampdiff(microsecond, '1970-01-01', utc_timestamp(6))"
        # It is a part of this process.
        return str(int(time.time() * 1_000_000))

    @property
    def binary(self) -> str:
        """SQL: the place of an argument that is ``bytes``."""
        return "_binary %s" if self.vendor == "mysql" else "%s"

    @property
    def for_update(self) -> str:
        """SQL: behind a SELECT in a transaction, to have its rows until the end."""
        return "" if self.vendor == "sqlite" else "FOR UPDATE"

    @property
    def for_update_if_free(self) -> str:
        """SQL: the same, but where another one has a row there is none, or an error."""
        features = self.wrapper.features
        if features.has_select_for_update_skip_locked:
            return "FOR UPDATE SKIP LOCKED"
        return "FOR UPDATE NOWAIT" if features.has_select_for_update_nowait else self.for_update

    def insert_missing(self, table: str, values: dict[str, object]) -> None:
        """Insert a row unless there is one with that key."""
        columns = ", ".join(values)
        places = ", ".join(
            self.binary if isinstance(value, bytes) else "%s" for value in values.values()
        )
        if self.vendor == "mysql":
            sql = f"INSERT IGNORE INTO {table} ({columns}) VALUES ({places})"
        else:
            sql = f"INSERT INTO {table} ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING"
        self.execute(sql, [*values.values()])


class OwnSession(Session):
    """SQL on a connection of its own, in one thread at a time; each statement is a transaction.

    Django knows nothing of it: it is in no log of queries, no request closes it, and no pool has
    it. It is made as it is first used.

    Args:
        using: an alias of ``DATABASES``.
        timeout: seconds for connecting, and for a lock of another one's.
    """

    def __init__(self, using: str, timeout: float) -> None:
        self.wrapper = _make_wrapper(using, timeout)
        self.vendor = self.wrapper.vendor

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        wrapper: Any = self.wrapper
        wrapper.ensure_connection()
        with wrapper.wrap_database_errors:
            cursor = wrapper.create_cursor()
            try:
                yield cursor
            finally:
                cursor.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.execute("BEGIN IMMEDIATE" if self.vendor == "sqlite" else "BEGIN")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            with suppress(Exception):  # it may be broken, and then there is nothing to roll back
                self.execute("ROLLBACK")
            raise

    @property
    def in_transaction(self) -> bool:
        return False

    @contextmanager
    def patience(self, timeout: float) -> Iterator[None]:
        yield  # it was made with it

    def close(self) -> None:
        # Not by Django's wrapper, which refuses that where an event loop runs.
        connection, self.wrapper.connection = self.wrapper.connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def abort(self) -> None:
        """End what another thread does on it, as far as the driver can, and have it closed."""
        connection: Any = self.wrapper.connection
        with suppress(Exception):
            if self.vendor == "sqlite":
                connection.interrupt()
            elif self.vendor == "postgresql":
                with socket.socket(fileno=os.dup(connection.fileno())) as copy:
                    copy.shutdown(socket.SHUT_RDWR)


def _make_wrapper(using: str, timeout: float) -> BaseDatabaseWrapper:
    settings: dict[str, Any] = deepcopy(connections.settings[using])
    options = settings["OPTIONS"]
    # One of a pool would be missing there for as long as this one is.
    options.pop("pool", None)
    settings.update(AUTOCOMMIT=True, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=False)
    wrapper: BaseDatabaseWrapper = load_backend(settings["ENGINE"]).DatabaseWrapper(settings, using)
    if wrapper.vendor == "sqlite":
        options["timeout"] = timeout
    elif wrapper.vendor == "postgresql":
        options.setdefault("connect_timeout", max(2, round(timeout)))
    elif wrapper.vendor == "mysql":
        options.setdefault("connect_timeout", max(1, round(timeout)))
        # The driver waits for an answer where nobody can wake it.
        options.setdefault("read_timeout", max(1, round(2 * timeout)))
        options.setdefault("write_timeout", max(1, round(2 * timeout)))
    # One thread after the other uses it.
    wrapper.inc_thread_sharing()
    return wrapper


def in_memory(using: str) -> bool:
    """Return whether a database is one of SQLite that is in this process only.

    A second connection to it finds its tables locked as soon as the first one writes.
    """
    wrapper: Any = connections[using]
    return bool(wrapper.vendor == "sqlite" and wrapper.is_in_memory_db())


def is_conflict(exc: DatabaseError) -> bool:
    """Return whether a database has refused something since somebody else was at it."""
    cause = exc.__cause__ or exc
    if str(cause).startswith(_LOCKED):
        return True
    if getattr(cause, "sqlstate", getattr(cause, "pgcode", None)) in _POSTGRES:
        return True
    return bool(cause.args) and cause.args[0] in _MYSQL
