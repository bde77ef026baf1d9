"""What is done on the connections of a lane, as far as the cursors tell."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
from django.db import connections

from django_ws_dispatch.lanes import observer
from django_ws_dispatch.lanes.observer import Observer, User
from tests.lanes.sockets import ALIAS


class Cursor:
    def __init__(self, *, closed=False):
        self.closed = closed


def test_nothing_of_a_call_is_lost_while_others_ask_for_cursors():
    observer, user = Observer(), User()
    observer.user = user
    cursors = [Cursor(closed=number % 2) for number in range(2000)]
    asking = threading.Event()

    def ask():
        while not asking.is_set():
            observer.owners_of_cursors()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for cursor in cursors:
            observer.add_cursor(cursor)
    finally:
        asking.set()
        thread.join()
        sys.setswitchinterval(before)
    assert observer.owners_of_cursors() == [user] * 1000


def test_a_call_that_executes_without_end_does_not_fill_the_memory():
    observer = Observer()
    observer.user = User()
    kept = Cursor()
    observer.add_cursor(kept)
    for _ in range(5000):
        observer.add_cursor(Cursor())
    assert len(observer._cursors) < 1000
    assert observer.owners_of_cursors() == [observer.user]


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("SET app.tenant = 'red'", "app.tenant"),
        ("set session app.tenant to red", "app.tenant"),
        ("SET search_path TO red, public", "search_path"),
        ("RESET app.tenant", "app.tenant"),
        ("SELECT set_config('app.tenant', %s, false)", "app.tenant"),
        ("SELECT set_config('app.tenant', '', false);", "app.tenant"),
        ("SET a = 1, b = 2", None),
        ("SET a = 1; SET b = 2", None),
        ("SELECT set_config('a', '', false), set_config('b', '', false)", None),
        ("PRAGMA query_only = 1", None),
        (b"SET a = 1", None),
    ],
)
def test_what_it_sets_is_known_by_its_name(sql: Any, name: str | None) -> None:
    assert observer._what_it_sets(sql) == (repr(sql) if name is None else name)


@pytest.fixture
def seen(database):
    """A connection that is looked at, and who looks."""
    observer, wrapper = Observer(), connections[ALIAS]
    observer.user = User()
    with wrapper.cursor() as cursor:
        cursor.execute("CREATE TABLE one (number integer)")
        cursor.execute("INSERT INTO one VALUES (1), (2), (3)")
    observer.watch(wrapper)
    return observer, wrapper


def test_what_only_reads_leaves_nothing(seen):
    observer, wrapper = seen
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT number FROM one")
        assert len(cursor.fetchall()) == 3
        cursor.executemany("INSERT INTO one VALUES (%s)", [(4,), (5,)])
        assert cursor.rowcount == 2
    assert observer.left == set()


@pytest.mark.parametrize(
    "leave",
    [
        lambda cursor: cursor.execute("PRAGMA query_only = 0"),
        lambda cursor: cursor.execute("CREATE TEMPORARY TABLE two (number integer)"),
        lambda cursor: cursor.executescript("SELECT 1"),
        lambda cursor: cursor.connection,
    ],
    ids=["a setting", "a table", "a script", "the driver's connection"],
)
def test_what_may_leave_something_is_seen_until_the_connection_is_closed(seen, leave):
    observer, wrapper = seen
    with wrapper.cursor() as cursor:
        leave(cursor)
    assert observer.left == {ALIAS}
    observer.forget("another")
    assert observer.left == {ALIAS}
    observer.forget(ALIAS)
    assert observer.left == set()


def test_a_connection_that_is_watched_again_is_seen_once_by_the_last_who_watches(seen):
    before, wrapper = seen
    after = Observer()
    after.user = User()
    after.watch(wrapper)
    with wrapper.cursor() as cursor:
        cursor.execute("PRAGMA query_only = 0")
        assert after.owners_of_cursors() == [after.user]
    assert (before.left, after.left) == (set(), {ALIAS})
    assert before.owners_of_cursors() == []


def test_a_cursor_is_its_users_until_the_user_or_the_cursor_is_gone(seen):
    observer, wrapper = seen
    ada, bob = observer.user, User()
    adas = wrapper.cursor()
    observer.user = bob
    bobs = wrapper.cursor()
    assert observer.owners_of_cursors() == [ada, bob]
    assert [owner for owner, _ in observer.cursors_on(wrapper, but_of=bob)] == [ada]
    ada.is_over = True
    assert observer.owners_of_cursors() == [bob]
    del bobs
    assert observer.owners_of_cursors() == []
    adas.close()


def test_what_the_context_manager_sets_and_puts_back_is_nothing_left(seen):
    observer, wrapper = seen
    with wrapper.cursor() as cursor:
        observer.trust(entering=True)
        cursor.execute("PRAGMA query_only = 0")
        assert observer.has_set(ALIAS)
        assert observer.distrust() == set()
        observer.trust(entering=False)
        cursor.execute("PRAGMA query_only = 0")
        observer.distrust()
    assert not observer.has_set(ALIAS)
    assert observer.left == set()


def test_what_the_context_manager_has_set_for_an_earlier_call_alone_is_told(seen):
    observer, wrapper = seen
    with wrapper.cursor() as cursor:
        observer.trust(entering=True)
        cursor.execute("PRAGMA query_only = 0")
        observer.distrust()
    observer.trust(entering=True)
    assert observer.distrust() == {ALIAS}
    observer.forget(ALIAS)
    observer.trust(entering=True)
    assert observer.distrust() == set()
