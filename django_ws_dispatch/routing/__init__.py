"""Routes: Django's own, to handlers.

``path``, ``re_path`` and ``include`` are Django's, but a handler may be a dotted path, and a dotted
``include`` is imported when the application is built. Importing this module touches neither the
settings nor the app registry, so that settings.py may use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.urls import URLPattern, URLResolver
from django.urls import include as django_include
from django.urls import path as django_path
from django.urls import re_path as django_re_path
from django.urls import reverse as django_reverse

from .routes import Deferred, DottedInclude, current_routes

__all__ = ["include", "path", "re_path", "reverse"]


def path(
    route: str, handler: Any, kwargs: Mapping[str, Any] | None = None, name: str | None = None
) -> URLPattern | URLResolver:
    """A route in Django's syntax: ``path("ws/rooms/<slug:room>/", room, name="room")``.

    Args:
        route: as for ``django.urls.path()``.
        handler: a handler, its dotted path, or an ``include()``.
        kwargs: more keyword arguments for the handler.
        name: for ``reverse()``. A handler given by its dotted path is also reversed by that.
    """
    return _route(django_path, route, handler, kwargs, name)


def re_path(
    route: str, handler: Any, kwargs: Mapping[str, Any] | None = None, name: str | None = None
) -> URLPattern | URLResolver:
    """A route as a regular expression.

    Without a ``$`` at its end it is a mount: an ASGI application sees what matched as a part of its
    ``root_path``.

    Args:
        route: as for ``django.urls.re_path()``.
        handler: a handler, its dotted path, or an ``include()``.
        kwargs: more keyword arguments for the handler.
        name: for ``reverse()``.
    """
    return _route(django_re_path, route, handler, kwargs, name)


def _route(make: Any, route: str, handler: Any, *options: Any) -> URLPattern | URLResolver:
    dotted = handler if isinstance(handler, DottedInclude) else None
    if dotted is not None:
        handler = [], dotted.app_name, dotted.namespace
    elif not callable(handler) and not isinstance(handler, (list, tuple)):
        handler = Deferred(handler)
    made = make(route, handler, *options)
    made.dotted_include = dotted
    return made  # type: ignore[no-any-return]


def include(arg: Any, namespace: str | None = None) -> Any:
    """Include other routes.

    Args:
        arg: a list of routes, a tuple ``(routes, app_name)``, a module with ``urlpatterns``, or
            its dotted path, which is imported when the application is built.
        namespace: the instance namespace.
    """
    if isinstance(arg, str):
        return DottedInclude(arg, None, namespace)
    if isinstance(arg, tuple) and len(arg) == 2 and isinstance(arg[0], str):
        return DottedInclude(arg[0], arg[1], namespace)
    return django_include(arg, namespace=namespace)


def reverse(
    name: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
) -> str:
    """Return the path of a socket, with the script prefix, as ``django.urls.reverse()`` does.

    Args:
        name: a route's name or its handler's dotted path, behind its namespaces.
        args: positional arguments.
        kwargs: keyword arguments.

    Raises:
        NoReverseMatch: no route fits.
        ImproperlyConfigured: ``WEBSOCKET_HANDLERS`` is wrong.
    """
    urlconf: Any = current_routes()
    return django_reverse(name, urlconf=urlconf, args=args, kwargs=dict(kwargs or {}) or None)
