"""The database connections of a lane: as a page would have them, and looked after."""

from __future__ import annotations

import asyncio
import time

import pytest
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.db import OperationalError, connections, transaction
from django.test import override_settings
from django.utils import timezone

from django_ws_dispatch import lanes
from django_ws_dispatch.lanes import caretaker, databases
from tests.kit.waiting import until
from tests.lanes.sockets import (
    ALIAS,
    PREFIX,
    Socket,
    lane_connection,
    open_sessions_table,
    run,
    thread_name,
)


def test_a_connection_is_closed_after_the_last_hold_where_it_has_no_age(database):
    async def main():
        socket = Socket()
        connection = await socket.hold(lane_connection)
        assert connection.connection is not None
        socket.read()
        await until(lambda: connection.connection is None)

    run(main())


def test_a_connection_within_its_age_is_kept_and_used_again(database):
    database["CONN_MAX_AGE"] = 600

    async def main():
        connection = await Socket().run(lane_connection)
        kept = connection.connection
        await until(lambda: time.monotonic() - started > 3 * caretaker.CHECK_AFTER_SECONDS)
        assert connection.connection is kept
        assert (await Socket().run(lane_connection)).connection is kept

    started = time.monotonic()
    run(main())


def test_a_connection_past_its_age_is_replaced_when_a_hold_begins(database, monkeypatch):
    database["CONN_MAX_AGE"] = 600
    monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 60)

    async def main():
        connection = await Socket().run(lane_connection)
        old, connection.close_at = connection.connection, time.monotonic()
        assert (await Socket().run(lane_connection)).connection is not old

    run(main())


def test_messages_in_a_row_share_a_connection_without_an_age(database, monkeypatch):
    monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 60)

    async def main():
        connection = await Socket().run(lane_connection)
        first = connection.connection
        for _ in range(5):
            assert (await Socket().run(lane_connection)).connection is first

    run(main())


def test_a_connection_is_given_back_though_its_socket_is_in_the_middle_of_a_message(database):
    async def main():
        holding = Socket()
        connection = await holding.hold(lane_connection)
        await until(lambda: connection.connection is None)
        assert holding.lane is not None
        assert (await holding.hold(lane_connection)).connection is not None

    run(main())


def test_aiterator_keeps_its_cursor_while_others_use_the_lane(database):
    open_sessions_table(40)

    async def main():
        async def handler():
            keys = []
            async for session in Session.objects.using(ALIAS).aiterator(chunk_size=10):
                keys.append(session.session_key)
                if len(keys) % 10 == 0:
                    await Socket().run(lane_connection)
                    await asyncio.sleep(1.5 * caretaker.CHECK_AFTER_SECONDS)
            return keys

        assert len(set(await Socket().start(handler()))) == 40

    with override_settings(WEBSOCKET_SYNC_THREADS=1):
        run(main())


def test_a_connection_that_failed_is_replaced_while_others_hold_the_lane(database):
    async def main():
        holding = Socket()
        connection = await holding.hold(lane_connection)
        lost = connection.connection
        connection.errors_occurred, connection.is_usable = True, lambda: False
        assert (await Socket().run(lane_connection)).connection is not lost
        assert not connection.errors_occurred

    with override_settings(WEBSOCKET_SYNC_THREADS=1):
        run(main())


def test_a_connection_that_failed_but_works_is_kept(database):
    def fail():
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("SELECT * FROM nowhere")

    async def main():
        socket = Socket()
        connection = await socket.hold(lane_connection)
        kept = connection.connection
        with pytest.raises(OperationalError):
            await socket.hold(fail)
        assert connection.errors_occurred
        assert (await socket.run(lane_connection)).connection is kept
        assert not connection.errors_occurred

    run(main())


def test_a_kept_connection_is_tried_once_when_a_lane_at_rest_is_taken(database, monkeypatch):
    database["CONN_MAX_AGE"] = 600
    monkeypatch.setattr(databases, "RESTED", 0.05)
    monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 60)  # which would try it, too
    tried = []

    async def main():
        connection = await Socket().run(lane_connection)
        connection.is_usable = lambda: tried.append(1) or True
        rests_since = time.monotonic()
        await until(lambda: time.monotonic() - rests_since > 2 * databases.RESTED)
        socket = Socket()
        for _ in range(3):
            await socket.hold(lane_connection)
        socket.read()
        assert len(tried) == 1

    run(main())


def test_a_transaction_is_never_touched(database):
    open_sessions_table(0)

    async def main():
        atomic = transaction.atomic(using=ALIAS)
        socket, key = Socket(), "0" * 32

        async def handler():
            await sync_to_async(atomic.__enter__)()
            await Session.objects.using(ALIAS).acreate(
                session_key=key, session_data="", expire_date=timezone.now()
            )
            connection = await sync_to_async(lane_connection)()
            connection.errors_occurred, connection.is_usable = True, lambda: False
            socket.read()
            await asyncio.sleep(3 * caretaker.CHECK_AFTER_SECONDS)
            await sync_to_async(atomic.__exit__)(None, None, None)
            return await Session.objects.using(ALIAS).filter(session_key=key).aexists()

        assert await socket.start(handler())

    with override_settings(WEBSOCKET_SYNC_THREADS=1):
        run(main())


def test_a_check_that_fails_is_logged_and_the_lane_goes_on(database, caplog):
    def fail():
        raise OSError("no route")

    async def main():
        socket = Socket()
        connection = await socket.hold(lane_connection)
        connection.errors_occurred, connection.is_usable = True, fail
        assert (await socket.run(thread_name)).startswith(PREFIX)

    run(main())
    assert [record.name for record in caplog.records] == ["django_ws_dispatch.lanes"]


def test_shutdown_closes_connections_within_their_age(database):
    database["CONN_MAX_AGE"] = 600
    connection = run(Socket().run(lane_connection))
    lanes.shutdown()
    assert connection.connection is None
