"""What one socket leaves on a thread or a connection, and who finds it there."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest
from asgiref.local import Local
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created
from django.db.backends.utils import CursorWrapper
from django.test import override_settings

from django_ws_dispatch import lanes
from django_ws_dispatch.lanes import caretaker, databases, pool
from tests.kit.waiting import until
from tests.lanes.sockets import (
    ALIAS,
    Blocked,
    Socket,
    execute,
    lane_connection,
    lane_threads,
    one_slot,
    open_sessions_table,
    run,
    thread_name,
)

here = threading.local()
critical = Local(thread_critical=True)


def leave_on_the_thread(name):
    here.tenant = critical.tenant = name


def look_at_the_thread():
    return getattr(here, "tenant", None), getattr(critical, "tenant", None)


def leave_on_the_connection(name):
    connections[ALIAS].tenant = name


def look_at_the_connection():
    return getattr(connections[ALIAS], "tenant", None)


def count_query_only():
    return execute("SELECT * FROM pragma_query_only")[0][0]


def opened_by(database):
    """How often this process has the file of a database open: once for each connection."""
    files = [Path("/proc/self/fd", one) for one in os.listdir("/proc/self/fd")]
    return sum(os.path.realpath(one) == database["NAME"] for one in files)


@one_slot
def test_what_a_call_leaves_on_its_thread_is_its_sockets_until_the_next_read():
    async def main():
        red, blue = Socket(), Socket()
        await red.hold(leave_on_the_thread, "red")
        assert await blue.hold(look_at_the_thread) == (None, None)
        await blue.hold(leave_on_the_thread, "blue")
        assert await red.hold(look_at_the_thread) == ("red", "red")
        assert await blue.hold(look_at_the_thread) == ("blue", "blue")
        red.read()
        blue.read()
        assert await Socket().run(look_at_the_thread) == (None, None)

    run(main())


@one_slot
def test_what_a_call_leaves_on_its_thread_reaches_nobody_among_many(monkeypatch):
    monkeypatch.setattr(pool, "IDLE_THREADS", 60)  # or who waits too long would lose its own

    async def main():
        async def message(number):
            socket = Socket()
            for _ in range(5):
                if number % 2:
                    await socket.hold(leave_on_the_thread, number)
                    assert await socket.hold(look_at_the_thread) == (number, number)
                else:
                    assert await socket.hold(look_at_the_thread) == (None, None)
            socket.end()

        await asyncio.gather(*map(message, range(60)))

    run(main())


@one_slot
def test_an_attribute_of_a_connection_is_its_sockets_alone(database):
    async def main():
        red, blue = Socket(), Socket()
        await red.hold(leave_on_the_connection, "red")
        looking = asyncio.create_task(blue.hold(look_at_the_connection))
        assert await red.hold(look_at_the_connection) == "red"
        red.read()
        assert await looking is None

    run(main())


@one_slot
def test_an_attribute_that_was_put_back_is_nobodys_business(database):
    def work():
        connections[ALIAS].tenant = "red"
        del connections[ALIAS].tenant
        return lane_connection().connection

    async def main():
        red, blue = Socket(), Socket()
        assert await red.hold(work) is (await blue.hold(lane_connection)).connection

    run(main())


@one_slot
def test_what_a_statement_leaves_in_the_session_is_its_sockets_alone(database):
    async def main():
        red, blue = Socket(), Socket()
        await red.hold(execute, "PRAGMA query_only = 1")
        looking = asyncio.create_task(blue.hold(count_query_only))
        assert await red.hold(count_query_only) == 1
        red.read()
        assert await looking == 0
        assert await red.run(count_query_only) == 0

    run(main())


@one_slot
def test_a_temporary_table_goes_with_the_message_that_made_it(database):
    async def main():
        socket = Socket()
        await socket.hold(execute, "CREATE TEMP TABLE mine (x)")
        await socket.hold(execute, "INSERT INTO mine VALUES (1)")
        assert await socket.run(execute, "SELECT * FROM mine") == [(1,)]
        assert await Socket().run(execute, "SELECT count(*) FROM sqlite_temp_master") == [(0,)]

    run(main())


@one_slot
def test_plain_queries_leave_the_connection_to_the_next_socket(database):
    def query():
        execute("SELECT count(*) FROM sqlite_master WHERE name IN ('a', 'b')")
        with transaction.atomic(using=ALIAS):
            execute("SELECT 1")
        return connections[ALIAS].connection

    async def main():
        assert len({id(await Socket().hold(query)) for _ in range(5)}) == 1

    run(main())


@one_slot
def test_what_is_set_for_every_new_connection_is_nothing_that_was_left(database):
    def receiver(connection, **kwargs):
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA query_only = 1")

    connection_created.connect(receiver)
    try:

        async def main():
            first = await Socket().hold(lane_connection)
            assert await Socket().hold(count_query_only) == 1
            assert (await Socket().hold(lane_connection)).connection is first.connection

        run(main())
    finally:
        connection_created.disconnect(receiver)


@one_slot
def test_somebody_who_waits_gets_the_slot_of_one_who_left_something_and_does_nothing(
    database,
    monkeypatch,
):
    monkeypatch.setattr(caretaker, "SHORT_IDLE_SECONDS", 0.05)

    async def main():
        red = Socket()
        await red.hold(leave_on_the_connection, "red")
        assert await Socket().run(look_at_the_connection) is None
        # It is given back to whom it belongs.
        assert await red.hold(look_at_the_connection) == "red"
        red.read()
        assert await Socket().run(look_at_the_connection) is None

    run(main())


@one_slot
def test_what_was_left_is_kept_while_nobody_waits(database, monkeypatch):
    monkeypatch.setattr(caretaker, "SHORT_IDLE_SECONDS", 0.01)

    async def main():
        red = Socket()
        await red.hold(execute, "PRAGMA query_only = 1")
        await asyncio.sleep(3 * caretaker.TICK_SECONDS)
        assert await red.hold(count_query_only) == 1

    run(main())


@one_slot
def test_an_open_transaction_is_nobody_elses_and_is_rolled_back_in_the_end(
    database,
    monkeypatch,
    caplog,
):
    monkeypatch.setattr(caretaker, "HOLD_IDLE_SECONDS", 0.2)

    def begin():
        atomic = transaction.atomic(using=ALIAS)
        atomic.__enter__()
        execute("INSERT INTO rows VALUES (1)")

    async def main():
        await Socket().run(execute, "CREATE TABLE rows (x)")
        red = Socket()
        await red.hold(begin)
        assert await Socket().run(execute, "SELECT count(*) FROM rows") == [(0,)]

    run(main())
    (record,) = caplog.records
    assert "Rolled back a transaction" in record.getMessage()
    assert record.path == "/ws/"


@one_slot
@pytest.mark.parametrize("again", [False, True])
def test_who_iterates_goes_on_where_somebody_else_has_left_something(
    database,
    monkeypatch,
    again,
):
    monkeypatch.setattr(caretaker, "SHORT_IDLE_SECONDS", 0.05)
    open_sessions_table(30)
    connections[ALIAS].close()
    seen = []

    async def iterate(red):
        keys = []
        async for session in Session.objects.using(ALIAS).aiterator(chunk_size=10):
            keys.append(session.session_key)
            if len(keys) in (5, 15, 25):
                await red.hold(execute, "PRAGMA query_only = 1")
                await red.hold(leave_on_the_connection, "red")
                seen.append((await Socket().run(count_query_only), len(keys)))
                if again:  # what was taken away comes back
                    assert await red.hold(look_at_the_connection) == "red"
                red.read()
        return keys

    async def main():
        assert len(set(await Socket().start(iterate(Socket())))) == 30
        assert await Socket().run(count_query_only) == 0
        await until(lambda: not opened_by(database))

    run(main())
    assert seen == [(0, 5), (0, 15), (0, 25)]


@override_settings(DEBUG=True)
@one_slot
def test_nobody_sees_the_queries_of_others(database):
    def queries():
        execute("SELECT 1")
        return len(connections[ALIAS].queries)

    async def main():
        assert await Socket().run(queries) == 1
        socket = Socket()
        assert [await socket.hold(queries) for _ in range(2)] == [1, 2]

    run(main())


def begin_by_hand():
    execute("BEGIN")
    execute("INSERT INTO rows VALUES (1)")


def begin_with_a_savepoint():
    execute("SAVEPOINT mine")
    execute("INSERT INTO rows VALUES (1)")


def begin_with_the_driver():
    lane_connection().connection.execute("BEGIN")
    execute("INSERT INTO rows VALUES (1)")


def switch_autocommit_off():
    transaction.set_autocommit(False, using=ALIAS)
    execute("INSERT INTO rows VALUES (1)")


def insert_in_another_call():
    execute("INSERT INTO rows VALUES (1)")


@pytest.mark.parametrize(
    "begin",
    [begin_by_hand, begin_with_a_savepoint, begin_with_the_driver, switch_autocommit_off],
)
@one_slot
def test_a_transaction_that_django_did_not_begin_is_its_sockets_alone(
    database,
    begin,
):
    async def main():
        await Socket().run(execute, "CREATE TABLE rows (x)")
        red = Socket()
        await red.hold(begin)
        await red.hold(insert_in_another_call)
        assert await red.hold(execute, "SELECT count(*) FROM rows") == [(2,)]
        red.end()
        blue = Socket()
        assert await blue.hold(execute, "SELECT count(*) FROM rows") == [(0,)]
        assert await blue.run(lambda: connections[ALIAS].get_autocommit())

    run(main())


def run_a_script():
    with connections[ALIAS].cursor() as cursor:
        cursor.executescript("PRAGMA query_only = 1; SELECT 1")


def set_by_a_wrapper():
    def rewrite(execute, sql, params, many, context):
        return execute(sql.replace("SELECT 1", "PRAGMA query_only = 1"), params, many, context)

    with connections[ALIAS].execute_wrapper(rewrite):
        execute("SELECT 1")


def set_by_the_drivers_connection():
    with connections[ALIAS].cursor() as cursor:
        cursor.connection.execute("PRAGMA query_only = 1")


def set_by_cursors_of_its_own():
    wrapper = connections[ALIAS]
    wrapper.ensure_connection()
    wrapper.make_cursor = lambda cursor: CursorWrapper(cursor, wrapper)
    execute("PRAGMA query_only = 1")


@pytest.mark.parametrize(
    "leave",
    [
        run_a_script,
        set_by_a_wrapper,
        set_by_the_drivers_connection,
        set_by_cursors_of_its_own,
    ],
)
@one_slot
def test_what_goes_around_the_statements_of_a_cursor_is_seen(database, leave):
    async def main():
        red = Socket()
        await red.hold(leave)
        assert await red.hold(count_query_only) == 1
        red.end()
        assert await Socket().run(count_query_only) == 0

    run(main())


@pytest.mark.parametrize("name", ["list", "dict", "set"])
@one_slot
def test_what_is_put_into_an_attribute_is_seen(database, monkeypatch, name):
    value = {"list": ["site"], "dict": {"site": 1}, "set": {"site"}}[name]

    def create(alias, create=connections.create_connection):
        wrapper = create(alias)
        wrapper.of_the_site = type(value)(value)
        return wrapper

    def leave():
        found = connections[ALIAS].of_the_site
        {"list": list.append, "dict": dict.__delitem__, "set": set.add}[name](found, "site")
        found.clear()

    async def main():
        await Socket().run(leave)
        assert await Socket().run(lambda: connections[ALIAS].of_the_site) == value

    monkeypatch.setattr(connections, "create_connection", create)
    run(main())


@override_settings(WEBSOCKET_SYNC_THREADS=2)
def test_a_connection_that_went_to_another_slot_is_looked_at_there(
    database,
    monkeypatch,
):
    monkeypatch.setattr(caretaker, "SHORT_IDLE_SECONDS", 0.05)

    async def main():
        red, blocked, busy = Socket(), [Blocked(), Blocked()], []
        await red.hold(leave_on_the_connection, "red")
        first = red.lane.slot
        for call in blocked:  # in the other slot, then in that of red
            busy.append(asyncio.create_task(Socket().run(call)))
            await until(call.running.is_set)
        blocked[0].gate.set()
        assert await red.hold(look_at_the_connection) == "red"
        assert red.lane.slot is not first
        await red.hold(execute, "PRAGMA query_only = 1")
        red.end()
        blocked[1].gate.set()
        await asyncio.gather(*busy)
        assert await asyncio.gather(*(Socket().run(count_query_only) for _ in range(8))) == [0] * 8

    run(main())


def fails(*args):
    raise OSError("no route")


@pytest.mark.parametrize("step", ["end", "discard"])
@one_slot
def test_where_what_was_left_can_not_be_known_nothing_is_kept(
    database,
    monkeypatch,
    step,
):
    async def main():
        red = Socket()
        with monkeypatch.context() as patch:
            patch.setattr(databases.Databases, step, fails)
            await red.hold(execute, "PRAGMA query_only = 1")
            slot = red.lane.slot
            red.end()
            await until(lambda: slot.is_free_for(None))
        assert await Socket().run(count_query_only) == 0

    run(main())


@one_slot
def test_the_cursor_of_a_call_is_its_sockets_also_where_a_check_before_it_failed(
    database,
    monkeypatch,
):
    opened = []

    def create(alias, create=connections.create_connection):
        wrapper = create(alias)
        wrapper.close_if_unusable_or_obsolete = fails
        return wrapper

    def open_cursor():
        opened.append(connections[ALIAS].cursor())
        opened[-1].execute("SELECT 1")

    async def main():
        for _ in range(2):
            red = Socket()
            await red.hold(open_cursor)
            assert red.lane.left.cursor
            assert red.lane.pool.has_cursor(red.lane)
            red.end()

    monkeypatch.setattr(connections, "create_connection", create)
    run(main())


# Middleware, which has a thread of its own


def test_apart_has_a_thread_and_connections_of_its_own_that_end_with_it(database):
    async def main():
        async def handshake():
            with lanes.private_lane():
                await sync_to_async(leave_on_the_thread)("red")
                await sync_to_async(leave_on_the_connection)("red")
                thread = await sync_to_async(threading.current_thread)()
                opened = await sync_to_async(lane_connection)()
                assert await sync_to_async(look_at_the_thread)() == ("red", "red")
                assert await sync_to_async(look_at_the_connection)() == "red"
            assert await sync_to_async(look_at_the_thread)() == (None, None)
            assert await sync_to_async(look_at_the_connection)() is None
            await until(lambda: not thread.is_alive())
            assert opened.connection is None

        await Socket().start(handshake())

    run(main())


@one_slot
def test_apart_waits_for_no_slot():
    async def main():
        blocked = Blocked()
        task = asyncio.create_task(Socket().run(blocked))
        await until(blocked.running.is_set)

        async def handshake():
            with lanes.private_lane():
                return await sync_to_async(thread_name)()

        await Socket().start(handshake())
        blocked.gate.set()
        await task

    run(main())


def test_a_task_that_outlives_apart_still_has_a_thread_of_its_own():
    async def main():
        over = asyncio.Event()

        async def outliving():
            await over.wait()
            return await sync_to_async(look_at_the_thread)()

        async def handshake():
            with lanes.private_lane():
                task = asyncio.create_task(outliving())
                await sync_to_async(leave_on_the_thread)("red")
            over.set()
            return await task

        assert await Socket().start(handshake()) == (None, None)
        await until(lambda: lane_threads() == [])

    run(main())


def test_the_default_connection_is_looked_after_as_any_other():
    def look():
        seen = getattr(connection, "tenant", None)
        connection.tenant = "red"
        return seen

    async def main():
        return [await Socket().run(look) for _ in range(5)]

    assert run(main()) == [None] * 5
