"""The user of a session, verified as Django does and never written.

Django's own ``get_user()`` gives the session a new key where ``SECRET_KEY_FALLBACKS`` verified it
and flushes it where its hash is stale. A socket must do neither: it can not hand the browser the
cookie that goes with it, so that a rotation of keys would log everybody out.
"""

from __future__ import annotations

from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import constant_time_compare

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser

__all__ = ["Verdict", "aload_nobody", "aload_user", "load_user", "verify"]


class Verdict(Enum):
    """Whether somebody is still who they were."""

    IN = "in"
    OUT = "out"
    DOUBT = "doubt"  # out, it seems; but a page may just be giving the session another key


async def aload_nobody() -> AnonymousUser:
    """Return the user of a session that is logged out, whatever its store still says."""
    return _anonymous()


def load_user(session: SessionBase) -> AbstractBaseUser | AnonymousUser:
    """Return the session's user as ``django.contrib.auth.get_user`` finds it, and write nothing.

    A user that the backend does not give (deleted, inactive), a backend that is not in
    ``AUTHENTICATION_BACKENDS`` and a stale hash make it an ``AnonymousUser``.

    Raises:
        ImproperlyConfigured: ``django.contrib.auth`` is not installed.
    """
    user, _ = _find(session)
    return _anonymous() if user is None else user


async def aload_user(session: SessionBase) -> AbstractBaseUser | AnonymousUser:
    """See ``load_user()``: the same methods of the backend as on a page, and one thread hop.

    None for a browser without a session: strangers do not queue for the lanes.
    """
    if session.session_key is None and not hasattr(session, "_session_cache"):
        return load_user(session)
    user: AbstractBaseUser | AnonymousUser = await sync_to_async(load_user)(session)
    return user


def verify(session: SessionBase | None, in_session: str | None, user: str | None) -> Verdict:
    """Look again whether a socket's user is still in; raise if nobody can say so now.

    Args:
        session: with nothing loaded yet; ``None`` where it says nothing.
        in_session: the primary key of the user whom it named, ``None`` for none.
        user: that of the socket's user, whom a middleware may have named instead.
    """
    if session is not None and in_session is not None:
        verdict = _verify(session, in_session)
        if verdict is not Verdict.IN:
            return verdict
    if user is None or user == in_session:
        return Verdict.IN
    from django.contrib.auth import get_user_model

    named = get_user_model()._default_manager.filter(pk=user).first()
    return Verdict.IN if named is not None and named.is_active else Verdict.OUT


def _verify(session: SessionBase, pk: str) -> Verdict:
    key = session.session_key
    user, verdict = _find(session)
    if verdict is Verdict.DOUBT and hasattr(session, "_cache") and key is not None:
        # Django's engines over a cache take one that is away for one that has nothing: this raises.
        session._cache.get(f"{getattr(session, 'cache_key_prefix', '')}{key}")
    return verdict if user is None or str(user.pk) == pk else Verdict.DOUBT


def _find(session: SessionBase) -> tuple[Any, Verdict]:
    """Return the user of a session, or ``None``, and what that means for whom it has named."""
    auth = _auth()
    user_id, path = session.get(auth.SESSION_KEY), session.get(auth.BACKEND_SESSION_KEY)
    if user_id is None or path is None:
        return None, Verdict.DOUBT
    user = None
    if path in settings.AUTHENTICATION_BACKENDS:
        # The session holds it as text, whatever the type of the key.
        pk = auth.get_user_model()._meta.pk.to_python(user_id)
        user = auth.load_backend(path).get_user(pk)
    if user is None:
        return None, Verdict.OUT
    if not _has_hash(user, session.get(auth.HASH_SESSION_KEY)):
        return None, Verdict.DOUBT
    return user, Verdict.IN


def _auth() -> Any:
    if not apps.is_installed("django.contrib.auth"):
        raise ImproperlyConfigured(
            "The user of a socket was asked for: add 'django.contrib.auth' and "
            "'django.contrib.contenttypes' to INSTALLED_APPS."
        )
    return import_module("django.contrib.auth")


def _anonymous() -> AnonymousUser:
    from django.contrib.auth.models import AnonymousUser

    return AnonymousUser()


def _has_hash(user: Any, session_hash: str | None) -> bool:
    if not hasattr(user, "get_session_auth_hash"):
        return True
    return session_hash is not None and (
        constant_time_compare(session_hash, user.get_session_auth_hash())
        or any(
            constant_time_compare(session_hash, fallback)
            for fallback in user.get_session_auth_fallback_hash()
        )
    )
