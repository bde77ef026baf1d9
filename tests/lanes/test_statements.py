"""Which statements are known to leave nothing in the session of a connection."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import connection
from django.db.models import Count, F, Max, OuterRef, Q, Subquery, Value
from django.db.models.functions import Cast, Coalesce, Lower, TruncDate
from django.utils import timezone

from django_ws_dispatch.lanes import statements
from django_ws_dispatch.lanes.statements import leaves_nothing

LEAVE_NOTHING = [
    'SELECT "a"."id" FROM "a" WHERE ("a"."x" = %s AND "a"."y" IN (%s, %s)) LIMIT 21',
    'SELECT COUNT(*) AS "__count" FROM "a"',
    "select pg_backend_pid(), pg_sleep(0.1), current_setting('app.tenant')",
    "SELECT * FROM t WHERE x = 'set_config(1)'",
    "(SELECT 1) UNION (SELECT 2)",
    "SELECT 1;",
    "WITH x AS (SELECT 1) SELECT * FROM x",
    'SELECT CAST("a"."x" AS varchar(20)), ("a"."y")::numeric(5, 2) FROM a',
    'SELECT "a"."t" @> %s, "a"."b" @@ (to_tsquery(%s)), "a"."j" #> %s FROM "a"',
    'INSERT INTO "a" ("x", "y") VALUES (%s, %s) RETURNING "a"."id"',
    'INSERT INTO "s"."a" ("x") SELECT 1',
    "INSERT INTO `a` (`x`) VALUES (%s) ON DUPLICATE KEY UPDATE `x` = VALUES(`x`)",
    'INSERT OR IGNORE INTO "a" ("x") SELECT 1',
    'INSERT INTO "a" ("x") VALUES (%s) ON CONFLICT("x") DO UPDATE SET "x" = EXCLUDED."x"',
    'UPDATE "a" SET "x" = ("a"."x" + %s) WHERE "a"."id" = %s',
    'DELETE FROM "a" WHERE "a"."id" IN (SELECT 1)',
    "SET CONSTRAINTS ALL IMMEDIATE",
    "SELECT pg_advisory_xact_lock(1)",
    'SELECT "a"."the (first)", "a"."it\'s" FROM "a" WHERE "a"."x" = %s',
]
LEAVE_NOTHING_IN_A_TRANSACTION = [
    'SAVEPOINT "s1"',
    'RELEASE SAVEPOINT "s1"',
    "ROLLBACK",
    "SET LOCAL search_path = red",
    "SELECT set_config('app.tenant', %s, true)",
    "SELECT 1, pg_catalog . set_config('app.tenant', 'red', TRUE)",
]
MAY_LEAVE = [
    "SET search_path = red",
    "SELECT set_config('app.tenant', 'red', false)",
    "select SET_CONFIG ('a', 'b', false)",
    "SELECT pg_catalog.set_config('a', 'b', false)",
    "SELECT $$x$$, set_config('a', 'b', false)",
    "SELECT 'a\\', set_config('a', 'b', false), ' '",
    "SELECT/**/x(1)",
    "SELECT 1 -- '\n, set_config('a', 'b', false) --'",
    "EXPLAIN ANALYZE SELECT set_config('a', 'b', false)",
    "WITH x AS (SELECT set_config('a', 'b', false)) SELECT * FROM x",
    "INSERT INTO a SELECT set_config('a', 'b', false)",
    "SELECT app.login(3)",
    "SELECT login(3)",
    'SELECT "login"(3)',
    "SELECT 1; SET x = 1",
    "SELECT * INTO t FROM a",
    "SELECT * INTO TEMP t FROM a",
    "SELECT @a := 1",
    "SELECT @a",
    "SELECT x INTO @a FROM b",
    "CREATE TEMP TABLE x (a int)",
    "PRAGMA foreign_keys = OFF",
    "SELECT pg_advisory_lock(1)",
    "CALL f()",
    "LISTEN x",
    "DISCARD ALL",
    "LOCK TABLES a READ",
    "DECLARE x CURSOR FOR SELECT 1",
    # A transaction that Django does not know of, and may not come to its end.
    "BEGIN",
    "START TRANSACTION",
    "EXPLAIN ANALYZE CREATE TEMP TABLE x AS SELECT 1",
    # Where does a quote end?
    """SELECT "user's", set_config('app.tenant', 'red', false)""",
    """SELECT `user's`, get_lock('red', 1)""",
    """SELECT "it's", GET_LOCK('red', 1)""",
    "SELECT q'[it's]', tenants.enter('red') FROM dual",
    """SELECT U&"!0073et_config" UESCAPE '!' ('app.tenant', 'red', false)""",
    "UPDATE pg_settings SET setting = 'red' WHERE name = 'search_path'",
    'UPDATE "pg_catalog"."pg_settings" SET setting = \'red\'',
    "SELECT tenants . lower('red')",
    "SELECT set_config('app.tenant', 'red', true), set_config('app.tenant', 'red', false)",
    "SELECT ts_rewrite('a'::tsquery, 'SELECT enter(1)')",
    "SELECT @`a`, @'b'",
    "",
    "nonsense",
]


@pytest.mark.parametrize("vendor", ["postgresql", "sqlite", "mysql", "oracle", "another"])
@pytest.mark.parametrize("sql", LEAVE_NOTHING)
def test_plain_reading_and_writing_leaves_nothing(sql: str, vendor: str) -> None:
    assert leaves_nothing(sql, vendor)


@pytest.mark.parametrize("sql", LEAVE_NOTHING_IN_A_TRANSACTION)
def test_what_ends_with_the_transaction_leaves_nothing_in_one(sql: str) -> None:
    assert leaves_nothing(sql, "postgresql", in_transaction=True)
    assert not leaves_nothing(sql, "postgresql")


@pytest.mark.parametrize("in_transaction", [True, False])
@pytest.mark.parametrize("vendor", ["postgresql", "sqlite", "mysql", "oracle", "another"])
@pytest.mark.parametrize("sql", MAY_LEAVE)
def test_whatever_is_not_known_may_leave_something(
    sql: str, vendor: str, in_transaction: bool
) -> None:
    assert not leaves_nothing(sql, vendor, in_transaction=in_transaction)


@pytest.mark.parametrize(
    ("sql", "harmless", "harmful"),
    [
        ("SET LOCAL time_zone = '+01:00'", "postgresql", "mysql"),
        ("SELECT set_config('app.tenant', 'red', true)", "postgresql", "another"),
        ("SELECT django_date_trunc(%s, x, %s, %s) FROM a", "sqlite", "postgresql"),
        ("SELECT [it's], leave('here') FROM a", None, "sqlite"),
        ("SELECT ARRAY['a', 'it[s'] FROM a", "postgresql", None),
    ],
)
def test_the_same_words_mean_something_else_to_another_database(
    sql: str, harmless: str | None, harmful: str | None
) -> None:
    assert harmless is None or leaves_nothing(sql, harmless, in_transaction=True)
    assert harmful is None or not leaves_nothing(sql, harmful, in_transaction=True)


def test_a_statement_is_read_in_a_time_that_grows_with_its_length() -> None:
    assert leaves_nothing(f"INSERT INTO a VALUES (0x{'ab' * 90_000})")


@pytest.mark.parametrize("sql", [b"SELECT 1", None, object(), 1])
def test_what_is_no_str_is_not_known(sql: object) -> None:
    assert not leaves_nothing(sql)


def test_what_the_orm_writes_leaves_nothing(db: None) -> None:
    written: list[str] = []

    def note(execute: Any, sql: str, *args: Any) -> Any:
        written.append(sql)
        return execute(sql, *args)

    with connection.execute_wrapper(note):
        user = User.objects.create_user("ada", password="x")
        Session.objects.bulk_create(
            [Session(session_key=str(n), session_data="", expire_date=timezone.now()) for n in "ab"]
        )
        user.user_permissions.add(*Permission.objects.all()[:3])
        permissions = Permission.objects.filter(user=OuterRef("pk")).values("pk")[:1]
        users = User.objects.annotate(
            n=Count("user_permissions", filter=Q(user_permissions__codename__icontains="a")),
            first=Subquery(permissions),
            day=TruncDate("date_joined"),
            name=Coalesce(Lower("first_name"), Cast(F("pk"), User._meta.get_field("username"))),
        ).exclude(username__in=["x", "y"])
        assert [one.username for one in users.order_by("-day", "name")] == ["ada"]
        User.objects.aggregate(Max("date_joined"))
        User.objects.filter(pk=user.pk).update(last_name=Value("x"))
        User.objects.select_for_update().get_or_create(username="bob")
        assert user.has_perm("auth.add_user") in (True, False)
        user.delete()
    assert len(written) > 15
    left = [sql for sql in written if not leaves_nothing(sql, "sqlite", in_transaction=True)]
    assert left == []


def test_what_is_known_is_remembered_and_no_memory_is_filled() -> None:
    for number in range(2 * statements.MEMO_SIZE):
        assert leaves_nothing(f"SELECT {number}")
    assert statements._read.cache_info().currsize <= statements.MEMO_SIZE
    assert not leaves_nothing("SELECT 1, " + "1, " * statements.LONGEST)
