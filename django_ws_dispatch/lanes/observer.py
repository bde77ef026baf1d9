"""What is done on the database connections of a lane's slot, as far as Django's cursors tell.

Each statement is seen where it goes to the driver, behind whatever rewrites it on its way there (an
execute wrapper of the site's). What else a cursor is asked for, such as ``callproc()``, ``copy()``
or ``executescript()``, is not understood, and may leave anything.
"""

from __future__ import annotations

import inspect
import re
import sys
import weakref
from collections.abc import Callable
from functools import cache, partial
from types import FrameType
from typing import Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from .statements import leaves_nothing

__all__ = ["Cursor", "Observer", "User", "is_read"]

# The methods of a wrapper whose statements are for everybody, and made for everybody anew.
_MAKING = ("connect", "_cursor", "_start_transaction_under_autocommit")
# How far to look for one: CursorWrapper.execute(), then its callers.
_FRAMES = 16
# What of a driver's cursor only reads.
_READING = frozenset(
    (
        *("description", "rowcount", "rownumber", "lastrowid", "arraysize", "closed", "close"),
        *("fetchone", "fetchmany", "fetchall", "nextset"),
        *("name", "query", "statusmessage", "_executed"),
    )
)
# Cursors of one call, before those that are closed are forgotten.
_MANY_CURSORS = 256
# Of statements that set, or reset, one variable, and do nothing else: its name.
_VARIABLE = re.compile(
    r"\s*(?:(?:SET\s+(?:SESSION\s+)?|RESET\s+)(?P<set>[\w.@]+)"
    r"(?:\s*=[^=;]*|\s+TO\s[^=;]*|\s*)"
    r"|SELECT\s+set_config\s*\(\s*'(?P<config>[^']+)'\s*,[^(;]*\)\s*);?\s*",
    re.IGNORECASE,
)


class User:
    """Stands for a lane, which must not be kept alive by what it has used."""

    is_over = False


Cursor = tuple[User | None, weakref.ref[Any]]
"""whose it is, and Django's own cursor"""


class Observer:
    """Sees what is done on the connections of one slot, in the thread whose call runs there.

    Attributes:
        left: aliases of connections on which something was left, or may have been.
        user: whose call it is.
    """

    def __init__(self) -> None:
        self.left: set[str] = set()
        self.user: User | None = None
        self._cursors: list[Cursor] = []
        self._most_cursors = _MANY_CURSORS
        self._trusted = self._entering = False
        self._set: set[tuple[str, str]] = set()  # by the context manager, of whomever
        self._set_now: set[tuple[str, str]] = set()

    def watch(self, wrapper: Any) -> None:
        """Look at each cursor of a connection, which may have been another slot's."""
        if not hasattr(wrapper, "_websocket_observer"):
            for name in ("make_cursor", "make_debug_cursor"):
                setattr(wrapper, name, partial(_make, getattr(wrapper, name), wrapper))
        wrapper._websocket_observer = self

    def add_cursor(self, cursor: Any) -> None:
        if len(self._cursors) >= self._most_cursors:  # a call that executes without end
            self.forget_closed()
            self._most_cursors = 2 * len(self._cursors) + _MANY_CURSORS
        self._cursors.append((self.user, weakref.ref(cursor)))

    def see(self, wrapper: BaseDatabaseWrapper, sql: object) -> None:
        in_transaction = wrapper.in_atomic_block or not wrapper.autocommit
        if leaves_nothing(sql, wrapper.vendor, in_transaction=in_transaction):
            return
        if _is_backends_own(wrapper):
            return
        if not self._trusted:
            self.left.add(wrapper.alias)
        elif self._entering:
            self._set_now.add((wrapper.alias, _what_it_sets(sql)))
            self._set |= self._set_now
        else:
            self._set.discard((wrapper.alias, _what_it_sets(sql)))

    # WEBSOCKET_SYNC_CONTEXT, which is entered for each call: what it sets, it sets anew

    def trust(self, *, entering: bool) -> None:
        """The context manager is entered, or left, from here on: what it sets then it puts back."""
        self._trusted, self._entering, self._set_now = True, entering, set()

    def distrust(self) -> set[str]:
        """It is no longer.

        Return the aliases of connections where it has not set what it had for an earlier call.
        """
        self._trusted = False
        return {alias for alias, _ in self._set - self._set_now}

    def has_set(self, alias: str) -> bool:
        """Whether the context manager has set something there that it has not put back."""
        return any(where == alias for where, _ in self._set)

    def forget(self, alias: str) -> None:
        """A connection is closed, with all that was left on it."""
        self.left.discard(alias)
        self._set = {what for what in self._set if what[0] != alias}

    # Cursors

    def owners_of_cursors(self) -> list[User]:
        """Who has a cursor that is not closed, and may read on from it. Any thread may ask."""
        return [owner for owner, _ in self._open_cursors() if owner is not None]

    def forget_closed(self) -> None:
        self._cursors = self._open_cursors()
        self._most_cursors = _MANY_CURSORS

    def cursors_on(self, wrapper: Any, *, but_of: User | None) -> list[Cursor]:
        """Return those on one connection that somebody may read on from."""
        return [
            (owner, cursor)
            for owner, cursor in self._open_cursors()
            if owner is not but_of and getattr(cursor(), "db", None) is wrapper
        ]

    def _open_cursors(self) -> list[Cursor]:
        return list(filter(is_read, self._cursors.copy()))


def is_read(cursor: Cursor) -> bool:
    """Whether somebody may read on from a cursor in a later call: who iterates over a query."""
    owner, found = cursor[0], cursor[1]()
    if owner is None or owner.is_over or found is None:
        return False
    try:
        return not found.closed
    except Exception:  # sqlite3's does not tell
        return True


def _make(make: Callable[[Any], Any], wrapper: Any, of_driver: Any) -> Any:
    cursor, observer = make(of_driver), wrapper._websocket_observer
    if isinstance(cursor, CursorWrapper):
        kind: Any = type(cursor)
        cursor.__class__ = _seen(kind)
        observer.add_cursor(cursor)
    else:
        observer.left.add(wrapper.alias)
    return cursor


class _Seen:
    """Mixed into the class of a cursor."""

    db: Any

    def _execute(self, sql: Any, *args: Any) -> Any:
        self.db._websocket_observer.see(self.db, sql)
        return cast(Any, super())._execute(sql, *args)

    def _executemany(self, sql: Any, *args: Any) -> Any:
        self.db._websocket_observer.see(self.db, sql)
        return cast(Any, super())._executemany(sql, *args)

    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        self.db._websocket_observer.left.add(self.db.alias)
        return cast(Any, super()).callproc(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name not in _READING:
            self.db._websocket_observer.left.add(self.db.alias)
        return cast(Any, super()).__getattr__(name)


@cache
def _seen(kind: type[Any]) -> type[Any]:
    return type(kind.__name__, (_Seen, kind), {"__module__": kind.__module__})


def _is_backends_own(wrapper: BaseDatabaseWrapper) -> bool:
    """Whether a statement runs while a connection, or a cursor, is made: then for everybody anew.

    So do receivers of ``connection_created``, and the backend of django-tenants, which sets its
    ``search_path`` for each cursor to what its attributes say.
    """
    kind: Any = type(wrapper)
    codes = _making(kind)
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_FRAMES):
        if frame is None:
            return False
        if frame.f_code in codes:
            return True
        frame = frame.f_back
    return False


@cache
def _making(kind: type[Any]) -> frozenset[Any]:
    methods = (getattr(kind, name, None) for name in _MAKING)
    return frozenset(getattr(inspect.unwrap(one), "__code__", None) for one in methods if one)


def _what_it_sets(sql: object) -> str:
    """Return the name of a variable, or else the whole statement."""
    found = _VARIABLE.fullmatch(sql) if isinstance(sql, str) else None
    return repr(sql) if found is None else (found["set"] or found["config"]).lower()
