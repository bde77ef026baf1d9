"""What is over is deleted, a minute after it was sent, and nothing that is still remembered."""

from __future__ import annotations

from typing import Any

import pytest

from django_ws_dispatch.brokers.base import BaseBroker
from django_ws_dispatch.brokers.database.care import tend
from django_ws_dispatch.brokers.database.session import OwnSession
from django_ws_dispatch.brokers.database.tables import CHANNELS, COUNTERS, MESSAGES
from django_ws_dispatch.brokers.history import Keep

from .database import Database

pytestmark = [pytest.mark.live, pytest.mark.databases]

KEEP = Keep(3, 3600)
MINUTE = 60_000_000


@pytest.fixture
def broker(database: Database, settings: Any) -> BaseBroker:
    settings.WEBSOCKET_BROKERS = database.brokers(database.alias)
    from django_ws_dispatch.brokers import get_broker

    return get_broker("default")


@pytest.fixture
def session(database: Database):
    session = OwnSession(database.alias, 2)
    yield session
    session.close()


def grow_old(session: OwnSession, minutes: int) -> None:
    """Let all that there is have been sent so much earlier."""
    for table, columns in {
        MESSAGES: ["number"],
        CHANNELS: ["floor", "due", "alive"],
        COUNTERS: ["value"],
    }.items():
        changes = ", ".join(f"{column} = {column} - {minutes * MINUTE}" for column in columns)
        session.execute(f"UPDATE {table} SET {changes}")


def rows(session: OwnSession) -> list[bytes]:
    return [bytes(one) for (one,) in session.execute(f"SELECT message FROM {MESSAGES} ORDER BY id")]


def tend_all(session: OwnSession) -> None:
    while tend(session):
        pass


def test_a_message_stays_for_a_minute(broker: BaseBroker, session: OwnSession) -> None:
    broker.publish("plain", b"plain")
    for number in range(5):
        broker.keep("kept", b"%d" % number, KEEP)
    tend_all(session)
    assert rows(session) == [b"plain", b"0", b"1", b"2", b"3", b"4"]


def test_after_it_what_is_kept_is_what_is_left(broker: BaseBroker, session: OwnSession) -> None:
    broker.publish("plain", b"plain")
    broker.keep("kept", b"order", KEEP, order=True)
    for number in range(5):
        broker.keep("kept", b"%d" % number, KEEP)
    grow_old(session, 2)
    before = broker.newest("kept", KEEP, 10)
    tend_all(session)
    assert rows(session) == [b"2", b"3", b"4"]
    after = broker.newest("kept", KEEP, 10)
    assert after == before
    assert after.top.orders == 1
    # The one that is gone is still the position before the first that is there.
    behind = broker.read("kept", after.entries[0].previous, KEEP, 10)
    assert (behind.known, behind.entries) == (True, after.entries)


def test_a_history_goes_when_its_time_is_over_and_its_position_stays(
    broker: BaseBroker, session: OwnSession
) -> None:
    position = broker.keep("kept", b"x", KEEP)
    tend_all(session)
    grow_old(session, 120)
    old = broker.top("kept", KEEP)
    assert old.position != position  # as all that there is was sent earlier
    tend_all(session)
    tend_all(session)
    assert rows(session) == []
    assert broker.top("kept", KEEP) == old
    assert broker.read("kept", old.position, KEEP, 10).known


def test_a_channel_goes_that_nobody_has_asked_for_in_a_day(
    broker: BaseBroker, session: OwnSession
) -> None:
    broker.keep("kept", b"x", KEEP)
    tend_all(session)
    for _ in range(3):
        grow_old(session, 2 * 24 * 60)
        tend_all(session)
    assert rows(session) == []
    assert session.execute(f"SELECT channel FROM {CHANNELS}") == []


def test_many_go_in_pieces(broker: BaseBroker, session: OwnSession) -> None:
    for number in range(700):
        broker.keep("kept", b"%d" % number, KEEP)
        broker.publish("plain", b"plain")
    grow_old(session, 2)
    assert tend(session)
    tend_all(session)
    assert rows(session) == [b"697", b"698", b"699"]
