"""What Django's signals mean for open sockets.

A logout closes the sockets of its session, and so does whatever else ends it. A session that is
given another key keeps them. Saving or deleting a user verifies that user's sockets once the
transaction is committed. What sends no signal, such as ``queryset.update()``, is for
``recheck_user()`` of ``django_ws_dispatch.decorators``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.core.signals import setting_changed
from django.db import router, transaction
from django.db.models.signals import post_delete, post_save

from ..groups.namespaces import active_namespace
from . import tell
from .keys import logged_out, tokens_of
from .sessions import tell_of_keys

__all__ = ["connect"]

logger = logging.getLogger("django_ws_dispatch.connection")

LAST_LOGIN = frozenset(["last_login"])
UID = "django_ws_dispatch.receivers"

# The models whose signals are heard: each costs its saves a call and its fast deletes a query, so
# that no other model's are.
_senders: list[type[Any]] = []


def connect() -> None:
    """Listen; a second call listens to the user model that ``AUTH_USER_MODEL`` names by then."""
    for sender in _senders:
        post_save.disconnect(sender=sender, dispatch_uid=UID)
        post_delete.disconnect(sender=sender, dispatch_uid=UID)
    _senders.clear()
    setting_changed.connect(_reconnect, dispatch_uid=UID)
    if not apps.is_installed("django.contrib.auth"):
        return
    user_logged_out.connect(_logged_out, dispatch_uid=UID)
    try:
        tell_of_keys(settings.SESSION_ENGINE, _session_moved, _session_ended, _session_unknown)
    except ImportError:  # Django itself says what is wrong there.
        pass
    except Exception:  # A command that uses no sessions must run.
        logger.exception("The sockets of sessions whose key changes can not be told")
    user_model = get_user_model()
    for model in apps.get_models():
        if issubclass(model, user_model):  # it, its proxies, and what inherits from it
            post_save.connect(_saved, sender=model, dispatch_uid=UID)
            post_delete.connect(_changed, sender=model, dispatch_uid=UID)
            _senders.append(model)


def _reconnect(*, setting: str, **kwargs: object) -> None:
    if setting in ("AUTH_USER_MODEL", "INSTALLED_APPS", "SESSION_ENGINE"):
        connect()


def _logged_out(*, request: Any = None, user: Any = None, **kwargs: object) -> None:
    # Sent before the session is flushed: its key is still there. That of the cookie may be another
    # one, of a session that the store has lost.
    keys = {
        getattr(getattr(request, "session", None), "session_key", None),
        getattr(request, "COOKIES", {}).get(settings.SESSION_COOKIE_NAME),
    }
    try:
        tell.end_session({key for key in keys if key}, user, active_namespace())
    except Exception:  # Nobody stays logged in because of us.
        logger.exception("The sockets of a session that was logged out can not be told")


def _session_ended(session: Any, key: str) -> None:
    def ended() -> None:
        # The signal above has told already; but of a session that tenants share, the sockets in
        # other namespaces were looked at before it was gone.
        if namespace or not all(logged_out.has(token, "") for token in tokens_of(key)):
            tell.end_session({key}, None, namespace)

    namespace = active_namespace()
    _once_it_holds(session, ended)


def _session_moved(session: Any, before: str) -> None:
    told = partial(tell.move_session, before, session.session_key, active_namespace())
    _once_it_holds(session, told)


def _session_unknown(session: Any, key: str) -> None:
    _once_it_holds(session, partial(tell.verify_session, key, active_namespace()))


def _once_it_holds(session: Any, told: Callable[[], None]) -> None:
    """Tell of a change in a session's store, at once or with the transaction that it is part of."""
    using = None
    if hasattr(session, "get_model_class"):
        using = router.db_for_write(session.get_model_class())
    if using is not None and transaction.get_connection(using).in_atomic_block:
        transaction.on_commit(told, using=using, robust=True)
    else:
        told()


def _saved(
    *, created: bool = False, update_fields: frozenset[str] | None = None, **kwargs: Any
) -> None:
    # Each login saves last_login, and a new user has no sockets.
    if not created and update_fields != LAST_LOGIN:
        _changed(**kwargs)


def _changed(*, instance: Any, using: str, **kwargs: object) -> None:
    try:
        # A deleted instance loses its key before the transaction is committed. What inherits from
        # the user model may have a key of its own.
        user = SimpleNamespace(pk=getattr(instance, get_user_model()._meta.pk.attname))
        _once_committed(partial(tell.verify_user, user, active_namespace()), using)
    except Exception:  # Nobody's user can not be saved because of us.
        logger.exception("The sockets of a user that was changed can not be told")


def _once_committed(told: Callable[[], None], using: str) -> None:
    connection = transaction.get_connection(using)
    if connection.in_atomic_block or connection.get_autocommit():
        transaction.on_commit(told, using=using, robust=True)
        return
    # Where the site commits by itself on_commit() raises. What it would have done is done when
    # autocommit is on again; until then, and where it never is, nobody tells of a commit.
    told()
    if connection.settings_dict["AUTOCOMMIT"]:
        connection.run_on_commit.append((set(connection.savepoint_ids), told, True))
