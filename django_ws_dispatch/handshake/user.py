"""Who is it: the session and the user of a handshake, verified as Django does and never written.

Django's own ``get_user()`` gives the session a new key where ``SECRET_KEY_FALLBACKS`` verified it
and flushes it where its hash is stale. A socket must do neither: it can not hand the browser the
cookie that goes with it, so that a rotation of keys would log everybody out.
"""

from __future__ import annotations

import threading
from functools import cache
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import constant_time_compare, salted_hmac

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser
    from django.http import HttpRequest

__all__ = [
    "SessionKeyChange",
    "aload_nobody",
    "aload_user",
    "guard_session",
    "load_user",
    "logged_out",
    "open_session",
    "reopen_session",
    "session_token",
]


class SessionKeyChange(RuntimeError):
    """A handler did to its session what only a response with a cookie could tell the browser."""

    def __init__(self, operation: str) -> None:
        super().__init__(
            f"session.{operation}() would give the session another key, and a socket that is open "
            "can not send the browser the cookie for it. Start, cycle and end sessions in a view; "
            "a handler may change and save a session that exists (not with signed cookies)."
        )


class _KeyGuard(SessionBase):
    """Mixed into the class of a session: it may be read, changed and saved, under its key."""

    def create(self) -> None:
        raise SessionKeyChange("create")

    async def acreate(self) -> None:
        raise SessionKeyChange("acreate")

    def cycle_key(self) -> None:
        raise SessionKeyChange("cycle_key")

    async def acycle_key(self) -> None:
        raise SessionKeyChange("acycle_key")

    def load(self) -> dict[str, Any]:
        # Two of Django's engines create a new session where the old one can not be read.
        try:
            return super().load()
        except SessionKeyChange:
            return self._nothing()

    async def aload(self) -> dict[str, Any]:
        try:
            return await super().aload()
        except SessionKeyChange:
            return self._nothing()

    def save(self, must_create: bool = False) -> None:
        key = self._saved_key("save", must_create)
        super().save(must_create)
        self._same_key("save", key)

    async def asave(self, must_create: bool = False) -> None:
        key = self._saved_key("asave", must_create)
        await super().asave(must_create)
        self._same_key("asave", key)

    def delete(self, session_key: str | None = None) -> None:
        self._refuse_cookie("delete")
        super().delete(session_key)

    async def adelete(self, session_key: str | None = None) -> None:
        self._refuse_cookie("adelete")
        await super().adelete(session_key)

    def flush(self) -> None:
        self._refuse_cookie("flush")
        super().flush()

    async def aflush(self) -> None:
        self._refuse_cookie("aflush")
        await super().aflush()

    def _nothing(self) -> dict[str, Any]:
        self._session_key = None
        return {}

    def _saved_key(self, operation: str, must_create: bool) -> str:
        # A key that the store does not know is dropped when the session is loaded, not before.
        if self.session_key is None or must_create:
            raise SessionKeyChange(operation)
        return self.session_key

    def _same_key(self, operation: str, key: str) -> None:
        if self.session_key != key:
            self._session_key = key
            raise SessionKeyChange(operation)

    def _refuse_cookie(self, operation: str) -> None:
        # The browser holds the whole session: nothing that this side forgets is gone.
        from django.contrib.sessions.backends import signed_cookies

        if isinstance(self, signed_cookies.SessionStore):
            raise SessionKeyChange(operation)


@cache
def _guarded(engine: type[SessionBase]) -> type[SessionBase]:
    # Django salts the signature of the data with the class's qualified name.
    names = {"__module__": engine.__module__, "__qualname__": engine.__qualname__}
    return type(engine.__name__, (_KeyGuard, engine), names)


@cache
def _engine(path: str) -> type[SessionBase]:
    engine: type[SessionBase] = import_module(path).SessionStore
    if hasattr(engine, "get_model_class"):
        try:
            engine.get_model_class()
        except RuntimeError as exc:
            raise ImproperlyConfigured(
                f"The session of a socket was asked for, and SESSION_ENGINE {path!r} keeps it in "
                "a model that is not installed: add 'django.contrib.sessions' to INSTALLED_APPS."
            ) from exc
    return _guarded(engine)


def open_session(request: HttpRequest) -> SessionBase:
    """Return the session that the request's cookie names, with nothing loaded yet.

    It can be read, changed and saved; what would change its key raises ``SessionKeyChange``.

    Raises:
        ImproperlyConfigured: the engine's model is not installed.
    """
    return _engine(settings.SESSION_ENGINE)(request.COOKIES.get(settings.SESSION_COOKIE_NAME))


def reopen_session(session: SessionBase) -> SessionBase:
    """Return a session with the engine and the key of ``session``, with nothing loaded yet."""
    return type(session)(session.session_key)


def guard_session(session: SessionBase) -> None:
    """Make a session that Django's middleware opened raise ``SessionKeyChange`` from here on.

    The middleware and the handler hold the same object, so that its class is what changes.
    """
    if isinstance(session, SessionBase) and not isinstance(session, _KeyGuard):
        session.__class__ = _guarded(type(session))


def session_token(session_key: str) -> str:
    """Return what stands for a session in a control message: a keyed hash, never the key."""
    return salted_hmac("django_ws_dispatch.session", session_key, algorithm="sha256").hexdigest()


class _LoggedOut:
    """The sessions, as tokens, that were logged out a short while ago. Any thread.

    Django tells of a logout before the session is gone from the store, perhaps with a transaction
    of the whole request still to be committed. Until then nobody shall be in by it.
    """

    SECONDS = 60.0

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # the next to be forgotten comes first
        self._lock = threading.Lock()

    def add(self, token: str) -> None:
        now = monotonic()
        with self._lock:
            self._until.pop(token, None)
            self._until[token] = now + self.SECONDS
            while self._until[oldest := next(iter(self._until))] < now:
                del self._until[oldest]

    def __contains__(self, token: str | None) -> bool:
        return token is not None and self._until.get(token, 0.0) > monotonic()


logged_out = _LoggedOut()


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
    auth = _auth()
    try:
        user_id, path = session[auth.SESSION_KEY], session[auth.BACKEND_SESSION_KEY]
    except KeyError:
        return _anonymous()
    if path not in settings.AUTHENTICATION_BACKENDS:
        return _anonymous()
    user = auth.load_backend(path).get_user(_primary_key(user_id))
    return _verified(user, session.get(auth.HASH_SESSION_KEY))


async def aload_user(session: SessionBase) -> AbstractBaseUser | AnonymousUser:
    """See ``load_user()``: the same methods of the backend as on a page, and one thread hop.

    None for a browser without a session: strangers do not queue for the lanes.
    """
    if session.session_key is None and not hasattr(session, "_session_cache"):
        return load_user(session)
    user: AbstractBaseUser | AnonymousUser = await sync_to_async(load_user)(session)
    return user


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


def _primary_key(value: str) -> Any:
    # The session holds it as text, whatever the type of the key.
    from django.contrib.auth import get_user_model

    return get_user_model()._meta.pk.to_python(value)


def _verified(user: Any, session_hash: str | None) -> AbstractBaseUser | AnonymousUser:
    if user is None:
        return _anonymous()
    if not hasattr(user, "get_session_auth_hash"):
        verified = True
    elif not session_hash:
        verified = False
    else:
        verified = constant_time_compare(session_hash, user.get_session_auth_hash()) or any(
            constant_time_compare(session_hash, fallback)
            for fallback in user.get_session_auth_fallback_hash()
        )
    return user if verified else _anonymous()
