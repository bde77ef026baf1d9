from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.db import OperationalError, connections
from django.test import override_settings

from django_ws_dispatch import lanes
from django_ws_dispatch.lanes import caretaker
from tests.lanes.test_lanes import (
    ALIAS,
    Socket,
    extra_database,
    open_sessions_table,
    run,
    thread_name,
    until,
)

from .postgres import postgres  # noqa: F401 - a fixture

pytestmark = pytest.mark.live

APPLICATION = "lanes-of-the-test"


@pytest.fixture
def database(postgres, django_db_blocker):  # noqa: F811
    options = postgres.settings | {"OPTIONS": {"application_name": APPLICATION}}
    with django_db_blocker.unblock(), extra_database(**options):
        yield connections[ALIAS].settings_dict


@pytest.fixture
def observer(postgres, database):  # noqa: F811
    with postgres.connect() as connection:
        yield Observer(connection)


@pytest.fixture
def sessions(postgres, database):  # noqa: F811
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


def test_two_hundred_sockets_use_four_connections(observer):
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
    postgres,  # noqa: F811
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


def test_sockets_recover_that_asked_while_the_database_was_down(postgres, database):  # noqa: F811
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
