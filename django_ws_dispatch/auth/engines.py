"""Session engines, which are made to tell what becomes of the keys of their sessions.

A page may give a session another key, or end it, and tells nobody: Django has no signal for that.
So the methods of the session engine tell, which every page and command goes through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial, wraps
from importlib import import_module
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.db import router

from ..groups.namespaces import active_namespace
from . import tell
from .keys import logged_out, tokens_of
from .sessions import is_in_cookies

__all__ = ["cycling", "deleting", "tell_of_keys", "telling"]

logger = logging.getLogger("django_ws_dispatch.connection")

# The key of a user in the data of a session: django.contrib.auth.SESSION_KEY.
USER_KEY = "_auth_user_id"

_told: set[str] = set()


def tell_of_keys(engine: str) -> None:
    """Have a session engine tell what becomes of the keys of its sessions. Once for each engine."""
    store: Any = import_module(engine).SessionStore
    # In signed cookies the browser has it all, and a key is good for one page.
    if engine in _told or is_in_cookies(store):
        return
    _told.add(engine)
    for name, manager in (("cycle_key", cycling), ("delete", deleting)):
        for method in (name, f"a{name}"):
            if hasattr(store, method):  # an engine need not be derived from Django's
                setattr(store, method, telling(getattr(store, method), manager))


def telling(method: Any, manager: Callable[..., AbstractContextManager[None]]) -> Any:
    """Return a method of an engine that tells of what it has done, and does all that it did."""

    @wraps(method)
    def told(self: Any, *args: Any, **kwargs: Any) -> Any:
        with manager(self, *args, **kwargs):
            return method(self, *args, **kwargs)

    @wraps(method)
    async def atold(self: Any, *args: Any, **kwargs: Any) -> Any:
        with manager(self, *args, **kwargs):
            return await method(self, *args, **kwargs)

    return atold if iscoroutinefunction(method) else told


@contextmanager
def cycling(session: Any, *args: Any, **kwargs: Any) -> Iterator[None]:
    """Tell of another key of a session in which somebody is logged in."""
    before = getattr(session, "session_key", None)
    # An engine may be derived from another one that tells.
    outer = getattr(session, "_key_changes", False)
    session._key_changes = True
    try:
        with _telling_of_failure(session, before):
            yield
    finally:
        session._key_changes = outer
    after = getattr(session, "session_key", None)
    # Whose sockets nobody is in by, nobody has to look for.
    data = getattr(session, "_session_cache", None)
    if before and after and before != after and (data is None or USER_KEY in data):
        _tell(session, partial(tell.move_session, before, after))


@contextmanager
def deleting(
    session: Any, session_key: str | None = None, *args: Any, **kwargs: Any
) -> Iterator[None]:
    """Tell of a session that is deleted, but by what gives it another key."""
    key = session_key or getattr(session, "session_key", None)
    with _telling_of_failure(session, key):
        yield
    if key and not getattr(session, "_key_changes", False):
        _tell(session, partial(_ended, key))


@contextmanager
def _telling_of_failure(session: Any, key: str | None) -> Iterator[None]:
    # It may have done what it was asked for, or half of it: an answer that was lost, a database
    # that has deleted what the cache in front of it has not.
    try:
        yield
    except BaseException:  # An async page whose visitor leaves is cancelled.
        if key:
            _tell(session, partial(tell.verify_session, key))
        raise


def _ended(key: str, namespace: str) -> None:
    # The signal of a logout has told already; but of a session that tenants share, the sockets in
    # other namespaces were looked at before it was gone.
    if namespace or not all(logged_out.has(token, "") for token in tokens_of(key)):
        tell.end_session({key}, None, namespace)


def _tell(session: Any, told: Callable[[str], None]) -> None:
    """Tell of a change in a session's store, at once or with the transaction that it is part of."""
    try:
        using = None
        if hasattr(session, "get_model_class"):
            using = router.db_for_write(session.get_model_class())
        tell.once_committed(partial(told, active_namespace()), using)
    except Exception:  # No page fails because of us.
        logger.exception("The sockets of a session whose key has changed can not be told")
