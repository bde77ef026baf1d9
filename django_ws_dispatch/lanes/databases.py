"""The database connections of a lane's slot, and what a socket leaves on them.

A slot's connections serve one socket after the other. What Django or the database keeps for a
connection and not for a query reaches nobody else: a ``search_path``, ``set_config()``, a temporary
table, a lock, an attribute that somebody has put on ``django.db.connection``. Where a call is not
known to have left nothing, its socket has the connection to itself, and when that is over the
connection is closed, as a page's is.

Two things are looked at: the statements that pass Django's cursors (``statements.py``), and the
attributes of Django's wrapper. What goes around both, on the driver's own objects, is not seen.
"""

from __future__ import annotations

import functools
import inspect
import select
import sys
import threading
import weakref
from contextlib import suppress
from functools import cache
from time import monotonic
from types import FrameType
from typing import Any, NamedTuple, cast

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.functional import cached_property

from .cursors import Cursor, User, is_read
from .statements import leaves_nothing

__all__ = ["Databases", "Left", "trust"]

# Seconds without work after which a connection is looked at before it is used again.
RESTED = 1.0

# What of Django's own may be somebody's all the same.
_WATCHED = frozenset(("execute_wrappers", "force_debug_cursor"))
_NO_CODE = (lambda: None).__code__
# Compared by their value; anything else by who it is.
_PLAIN = (str, int, float, list)
# How far to look for what has a statement executed: CursorWrapper.execute(), then its callers.
_FRAMES = 16


class Left(NamedTuple):
    """What a call has left on the connections of its slot.

    Attributes:
        state: something that nobody else may see.
        cursor: a cursor that the next call of the same socket may want.
        transaction: an open one.
    """

    state: bool
    cursor: bool
    transaction: bool


class _Observer:
    """Sees each statement: what Django calls an execute wrapper."""

    def __init__(self) -> None:
        self.trusted = False
        """what runs now is WEBSOCKET_SYNC_CONTEXT's, which is entered for every socket anew"""
        self.left: set[str] = set()
        """aliases of connections on which something was left, or may have been"""
        self.set: set[str] = set()
        """those on which WEBSOCKET_SYNC_CONTEXT has left something, for nobody but sockets"""
        self.user: User | None = None
        self.cursors: list[Cursor] = []

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if not leaves_nothing(sql) and not _is_backends_own(context):
            (self.set if self.trusted else self.left).add(context["connection"].alias)
        self.cursors.append((self.user, weakref.ref(context["cursor"])))
        return execute(sql, params, many, context)

    def owners_of_cursors(self) -> list[User]:
        """Who has a cursor that is not closed, and may read on from it."""
        self.cursors = list(filter(is_read, self.cursors))
        return [owner for owner, _ in self.cursors if owner is not None]


def _is_backends_own(context: Any) -> bool:
    """Whether a statement runs while a connection, or a cursor, is made: then for everybody anew.

    So do receivers of ``connection_created``, and the backend of django-tenants, which sets its
    ``search_path`` for each cursor to what its attributes say.
    """
    kind: Any = type(context["connection"])
    codes = _making(kind)
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_FRAMES):
        if frame is None or frame.f_code in codes:
            break
        frame = frame.f_back
    else:
        return False
    return frame is not None


@cache
def _making(kind: type[Any]) -> frozenset[Any]:
    methods = (getattr(kind, name, None) for name in ("connect", "_cursor"))
    return frozenset(getattr(inspect.unwrap(one), "__code__", None) for one in methods if one)


class _Here(threading.local):
    databases: Databases | None = None


_here = _Here()


def trust(trusted: bool) -> None:
    """Say whether what this thread runs from here on is ``WEBSOCKET_SYNC_CONTEXT``'s own."""
    if _here.databases is not None:
        _here.databases._observer.trusted = trusted


class Databases:
    """The connections of one slot. Used by one thread at a time."""

    def __init__(self) -> None:
        self._wrappers: dict[str, BaseDatabaseWrapper] = {}
        self._observer = _Observer()
        self._before: dict[str, dict[str, Any]] = {}
        self._outgoing: list[tuple[BaseDatabaseWrapper, list[Cursor]]] = []
        self._idle_since = 0.0

    def begin(self, user: User) -> None:
        """Give this thread the connections, before a call.

        Args:
            user: stands for whoever calls: somebody else finds nothing of who came before.
        """
        _here.databases = self
        for alias in connections:
            if alias in self._wrappers or self._make(alias):
                connections[alias] = self._wrappers[alias]
        if user is self._observer.user:
            self._check(fresh=False, rested=False)
            return
        fresh = not self._observer.owners_of_cursors()
        self._check(fresh=fresh, rested=fresh and monotonic() - self._idle_since >= RESTED)
        self._observer.user = user
        for alias, wrapper in self._wrappers.items():
            wrapper.queries_log.clear()
            self._before[alias] = _state_of(wrapper)

    def end(self) -> Left:
        """Look at what a call has left; give connections of a pool back."""
        state = transaction = False
        self._see_out()
        owners = self._observer.owners_of_cursors()
        for alias, wrapper in self._wrappers.items():
            open_transaction = wrapper.in_atomic_block or (
                wrapper.connection is not None
                and wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]
            )
            changed = alias in self._observer.left or not _is_same(
                self._before[alias], _state_of(wrapper)
            )
            transaction = transaction or open_transaction
            state = state or changed
            kept = changed or open_transaction or owners or alias in self._observer.set
            if not kept and _is_pooled(wrapper):
                # Pages want it, too. It costs no more than a page's own.
                with suppress(Exception):
                    wrapper.close()
        self._idle_since = monotonic()
        return Left(state or transaction, self._observer.user in owners, transaction)

    def has_open_cursors(self, user: User | None = None) -> bool:
        """Whether a cursor is open that somebody, or this user, may read on from.

        Where no call runs, any thread may ask.
        """
        owners = self._observer.owners_of_cursors()
        return bool(owners) if user is None else user in owners

    def look_after(self) -> None:
        """Nobody works here: close what is unusable or too old."""
        self._see_out()
        for alias in self._observer.set & self._wrappers.keys():
            if _is_pooled(self._wrappers[alias]):
                _close(self._wrappers[alias])
        self._check(fresh=True, rested=False, working=False)

    def discard(self) -> dict[str, BaseDatabaseWrapper]:
        """Close the connections on which something was left; new ones take their place.

        Returns:
            What Django has for them, for the socket that has put something on it.
        """
        left = {
            alias: wrapper
            for alias, wrapper in self._wrappers.items()
            if alias in self._observer.left
            or wrapper.in_atomic_block
            or not _is_same(self._before.get(alias, {}), _state_of(wrapper))
        }
        for alias, wrapper in left.items():
            del self._wrappers[alias]
            self._part_with(wrapper, self._observer.user)
        self._observer.left.clear()
        self._observer.user = None
        return left

    def adopt(self, wrappers: dict[str, BaseDatabaseWrapper]) -> None:
        """Go on with what ``discard()`` returned: it was its socket's, and stays so."""
        for alias, wrapper in wrappers.items():
            if alias in self._wrappers:
                self._part_with(self._wrappers.pop(alias), None)
            self._wrappers[alias] = wrapper
            self._observer.left.add(alias)

    def close(self) -> None:
        """Close everything."""
        for wrapper in (*self._wrappers.values(), *(one for one, _ in self._outgoing)):
            _close(wrapper)
        self._wrappers.clear()
        self._outgoing.clear()
        self._observer = _Observer()

    def _part_with(self, wrapper: BaseDatabaseWrapper, user: User | None) -> None:
        """Close a connection; one that others than ``user`` read from once they have done so."""
        cursors = [
            (owner, cursor)
            for owner, cursor in filter(is_read, self._observer.cursors)
            if owner is not user and getattr(cursor(), "db", None) is wrapper
        ]
        if cursors and wrapper.connection is not None:
            keeper: BaseDatabaseWrapper = connections.create_connection(wrapper.alias)
            keeper.connection, wrapper.connection = wrapper.connection, None
            keeper.inc_thread_sharing()
            self._outgoing.append((keeper, cursors))
        _close(wrapper)

    def _see_out(self) -> None:
        for keeper, cursors in list(self._outgoing):
            if not any(map(is_read, cursors)):
                self._outgoing.remove((keeper, cursors))
                _close(keeper)

    def _make(self, alias: str) -> bool:
        try:
            wrapper: BaseDatabaseWrapper = connections.create_connection(alias)
        except Exception:  # Whoever uses it learns why.
            return False
        # Of the threads that use it only one runs at a time.
        wrapper.inc_thread_sharing()
        wrapper.execute_wrappers.append(self._observer)
        self._wrappers[alias] = wrapper
        self._before[alias] = _state_of(wrapper)
        return True

    def _check(self, *, fresh: bool, rested: bool, working: bool = True) -> None:
        """Close connections that are unusable or too old, and drop those that the database dropped.

        The first is done where no cursor may be open. But a lost connection has no cursor left to
        break, so the second is done before every call, for the price of a ``poll()``; then nobody
        notices that the database was restarted. The round trip of ``is_usable()`` is paid where
        that, or an error, raised suspicion, and after a rest: a network can lose a connection
        without a word.

        ``working``: a call is about to run; with ``CONN_MAX_AGE = 0`` to count here, each message
        would get its own connection.
        """
        for wrapper in self._wrappers.values():
            if wrapper.connection is None or wrapper.in_atomic_block:
                continue  # a transaction is never touched
            if fresh and not (working and wrapper.settings_dict["CONN_MAX_AGE"] == 0):
                wrapper.close_if_unusable_or_obsolete()
            # Outside autocommit the caller has to learn that a transaction is lost.
            if not working or wrapper.connection is None or not wrapper.autocommit:
                continue
            if rested or wrapper.errors_occurred or _has_unread_data(wrapper):
                wrapper.errors_occurred = False
                if not wrapper.is_usable():
                    wrapper.close()


def _state_of(wrapper: BaseDatabaseWrapper) -> dict[str, Any]:
    """Return what a socket may have put on a wrapper, such that a change of it shows."""
    attributes, kind = vars(wrapper), cast(Any, type(wrapper))
    return {
        name: list(value) if type(value := attributes[name]) in (list, tuple) else value
        for name in attributes.keys() - _own_names(kind)
    }


def _is_same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return before.keys() == after.keys() and all(
        value is after[name] or (isinstance(value, _PLAIN) and value == after[name])
        for name, value in before.items()
    )


@cache
def _own_names(kind: type[Any]) -> frozenset[str]:
    """Return the attributes that Django's classes set and look after, and what is only cached."""
    names: set[str] = set()
    for one in kind.__mro__:
        for name, value in vars(one).items():
            if isinstance(value, (cached_property, functools.cached_property)):
                names.add(name)
            elif one.__module__.startswith("django.db.backends."):
                # The names that its code uses.
                names.update(getattr(inspect.unwrap(value), "__code__", _NO_CODE).co_names)
    return frozenset(names - _WATCHED)


def _is_pooled(wrapper: BaseDatabaseWrapper) -> bool:
    return bool(wrapper.settings_dict["OPTIONS"].get("pool"))


def _close(wrapper: BaseDatabaseWrapper) -> None:
    """Close a connection for good: a pool must not hand it to anybody."""
    with suppress(Exception):
        if wrapper.connection is not None:
            wrapper.connection.close()
    with suppress(Exception):
        wrapper.close()


def _has_unread_data(wrapper: BaseDatabaseWrapper) -> bool:
    """Tell whether the database said something unasked: most often, that it is gone.

    ``False`` where the driver has no ``fileno()`` (SQLite, Oracle).
    """
    try:
        descriptor = wrapper.connection.fileno()
    except AttributeError:
        return False
    except Exception:  # each driver has its own for "closed"
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([descriptor], [], [], 0)[0])
