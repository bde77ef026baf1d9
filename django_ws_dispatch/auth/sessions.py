"""The session of a handshake: read as Django reads it, and never given another key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["SessionKeyChange", "guard_session", "is_in_cookies", "open_session", "reopen_session"]


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
        with self._under_its_key("save", must_create):
            super().save(must_create)

    async def asave(self, must_create: bool = False) -> None:
        with self._under_its_key("asave", must_create):
            await super().asave(must_create)

    def _nothing(self) -> dict[str, Any]:
        self._session_key = None
        return {}

    @contextmanager
    def _under_its_key(self, operation: str, must_create: bool) -> Iterator[None]:
        # A key that the store does not know is dropped when the session is loaded, not before.
        key = self.session_key
        if key is None or must_create:
            raise SessionKeyChange(operation)
        yield
        if self.session_key != key:
            self._session_key = key
            raise SessionKeyChange(operation)


def _refusing(operation: str) -> Callable[..., Any]:
    def refused(self: SessionBase, *args: object, **kwargs: object) -> None:
        raise SessionKeyChange(operation)

    async def arefused(self: SessionBase, *args: object, **kwargs: object) -> None:
        raise SessionKeyChange(operation)

    return arefused if operation.startswith("a") else refused


@cache
def _guarded(engine: type[SessionBase]) -> type[SessionBase]:
    refused = ["create", "acreate", "cycle_key", "acycle_key"]
    if is_in_cookies(engine):
        # The browser holds the whole session: nothing that this side forgets is gone.
        refused += ["delete", "adelete", "flush", "aflush"]
    # Django salts the signature of the data with the class's qualified name.
    names = {"__module__": engine.__module__, "__qualname__": engine.__qualname__}
    methods = {operation: _refusing(operation) for operation in refused}
    return type(engine.__name__, (_KeyGuard, engine), {**names, **methods})


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
    """Return the same session, or that of another key, with nothing loaded yet."""
    return type(session)(key or session.session_key)


def guard_session(session: SessionBase) -> None:
    """Make a session that Django's middleware opened raise ``SessionKeyChange`` from here on.

    The middleware and the handler hold the same object, so that its class is what changes.
    """
    if isinstance(session, SessionBase) and not isinstance(session, _KeyGuard):
        session.__class__ = _guarded(type(session))


def is_in_cookies(engine: type[Any]) -> bool:
    """Whether the sessions of a class are held by the browser."""
    from django.contrib.sessions.backends import signed_cookies

    return issubclass(engine, signed_cookies.SessionStore)
