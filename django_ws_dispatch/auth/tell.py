"""What a page, a command or a task has done to sessions and users, told to every open socket.

Any thread. This process hears of it at once, others through the default broker (``control.py``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from django.db import transaction

from ..brokers import get_broker
from . import control
from .keys import changes, logged_out, seal, tokens_of
from .watch import local as watches
from .watched import key_of

__all__ = ["end_session", "move_session", "once_committed", "verify_session", "verify_user"]


def end_session(keys: Iterable[str], user: Any = None, namespace: str = "") -> None:
    """Close the sockets of a session that is being logged out, on every node.

    A socket that comes a little later, while the store may still have the session, is nobody's.

    Args:
        keys: of the session, and of the browser's cookie.
        user: who logs out. Sockets whose session had another key are verified.
        namespace: in which; without one in all of them.
    """
    tokens = list(dict.fromkeys(token for key in keys for token in tokens_of(key)))
    # Before the loops look who is there, and where there is none yet.
    for token in tokens:
        logged_out.add(token, namespace)
    if tokens or user is not None:
        message: dict[str, Any] = {}
        if tokens:
            message = {"session": tokens[0], "also": tokens[1:]}
        if (pk := key_of(user)) is not None:
            message["user"] = pk
        _broadcast(message, namespace)


def move_session(before: str, after: str, namespace: str = "") -> None:
    """A session in which somebody is logged in has another key: its sockets go with it."""
    tokens, sealed = tokens_of(before), seal(after, before)
    for token, one in zip(tokens, sealed, strict=True):
        changes.note(token, one)
    _broadcast({"changed": tokens, "to": sealed}, namespace)


def verify_session(key: str, namespace: str = "") -> None:
    """Verify the sockets of a session of which nobody knows what its store has done."""
    _broadcast({"look": tokens_of(key)}, namespace)


def verify_user(user: Any, namespace: str = "") -> None:
    """Verify the sockets of a user that has been changed, on every node."""
    _broadcast({"user": str(user.pk)}, namespace)


def once_committed(told: Callable[[], None], using: str | None) -> None:
    """Tell of a change in a database (``None``: in none) once it is committed."""
    if using is None:
        told()
        return
    connection = transaction.get_connection(using)
    if connection.in_atomic_block:
        transaction.on_commit(told, using=using, robust=True)
        return
    told()
    # Where the site commits by itself on_commit() raises. What it would have done is done when
    # autocommit is on again; until then, and where it never is, nobody tells of a commit.
    if not connection.autocommit and connection.settings_dict["AUTOCOMMIT"]:
        connection.run_on_commit.append((set(connection.savepoint_ids), told, True))


def _broadcast(message: dict[str, Any], namespace: str) -> None:
    """Tell every loop of this process at once, and other processes through the broker."""
    if namespace:
        message["namespace"] = namespace
    known = control.decode(json.dumps(message).encode()) or control.Message()
    for watch in watches.values():
        with suppress(RuntimeError):  # the loop is closed
            watch.loop.call_soon_threadsafe(watch.handle, known)
    if not get_broker("default").in_process:
        control.send_control(message)
