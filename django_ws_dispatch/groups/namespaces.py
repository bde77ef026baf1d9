"""``WEBSOCKET_NAMESPACE``: names that are unique in a tenant, and not on the site.

A group's name, or the primary key of a user, belongs to the namespace that is active: that of the
handshake in a handler, its tasks and its lanes; that of the request in a page, with
``django_ws_dispatch.middleware.NamespaceMiddleware``; elsewhere that of a ``with`` block::

    with groups.namespace("red"):
        Group("lobby").send("hello")
"""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from ..conf import conf, import_function

__all__ = [
    "active_namespace",
    "anamespace_of",
    "load_namespace",
    "namespace",
    "namespace_of",
    "set_namespace",
]

MAX_LENGTH = 200

_active: contextvars.ContextVar[str] = contextvars.ContextVar("websocket_namespace", default="")


def active_namespace() -> str:
    """Return the namespace of the running code, ``""`` where there is none."""
    return _active.get()


def set_namespace(name: str) -> None:
    """Make a namespace the active one of the current context."""
    _active.set(name)


@contextmanager
def namespace(name: str) -> Iterator[None]:
    """Make ``name`` the active namespace in a ``with`` block, and in tasks started there.

    Args:
        name: up to 200 characters, any of them; ``""`` for none.

    Raises:
        TypeError: it is not a ``str``.
        ValueError: it is too long.
    """
    token = _active.set(checked(name))
    try:
        yield
    finally:
        _active.reset(token)


def checked(name: object) -> str:
    """Return ``name`` if it can be that of a namespace, else raise as ``namespace()`` does."""
    if not isinstance(name, str):
        raise TypeError(
            f"A namespace is a str of up to {MAX_LENGTH} characters, not {name!r}: what the "
            "function that WEBSOCKET_NAMESPACE names returns, or what groups.namespace() is given."
        )
    if len(name) > MAX_LENGTH:
        raise ValueError(f"A namespace has up to {MAX_LENGTH} characters, not {len(name)}.")
    return name


def namespace_of(function: Callable[[Any], Any], request: Any) -> str:
    """Return the namespace of a request, as the site's function has it. In sync code."""
    return checked(
        async_to_sync(function)(request) if iscoroutinefunction(function) else function(request)
    )


async def anamespace_of(function: Callable[[Any], Any], request: Any) -> str:
    """See ``namespace_of()``. What is no coroutine function may query the database."""
    if not iscoroutinefunction(function):
        function = sync_to_async(function)
    return checked(await function(request))


@cache
def load_namespace() -> Callable[[Any], Any] | None:
    """Return the function that ``WEBSOCKET_NAMESPACE`` names."""
    path = conf.namespace
    if path is None:
        return None
    remedy = "Write the dotted path of a function of the request that returns a str."
    function: Callable[[Any], Any] = import_function("WEBSOCKET_NAMESPACE", path, remedy)
    if inspect.isclass(function):
        raise ImproperlyConfigured(
            f"WEBSOCKET_NAMESPACE: {path!r} is a class, and not a function. {remedy}"
        )
    return function


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "WEBSOCKET_NAMESPACE":
        load_namespace.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_ws_dispatch.groups.namespaces")
