"""The database connections of a lane's slot, and what a socket leaves on them.

A slot's connections serve one socket after the other. What Django or the database keeps for a
connection and not for a query reaches nobody else: a ``search_path``, ``set_config()``, a temporary
table, a lock, an attribute that somebody has put on ``django.db.connection``. Where a call is not
known to have left nothing, its socket has the connection to itself, and when that is over the
connection is closed, as a page's is.

Two things are looked at: what passes Django's cursors (``observer.py``), and the attributes of
Django's wrapper. What goes around both, on the driver's own objects, is not seen.
"""

from __future__ import annotations

import functools
import inspect
import logging
import select
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from copy import copy
from functools import cache
from time import monotonic
from typing import Any, NamedTuple, TypeVar, cast

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.functional import cached_property

from .observer import Cursor, Observer, User, is_read

__all__ = ["NOTHING", "Databases", "Left", "here"]

logger = logging.getLogger("django_ws_dispatch.lanes")

_R = TypeVar("_R")

# Seconds without work after which a connection is looked at before it is used again.
RESTED = 1.0

# What of Django's own may be somebody's all the same.
_WATCHED = frozenset(("execute_wrappers", "force_debug_cursor", "make_cursor", "make_debug_cursor"))
_NO_CODE = (lambda: None).__code__
# Compared by their value; anything else by who it is.
_MUTABLE = (list, dict, set)
_PLAIN = (str, int, float, tuple, *_MUTABLE)


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


NOTHING = Left(state=False, cursor=False, transaction=False)


class _Here(threading.local):
    databases: Databases | None = None


here = _Here()
"""the connections of the call that this thread runs"""


class Databases:
    """The connections of one slot. Used by one thread at a time."""

    def __init__(self) -> None:
        self._wrappers: dict[str, BaseDatabaseWrapper] = {}
        self._observer = Observer()
        self._before: dict[str, dict[str, Any]] = {}
        self._outgoing: list[tuple[BaseDatabaseWrapper, list[Cursor]]] = []
        self._idle_since = 0.0

    def begin(self, user: User) -> None:
        """Give this thread the connections, before a call of a user.

        Another one than that of the last call finds nothing of who came before.
        """
        here.databases = self
        for alias in connections:
            self._give(alias)
        if user is self._observer.user:
            self._check(fresh=False, rested=False)
            return
        self._observer.user = user
        fresh = not self.has_open_cursors()
        self._check(fresh=fresh, rested=fresh and monotonic() - self._idle_since >= RESTED)
        for alias, wrapper in self._wrappers.items():
            wrapper.queries_log.clear()
            self._before[alias] = _state_of(wrapper)

    def end(self) -> Left:
        """Look at what a call has left; give connections of a pool back."""
        state = transaction = False
        self._see_out()
        self._observer.forget_closed()
        owners = self._observer.owners_of_cursors()
        for alias, wrapper in self._wrappers.items():
            open_transaction = _has_transaction(wrapper)
            changed = open_transaction or self._is_changed(alias, wrapper)
            transaction |= open_transaction
            state |= changed
            # What the context manager has set, and not put back, a page would not set anew.
            kept = changed or owners or self._observer.has_set(alias)
            if not kept and _is_pooled(wrapper):
                # Pages want it, too. It costs no more than a page's own.
                with suppress(Exception):
                    wrapper.close()
        self._idle_since = monotonic()
        return Left(state, self._observer.user in owners, transaction)

    def run_within(
        self, manager: Callable[[], AbstractContextManager[Any]], call: Callable[[], _R]
    ) -> _R:
        """Run a call inside the context manager of ``WEBSOCKET_SYNC_CONTEXT``.

        Where that has not set all that it had set for earlier calls it is entered again: what it
        has left out is gone by then.
        """
        missing: set[str] | None = None
        try:
            while missing is None or missing:
                self._observer.trust(entering=True)
                with manager():
                    missing = self._observer.distrust()
                    for alias in missing:
                        self._drop(alias)
                        self._give(alias)
                    if not missing:
                        try:
                            return call()
                        finally:
                            self._observer.trust(entering=False)
        finally:
            self._observer.distrust()
        return cast("_R", None)  # it has suppressed what the call raised

    def has_open_cursors(self, user: User | None = None) -> bool:
        """Whether a cursor is open that somebody, or this user, may read on from. In any thread."""
        owners = self._observer.owners_of_cursors()
        return bool(owners) if user is None else user in owners

    def look_after(self) -> None:
        """Nobody works here: close what is unusable or too old."""
        self._see_out()
        for alias, wrapper in list(self._wrappers.items()):
            if _is_pooled(wrapper) and self._observer.has_set(alias):
                self._drop(alias)  # no page shall get it from the pool
        self._check(fresh=True, rested=False, working=False)

    def discard(self) -> dict[str, BaseDatabaseWrapper]:
        """Close the connections on which something was left; new ones take their place.

        Return what Django has for them, for the socket that has put something on it.
        """
        left = {
            alias: wrapper
            for alias, wrapper in self._wrappers.items()
            if _has_transaction(wrapper) or self._is_changed(alias, wrapper)
        }
        for alias in left:
            self._drop(alias, self._observer.user)
        self._observer.left.clear()
        self._observer.user = None
        return left

    def adopt(self, wrappers: dict[str, BaseDatabaseWrapper]) -> None:
        """Go on with what ``discard()`` returned: it was its socket's, and stays so."""
        for alias, wrapper in wrappers.items():
            self._drop(alias)
            self._observer.watch(wrapper)
            self._observer.left.add(alias)
            self._wrappers[alias] = wrapper

    def close(self) -> None:
        for wrapper in (*self._wrappers.values(), *(keeper for keeper, _ in self._outgoing)):
            _close(wrapper)
        self._wrappers.clear()
        self._outgoing.clear()
        self._observer = Observer()

    def _drop(self, alias: str, user: User | None = None) -> None:
        """Close a connection; one that others than ``user`` read from once they have done so."""
        wrapper = self._wrappers.pop(alias, None)
        if wrapper is None:
            return
        cursors = self._observer.cursors_on(wrapper, but_of=user)
        if cursors and wrapper.connection is not None:
            keeper: BaseDatabaseWrapper = connections.create_connection(alias)
            keeper.connection, wrapper.connection = wrapper.connection, None
            keeper.inc_thread_sharing()
            self._outgoing.append((keeper, cursors))
        _close(wrapper)
        self._observer.forget(alias)

    def _see_out(self) -> None:
        for keeper, cursors in list(self._outgoing):
            if not any(map(is_read, cursors)):
                self._outgoing.remove((keeper, cursors))
                _close(keeper)

    def _is_changed(self, alias: str, wrapper: BaseDatabaseWrapper) -> bool:
        """Whether something of whoever calls is on a connection, or may be."""
        return alias in self._observer.left or not _is_same(
            self._before.get(alias, {}), _state_of(wrapper)
        )

    def _give(self, alias: str) -> None:
        if alias not in self._wrappers:
            try:
                wrapper: BaseDatabaseWrapper = connections.create_connection(alias)
            except Exception:  # Whoever uses it learns why.
                return
            # Of the threads that use it only one runs at a time.
            wrapper.inc_thread_sharing()
            self._observer.watch(wrapper)
            self._wrappers[alias] = wrapper
            self._before[alias] = _state_of(wrapper)
        connections[alias] = self._wrappers[alias]

    def _check(self, *, fresh: bool, rested: bool, working: bool = True) -> None:
        """Close connections that are unusable or too old, and drop those that the database dropped.

        The first is done where no cursor may be open. But a lost connection has no cursor left to
        break, so the second is done before every call, for the price of a ``poll()``. The round
        trip of ``is_usable()`` is paid where that, or an error, raised suspicion, and after a rest:
        a network can lose a connection without a word. Before a call (``working``) no
        ``CONN_MAX_AGE = 0`` counts: each message would get its own connection.
        """
        for wrapper in self._wrappers.values():
            if wrapper.connection is None or wrapper.in_atomic_block:
                continue  # a transaction is never touched
            try:
                if fresh and not (working and wrapper.settings_dict["CONN_MAX_AGE"] == 0):
                    wrapper.close_if_unusable_or_obsolete()
                # Outside autocommit the caller has to learn that a transaction is lost.
                if not working or wrapper.connection is None or not wrapper.autocommit:
                    continue
                if rested or wrapper.errors_occurred or _has_unread_data(wrapper):
                    wrapper.errors_occurred = False
                    if not wrapper.is_usable():
                        wrapper.close()
            except Exception:  # The caller learns whatever matters to it.
                logger.exception("Looking after a database connection of the websockets failed.")


def _state_of(wrapper: BaseDatabaseWrapper) -> dict[str, Any]:
    """Return what a socket may have put on a wrapper, such that a change of it shows."""
    attributes, kind = vars(wrapper), cast(Any, type(wrapper))
    return {
        name: copy(value) if isinstance(value := attributes[name], _MUTABLE) else value
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


def _has_transaction(wrapper: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is open, or one may be: also where Django has not begun it."""
    if wrapper.in_atomic_block:
        return True
    connection: Any = wrapper.connection
    if connection is None:
        return False
    if wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]:
        return True
    try:
        if hasattr(connection, "info"):  # psycopg's
            return bool(connection.info.transaction_status)
        return bool(getattr(connection, "in_transaction", False))  # sqlite3's
    except Exception:  # each driver has its own for "closed"
        return False


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
