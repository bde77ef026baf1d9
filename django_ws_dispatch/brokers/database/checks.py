"""System checks of the database broker, which its app brings.

=========================  =======================================================================
id                         says
=========================  =======================================================================
ws_dispatch_database.E001  A database of another kind than those that the broker can use.
ws_dispatch_database.E002  ``--database``: it can not be looked into.
ws_dispatch_database.E003  ``--database``: it is a replica of PostgreSQL, on which nobody can send.
ws_dispatch_database.E004  ``--database``: MySQL has the tables in an engine without transactions.
ws_dispatch_database.W001  SQLite without ``"transaction_mode": "IMMEDIATE"``.
ws_dispatch_database.W002  ``--database``: SQLite without WAL.
ws_dispatch_database.W003  ``--database``: the tables are not there. It is no error, which would
                           keep ``migrate`` from making them.
ws_dispatch_database.W004  ``--database``: PostgreSQL has not the trigger that numbers messages.
=========================  =======================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections

from ...conf import conf
from .. import build_broker
from .broker import DatabaseBroker
from .session import Session, in_memory
from .tables import COUNTERS, MESSAGES

__all__ = ["check_databases", "check_settings", "register"]

SQLITE_HINT = (
    'Write in DATABASES: "OPTIONS": {"transaction_mode": "IMMEDIATE", '
    '"init_command": "PRAGMA journal_mode=WAL"}, or silence this check.'
)


def register() -> None:
    """Register the checks with Django; those that look into a database run with ``--database``."""
    checks.register(check_settings, "websockets")
    checks.register(check_databases, checks.Tags.database)


def _brokers() -> Iterator[DatabaseBroker]:
    try:
        configs = conf.brokers
    except ImproperlyConfigured:
        return  # another check says so
    for alias, config in configs.items():
        try:
            broker = build_broker(alias, config)
        except ImproperlyConfigured:
            continue
        if isinstance(broker, DatabaseBroker):
            yield broker


def check_settings(app_configs: object = None, **kwargs: object) -> list[CheckMessage]:
    """Check what can be seen of the databases without a connection.

    Args:
        app_configs, kwargs: Django's, and not used.
    """
    found: list[CheckMessage] = []
    for broker in _brokers():
        wrapper: Any = connections[broker.using]
        which = f"The database {broker.using!r}, which the broker {broker.alias!r} uses,"
        if wrapper.vendor not in ("sqlite", "postgresql", "mysql"):
            found.append(
                checks.Error(
                    f"{which} is of {wrapper.display_name}, which it can not use.",
                    hint="Use PostgreSQL, SQLite, MySQL or MariaDB, or the Redis broker.",
                    id="ws_dispatch_database.E001",
                )
            )
        elif (
            wrapper.vendor == "sqlite"
            and not in_memory(broker.using)
            and str(wrapper.settings_dict["OPTIONS"].get("transaction_mode")).upper() != "IMMEDIATE"
        ):
            found.append(
                checks.Warning(
                    f'{which} has not "transaction_mode": "IMMEDIATE": a transaction that reads '
                    "before it sends fails as soon as another process has written, however long "
                    "it waits.",
                    hint=SQLITE_HINT,
                    id="ws_dispatch_database.W001",
                )
            )
    return found


def check_databases(
    app_configs: object = None, databases: Sequence[str] | None = None, **kwargs: object
) -> list[CheckMessage]:
    """Look into the databases that brokers use: ``manage.py check --database default``.

    Args:
        app_configs, kwargs: Django's, and not used.
        databases: aliases that are asked for.
    """
    found: list[CheckMessage] = []
    for broker in _brokers():
        if broker.using in (databases or ()):
            found += _look_into(broker)
    return found


def _look_into(broker: DatabaseBroker) -> Iterator[CheckMessage]:
    which = f"The database {broker.using!r}, which the broker {broker.alias!r} uses,"
    session = Session(broker.using)
    try:
        with session.cursor() as cursor:
            tables = session.wrapper.introspection.table_names(cursor)
        if MESSAGES not in tables or COUNTERS not in tables:
            # No error: it would keep migrate from making them.
            yield checks.Warning(
                f"{which} has not its tables.",
                hint=f"Run: manage.py migrate --database {broker.using}",
                id="ws_dispatch_database.W003",
            )
            return
        yield from _look_at_vendor(session, which)
    except Error as exc:
        yield checks.Error(f"{which} can not be looked into: {exc}", id="ws_dispatch_database.E002")


def _look_at_vendor(session: Session, which: str) -> Iterator[CheckMessage]:
    if session.vendor == "sqlite" and not in_memory(session.wrapper.alias):
        ((mode,),) = session.execute("PRAGMA journal_mode")
        if str(mode).lower() != "wal":
            yield checks.Warning(
                f"{which} has the journal mode {mode!r}: whoever reads waits for whoever writes, "
                "and the other way round.",
                hint=SQLITE_HINT,
                id="ws_dispatch_database.W002",
            )
    elif session.vendor == "postgresql":
        ((replica,),) = session.execute("SELECT pg_is_in_recovery()")
        if replica:
            yield checks.Error(
                f"{which} is a replica, on which nobody can send.",
                hint='Name a primary in OPTIONS["using"].',
                id="ws_dispatch_database.E003",
            )
        trigger = session.one(
            f"SELECT 1 FROM pg_trigger WHERE tgrelid = '{MESSAGES}'::regclass "
            "AND NOT tgisinternal AND tgenabled IN ('O', 'A')"
        )
        if trigger is None:
            yield checks.Warning(
                f"{which} has not the trigger that numbers messages: none would arrive.",
                hint="Restore it with the tables, or run the migration again: manage.py migrate "
                "django_ws_dispatch_database zero, and manage.py migrate.",
                id="ws_dispatch_database.W004",
            )
    elif session.vendor == "mysql":
        row = session.one(
            "SELECT engine FROM information_schema.tables "
            "WHERE table_schema = database() AND table_name = %s",
            [MESSAGES],
        )
        if row is not None and str(row[0]).lower() != "innodb":
            yield checks.Error(
                f"{which} has its tables in {row[0]}, which knows no transactions.",
                hint=f"ALTER TABLE {MESSAGES} ENGINE=InnoDB, and the other tables, too.",
                id="ws_dispatch_database.E004",
            )
