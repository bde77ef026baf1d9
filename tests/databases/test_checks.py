"""What checks say of a database: they let nobody go on who can not, and migrate always."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connections

from django_ws_dispatch.brokers import build_broker
from django_ws_dispatch.brokers.database.checks import check_databases, check_settings

from . import BACKEND
from .database import APP, Database

pytestmark = [pytest.mark.live, pytest.mark.databases]


def ids(database: Database) -> list[str | None]:
    return [one.id for one in check_databases(databases=[database.alias])]


def test_a_database_with_its_tables_is_right(database: Database, settings: Any) -> None:
    settings.WEBSOCKET_BROKERS = database.brokers(database.alias)
    assert ids(database) == []
    assert check_settings() == []
    assert check_databases() == []


def test_one_without_is_warned_of_and_can_be_migrated(database: Database, settings: Any) -> None:
    settings.WEBSOCKET_BROKERS = database.brokers(database.alias)
    call_command("migrate", APP, "zero", database=database.alias, verbosity=0)
    (found,) = check_databases(databases=[database.alias])
    assert (found.id, found.is_serious()) == ("ws_dispatch_database.W003", False)
    assert f"migrate --database {database.alias}" in str(found.hint)
    call_command("migrate", APP, database=database.alias, verbosity=0, skip_checks=False)
    assert ids(database) == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_trigger_that_is_missing_is_found(database: Database, settings: Any) -> None:
    settings.WEBSOCKET_BROKERS = database.brokers(database.alias)
    with connections[database.alias].cursor() as cursor:
        cursor.execute("DROP TRIGGER django_ws_dispatch_number ON django_ws_dispatch_message")
    assert ids(database) == ["ws_dispatch_database.W004"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_sqlite_is_warned_of_where_it_is_not_set_up_for_many(
    database: Database, settings: Any
) -> None:
    settings.WEBSOCKET_BROKERS = database.brokers(database.alias)
    wrapper: Any = connections[database.alias]
    with wrapper.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = DELETE")
    # It is what is written, whether anything was connected or not.
    connections.databases[database.alias]["OPTIONS"].pop("transaction_mode")
    assert [one.id for one in check_settings()] == ["ws_dispatch_database.W001"]
    assert ids(database) == ["ws_dispatch_database.W002"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"LOCATION": "redis://"}, "LOCATION must be left out"),
        ({"OPTIONS": {"using": "nowhere"}}, 'OPTIONS["using"] must be an alias of DATABASES'),
        ({"OPTIONS": {"using": 1}}, 'OPTIONS["using"] must be an alias of DATABASES'),
        ({"OPTIONS": {"poll": 0}}, 'OPTIONS["poll"] must be a number of seconds'),
        ({"OPTIONS": {"poll": True}}, 'OPTIONS["poll"] must be a number of seconds'),
        ({"OPTIONS": {"listen": 1}}, 'OPTIONS["listen"] must be True or False'),
        ({"OPTIONS": {"prefix": "x"}}, "OPTIONS does not know prefix"),
    ],
)
def test_a_wrong_option_is_named(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="WEBSOCKET_BROKERS") as raised:
        build_broker("default", {"BACKEND": BACKEND, **config})
    assert said in str(raised.value)


def test_without_its_app_the_broker_says_what_to_add(settings: Any) -> None:
    settings.INSTALLED_APPS = [
        one for one in settings.INSTALLED_APPS if one != "django_ws_dispatch.brokers.database"
    ]
    with pytest.raises(ImproperlyConfigured, match="INSTALLED_APPS"):
        build_broker("default", {"BACKEND": BACKEND})
