"""What Django's signals mean for open sockets.

A logout closes the sockets of its session, as whatever else ends it does (``engines.py``). Saving
or deleting a user verifies that user's sockets once the transaction is committed. What sends no
signal, such as ``queryset.update()``, is for ``recheck_user()`` of
``django_ws_dispatch.decorators``.
"""

from __future__ import annotations

import logging
from functools import partial
from types import SimpleNamespace
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.core.signals import setting_changed
from django.db.models.signals import post_delete, post_save

from ..groups.namespaces import active_namespace
from . import tell
from .engines import tell_of_keys

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
        tell_of_keys(settings.SESSION_ENGINE)
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
        tell.once_committed(partial(tell.verify_user, user, active_namespace()), using)
    except Exception:  # Nobody's user can not be saved because of us.
        logger.exception("The sockets of a user that was changed can not be told")
