"""The session of a handshake: read as Django reads it, and never given another key.

A page may give it one, and tells nobody: Django has no signal for that. So the methods of the
session engine tell, which every page and command goes through (``tell_of_keys()``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["SessionKeyChange", "guard_session", "open_session", "reopen_session", "tell_of_keys"]

logger = logging.getLogger("django_ws_dispatch.connection")

# The key of a user in the data of a session: django.contrib.auth.SESSION_KEY.
USER_KEY = "_auth_user_id"


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


def reopen_session(session: SessionBase, key: str | None = None) -> SessionBase:
    """Return a session with the engine of ``session``, with nothing loaded yet.

    Args:
        session: which.
        key: another than that of ``session``.
    """
    return type(session)(key or session.session_key)


def guard_session(session: SessionBase) -> None:
    """Make a session that Django's middleware opened raise ``SessionKeyChange`` from here on.

    The middleware and the handler hold the same object, so that its class is what changes.
    """
    if isinstance(session, SessionBase) and not isinstance(session, _KeyGuard):
        session.__class__ = _guarded(type(session))


def tell_of_keys(
    engine: str,
    changed: Callable[[Any, str], None],
    ended: Callable[[Any, str], None],
    unknown: Callable[[Any, str], None],
) -> None:
    """Have a session engine tell what becomes of the keys of its sessions. Once for each engine.

    Args:
        engine: as ``SESSION_ENGINE`` has it. One in signed cookies has nothing to tell: the browser
            has it all, and a key of it is good for one page.
        changed: is called with a session in which somebody is logged in, and the key it had.
        ended: is called with a session and the key that was deleted from its store.
        unknown: is called with a session and the key that it had before its store failed, which
            may have done what it was asked for, or half of it: an answer that was lost, a database
            that has deleted what the cache in front of it has not.
    """
    store: Any = import_module(engine).SessionStore
    if engine in _telling or _is_in_cookies(store):
        return
    _telling.add(engine)
    for name, wrap, tell in (("cycle_key", _cycling, changed), ("delete", _deleting, ended)):
        for method in (name, f"a{name}"):
            if hasattr(store, method):  # an engine need not be derived from Django's
                setattr(store, method, wrap(getattr(store, method), tell, unknown))


_telling: set[str] = set()


def _is_in_cookies(store: type[Any]) -> bool:
    from django.contrib.sessions.backends import signed_cookies

    return issubclass(store, signed_cookies.SessionStore)


_Tell = Callable[[Any, str], None]


def _cycling(method: Any, changed: _Tell, unknown: _Tell) -> Any:
    def tell(session: Any, before: str | None) -> None:
        after = session.session_key
        # Whose sockets nobody is in by, nobody has to look for.
        data = getattr(session, "_session_cache", None)
        if before and after and before != after and (data is None or USER_KEY in data):
            changed(session, before)

    return _telling_of(method, _changing, tell, unknown)


def _deleting(method: Any, ended: _Tell, unknown: _Tell) -> Any:
    def tell(session: Any, key: str | None) -> None:
        if key and not getattr(session, "_key_changes", False):
            ended(session, key)

    return _telling_of(method, _key_of_deleted, tell, unknown)


def _telling_of(
    method: Any, before: Any, tell: Callable[[Any, str | None], None], unknown: _Tell
) -> Any:
    """Return a method of an engine that tells of what it has done, and does all that it did."""

    @contextmanager
    def telling_of_failures(session: Any, *args: Any, **kwargs: Any) -> Iterator[str | None]:
        with before(session, *args, **kwargs) as key:
            try:
                yield key
            except BaseException:  # An async page whose visitor leaves is cancelled.
                if key:
                    _safely(unknown, session, key)
                raise

    @wraps(method)
    def told(self: Any, *args: Any, **kwargs: Any) -> Any:
        with telling_of_failures(self, *args, **kwargs) as key:
            result = method(self, *args, **kwargs)
        _safely(tell, self, key)
        return result

    @wraps(method)
    async def atold(self: Any, *args: Any, **kwargs: Any) -> Any:
        with telling_of_failures(self, *args, **kwargs) as key:
            result = await method(self, *args, **kwargs)
        _safely(tell, self, key)
        return result

    return atold if iscoroutinefunction(method) else told


@contextmanager
def _changing(session: Any, *args: Any, **kwargs: Any) -> Iterator[str | None]:
    # An engine may be derived from another one that tells.
    outer = getattr(session, "_key_changes", False)
    session._key_changes = True
    try:
        yield getattr(session, "session_key", None)
    finally:
        session._key_changes = outer


@contextmanager
def _key_of_deleted(
    session: Any, session_key: str | None = None, *args: Any, **kwargs: Any
) -> Iterator[str | None]:
    yield session_key or getattr(session, "session_key", None)


def _safely(tell: Callable[[Any, Any], None], session: Any, key: str | None) -> None:
    try:
        tell(session, key)
    except Exception:  # No page fails because of us.
        logger.exception("The sockets of a session whose key has changed can not be told")
