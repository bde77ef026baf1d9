from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import pytest
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.db import IntegrityError, OperationalError, connections, transaction
from django.db.models import Count, Value
from django.db.models.functions import Concat, TruncDate
from django.test import override_settings
from django.utils import timezone

from django_ws_dispatch import lanes
from django_ws_dispatch.lanes import caretaker
from tests.kit.waiting import until
from tests.lanes.sockets import ALIAS, Socket, extra_database, open_sessions_table, run, thread_name

pytestmark = pytest.mark.live

psycopg = pytest.importorskip("psycopg")

APPLICATION = "lanes-of-the-test"


@pytest.fixture
def database(postgres, django_db_blocker):
    options = postgres.settings | {"OPTIONS": {"application_name": APPLICATION}}
    with django_db_blocker.unblock(), extra_database(**options):
        yield connections[ALIAS].settings_dict


@pytest.fixture
def observer(postgres, database):
    with postgres.connect() as connection:
        yield Observer(connection)


@pytest.fixture
def sessions(postgres, database):
    open_sessions_table(100)
    connections[ALIAS].close()
    yield
    with postgres.connect() as connection:
        connection.execute("DROP TABLE django_session")


class Observer:
    """Looks at the connections of the lanes from a connection of its own."""

    def __init__(self, connection):
        self.connection = connection

    def backends(self):
        rows = self.connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = %s", [APPLICATION]
        )
        return {pid for (pid,) in rows}

    def kill(self):
        """Terminate every backend of the lanes, and wait until it is gone."""
        killed = self.backends()
        for pid in killed:
            self.connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        assert not self.backends()
        return killed


def backend():
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def wait_for_lock(number):
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [number])
        cursor.execute("SELECT pg_advisory_unlock(%s)", [number])
    return backend()


async def one_query_each(sockets):
    return set(await asyncio.gather(*(socket.run(backend) for socket in sockets)))


def test_two_hundred_sockets_use_four_connections(observer, monkeypatch):
    # On a busy machine a connection is at rest long enough to be closed.
    monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 600)

    async def main():
        sockets = [Socket() for _ in range(200)]
        for _ in range(3):
            used = await one_query_each(sockets)
            assert 1 <= len(used) <= 4
            assert observer.backends() >= used
            assert len(observer.backends()) <= 4

    run(main())


def test_connections_are_closed_once_nobody_works(observer):
    async def main():
        await one_query_each([Socket() for _ in range(20)])
        assert observer.backends()
        await until(lambda: not observer.backends())

    run(main())


def test_messages_in_a_row_share_a_connection(observer):
    async def main():
        socket = Socket()
        assert len({await socket.run(backend) for _ in range(10)}) == 1

    run(main())


def test_connections_within_their_age_are_kept(observer, database, monkeypatch):
    database["CONN_MAX_AGE"] = 600
    monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 0.05)

    async def main():
        used = await one_query_each([Socket() for _ in range(20)])
        await asyncio.sleep(4 * caretaker.CHECK_AFTER_SECONDS)
        assert observer.backends() == used
        assert await one_query_each([Socket() for _ in range(20)]) <= used

    run(main())


@pytest.mark.parametrize("max_age", [0, 600, None])
@pytest.mark.parametrize("health_checks", [False, True])
def test_the_next_query_of_every_socket_succeeds_after_the_backends_were_killed(
    observer, database, max_age, health_checks
):
    database["CONN_MAX_AGE"] = max_age
    database["CONN_HEALTH_CHECKS"] = health_checks

    async def main():
        sockets = [Socket() for _ in range(20)]
        await one_query_each(sockets)
        for _ in range(3):
            killed = observer.kill()
            assert killed
            assert not killed & await one_query_each(sockets)

    run(main())


@pytest.mark.parametrize("max_age", [0, 600])
def test_killed_backends_are_replaced_while_sockets_hold_every_lane(observer, database, max_age):
    database["CONN_MAX_AGE"] = max_age

    async def main():
        holding = [Socket(is_between_reads=False) for _ in range(8)]
        await asyncio.gather(*(socket.hold(backend) for socket in holding))
        killed = observer.kill()
        assert killed
        assert not killed & await one_query_each([Socket() for _ in range(20)])
        for socket in holding:
            assert await socket.hold(backend) not in killed

    run(main())


def test_a_socket_that_only_pushes_survives_killed_backends(observer):
    async def main():
        socket = Socket(is_between_reads=False)
        for _ in range(5):
            await socket.hold(backend)
            observer.kill()
        await socket.hold(backend)

    run(main())


@pytest.mark.parametrize("max_age", [0, 600])
def test_a_restart_of_the_database_between_two_messages_is_survived(
    postgres,
    database,
    max_age,
):
    database["CONN_MAX_AGE"] = max_age

    async def main():
        sockets = [Socket() for _ in range(20)]
        await one_query_each(sockets)
        await asyncio.to_thread(postgres.stop)
        await asyncio.to_thread(postgres.start)
        assert len(await one_query_each(sockets)) <= 4

    run(main())


def test_sockets_recover_that_asked_while_the_database_was_down(postgres, database):
    database["CONN_MAX_AGE"] = 600

    async def main():
        sockets = [Socket() for _ in range(20)]
        await one_query_each(sockets)
        await asyncio.to_thread(postgres.stop)
        try:
            for socket in sockets:
                with pytest.raises(OperationalError):
                    await socket.hold(backend)
        finally:
            await asyncio.to_thread(postgres.start)
        for socket in sockets:
            await socket.hold(backend)

    run(main())


def test_a_transaction_that_was_lost_is_not_hidden_from_its_socket(observer):
    def begin():
        connections[ALIAS].set_autocommit(False)
        backend()

    def end():
        connections[ALIAS].close()
        connections[ALIAS].set_autocommit(True)

    async def main():
        socket = Socket()
        await socket.hold(begin)
        observer.kill()
        with pytest.raises(OperationalError):
            await socket.hold(backend)
        await socket.hold(end)

    run(main())


def test_three_waiting_queries_do_not_delay_an_unrelated_socket(observer):
    async def main():
        observer.connection.execute("SELECT pg_advisory_lock(1)")
        tasks = [asyncio.create_task(Socket().run(wait_for_lock, 1)) for _ in range(3)]
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        await until(lambda: observer.connection.execute(waiting).fetchone() == (3,))
        unrelated = Socket()
        for _ in range(10):
            await unrelated.run(backend)
        assert not any(task.done() for task in tasks)
        observer.connection.execute("SELECT pg_advisory_unlock(1)")
        assert len(set(await asyncio.gather(*tasks))) == 3

    run(main())


@pytest.mark.parametrize("max_age", [0, 600])
def test_aiterator_keeps_its_cursor_on_the_server(database, sessions, monkeypatch, max_age):
    database["CONN_MAX_AGE"] = max_age
    monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 0.02)

    async def handler():
        names, keys = {await sync_to_async(thread_name)()}, set()
        async for session in Session.objects.using(ALIAS).aiterator(chunk_size=10):
            keys.add(session.session_key)
            if len(keys) % 10 == 0:
                await Socket().run(backend)
                await asyncio.sleep(1.5 * caretaker.CHECK_AFTER_SECONDS)
                names.add(await sync_to_async(thread_name)())
        return names, keys

    async def main():
        names, keys = await Socket().start(handler())
        assert len(names) == 1
        assert len(keys) == 100

    with override_settings(WEBSOCKET_SYNC_THREADS=1):
        run(main())


def test_many_iterators_share_the_lanes(database, sessions):
    async def handler():
        count = 0
        async for _ in Session.objects.using(ALIAS).aiterator(chunk_size=10):
            count += 1
        return count

    async def main():
        sockets = [Socket() for _ in range(20)]
        counts = await asyncio.gather(*(socket.start(handler()) for socket in sockets))
        assert counts == [100] * 20

    run(main())


def test_shutdown_leaves_no_connection_to_the_database(observer, database):
    database["CONN_MAX_AGE"] = None

    async def main():
        await one_query_each([Socket() for _ in range(20)])
        lanes.shutdown()
        await until(lambda: not observer.backends())

    run(main())


# What one socket leaves in its session


def execute(sql, params=None):
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else None


def set_with_callproc():
    with connections[ALIAS].cursor() as cursor:
        cursor.callproc("set_config", ["app.tenant", "red", False])


def set_with_copy():
    sql = "COPY (SELECT set_config('app.tenant', 'red', false)) TO STDOUT"
    with connections[ALIAS].cursor() as cursor, cursor.copy(sql) as rows:
        list(rows)


def set_in_a_block():
    with transaction.atomic(using=ALIAS):
        execute("SET app.tenant = 'red'")


def set_by_a_composed_statement():
    execute(psycopg.sql.SQL("SET app.tenant = {}").format("red"))


def set_by_a_wrapper():
    def rewrite(execute, sql, params, many, context):
        return execute(f"SET app.tenant = 'red'; {sql}", params, many, context)

    with connections[ALIAS].execute_wrapper(rewrite):
        execute("SELECT 1")


def set_in_a_transaction_by_hand():
    execute("BEGIN")
    execute("SET LOCAL app.tenant = 'red'")


def set_in_a_transaction_of_the_driver():
    connections[ALIAS].ensure_connection()
    connections[ALIAS].connection.execute("BEGIN")
    execute("SELECT set_config('app.tenant', 'red', true)")


def set_without_autocommit():
    transaction.set_autocommit(False, using=ALIAS)
    execute("SET LOCAL app.tenant = 'red'")


STATEMENTS = [
    "SET app.tenant = 'red'",
    "SELECT set_config('app.tenant', 'red', false)",
    """SELECT "it's", set_config('app.tenant', 'red', false) FROM (SELECT 1 AS "it's") AS x""",
    "SELECT pg_catalog . set_config('app.tenant', 'red', false)",
    """SELECT U&"!0073et_config" UESCAPE '!' ('app.tenant', 'red', false)""",
    "EXPLAIN ANALYZE SELECT set_config('app.tenant', 'red', false)",
    "DO $$ BEGIN PERFORM set_config('app.tenant', 'red', false); END $$",
    "SELECT ts_rewrite('a', $$SELECT 'a'::tsquery, set_config('app.tenant', 'red', false)"
    "::text::tsquery$$)",
]


@pytest.mark.parametrize(
    "leave",
    [
        *[partial(execute, statement) for statement in STATEMENTS],
        set_with_callproc,
        set_with_copy,
        set_in_a_block,
        set_by_a_composed_statement,
        set_by_a_wrapper,
        set_in_a_transaction_by_hand,
        set_in_a_transaction_of_the_driver,
        set_without_autocommit,
    ],
)
@pytest.mark.parametrize("pooled", [False, True])
def test_a_variable_that_one_socket_sets_is_not_there_for_another(database, leave, pooled):
    database["OPTIONS"] |= {"pool": {"min_size": 1, "max_size": 2}} if pooled else {}

    def look():
        return execute("SELECT coalesce(current_setting('app.tenant', true), '')")[0][0]

    async def main():
        red = Socket()
        await red.hold(leave)
        assert await red.hold(look) == "red"
        red.end()
        assert await Socket().run(look) == ""

    try:
        with override_settings(WEBSOCKET_SYNC_THREADS=1):
            run(main())
    finally:
        lanes.shutdown()
        if pooled:
            connections[ALIAS].close_pool()


@pytest.mark.parametrize(
    ("sql", "left"),
    [
        ("EXPLAIN ANALYZE CREATE TEMP TABLE mine AS SELECT 1", "SELECT to_regclass('mine')::text"),
        (
            "UPDATE pg_settings SET setting = 'red' WHERE name = 'search_path'",
            "SELECT nullif(current_setting('search_path'), '\"$user\", public')",
        ),
        ("PREPARE mine AS SELECT 1", "SELECT max(name) FROM pg_prepared_statements"),
        ("LISTEN mine", "SELECT max(pg_listening_channels) FROM pg_listening_channels()"),
        (
            "SELECT pg_advisory_lock(1)",
            "SELECT max(mode) FROM pg_locks WHERE locktype = 'advisory'",
        ),
        ("SET ROLE pg_monitor", "SELECT nullif(current_user, session_user)::text"),
    ],
)
def test_what_a_statement_leaves_is_not_there_for_another(database, sql, left):
    def look():
        return execute(left)[0][0]

    async def main():
        red = Socket()
        assert await red.hold(look) is None
        await red.hold(execute, sql)
        assert await red.hold(look) is not None
        red.end()
        assert await Socket().run(look) is None

    with override_settings(WEBSOCKET_SYNC_THREADS=1):
        run(main())


def test_what_the_orm_does_leaves_the_connection_to_the_next_socket(database, sessions):
    def work():
        rows = Session.objects.using(ALIAS)
        with transaction.atomic(using=ALIAS):
            rows.create(session_key="x", session_data="", expire_date=timezone.now())
            with suppress(IntegrityError), transaction.atomic(using=ALIAS):
                rows.create(session_key="x", session_data="", expire_date=timezone.now())
            rows.select_for_update().filter(pk="x").update(session_data=Concat("pk", Value("'(")))
            execute("SELECT set_config('app.tenant', %s, true)", ["red"])
            execute("SET LOCAL statement_timeout = 1000")
            execute("SELECT pg_advisory_xact_lock(1)")
        rows.filter(pk__in=["x", "it's"], session_data__icontains="%'").aggregate(Count("pk"))
        rows.bulk_create(
            [Session(session_key="y", session_data="", expire_date=timezone.now())],
            ignore_conflicts=True,
        )
        list(rows.filter(expire_date__year=2026).annotate(day=TruncDate("expire_date")))
        assert len(list(rows.iterator(chunk_size=10))) > 100
        rows.filter(pk__in=["x", "y"]).delete()
        return backend()

    async def main():
        assert len({await Socket().run(work) for _ in range(3)}) == 1

    with override_settings(WEBSOCKET_SYNC_THREADS=1):
        run(main())
