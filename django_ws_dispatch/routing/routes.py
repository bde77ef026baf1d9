"""The routes of ``WEBSOCKET_HANDLERS``, adapted to handlers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.urls import include as django_include
from django.urls import path as django_path
from django.urls.resolvers import RegexPattern, URLPattern, URLResolver

from ..conf import conf
from .handlers import Handler, HandlerError, import_handler
from .index import Index, Match
from .languages import in_language
from .patterns import MountPattern, depends_on_language, is_mount, with_patterns

__all__ = ["Deferred", "DottedInclude", "Match", "Route", "Routes", "current_routes"]


class Deferred:
    """Stands for what only the building of the application looks at: most often a dotted path."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.__name__ = str(value)

    def __call__(self, *args: object, **kwargs: object) -> None:
        raise TypeError(f"{self.value!r} is a WebSocket handler: mount it in WEBSOCKET_HANDLERS.")


class DottedInclude(NamedTuple):
    """Stands for a module of routes until the application is built."""

    module: str
    app_name: str | None
    namespace: str | None


class Route(NamedTuple):
    """One route as checks and ``showwebsockets`` see it."""

    route: str
    name: str | None
    handler: Handler | None
    error: HandlerError | None


class Around(NamedTuple):
    """What the includes around a route say of it: their text, and the arguments they capture."""

    text: str
    args: int
    names: frozenset[str]

    def and_of(self, pattern: URLPattern | URLResolver) -> Around:
        """What a pattern says together with what is around it."""
        try:
            regex = pattern.pattern.regex
        except (ImproperlyConfigured, re.error) as exc:
            raise HandlerError(
                f"The route can not be compiled: {exc}.",
                "Correct its regular expression, or the one of its converter.",
            ) from exc
        captured, unnamed = set(getattr(pattern.pattern, "converters", {})), 0
        if isinstance(pattern.pattern, RegexPattern):
            captured = set(regex.groupindex)
            unnamed = 0 if captured else regex.groups
        # Django drops the positional arguments from further out where there are named ones.
        if isinstance(pattern, URLResolver):
            own = captured | set(pattern.default_kwargs)
            args = 0 if own else self.args + unnamed
        else:
            own = captured | set(pattern.default_args)
            args = unnamed + (0 if own else self.args)
        return Around(self.text + str(pattern.pattern), args, self.names | own)


class Routes(Index):
    """All routes of a ``WEBSOCKET_HANDLERS`` value, adapted, with the index that finds them.

    Django's ``reverse()`` takes it for a urlconf: it has ``urlpatterns``.

    Args:
        value: the setting.
        strict: raise the first error, instead of keeping each in ``routes``.

    Raises:
        ImproperlyConfigured: a route is wrong.
    """

    def __init__(self, value: Any, *, strict: bool = True) -> None:
        self.strict = strict
        self.routes: list[Route] = []
        self._handlers = {}
        self.patterns = self._adapt_all(self._patterns(value), Around("", 0, frozenset()))
        self.urlpatterns = list(_for_reversing(self.patterns))
        super().__init__(self.patterns)

    @property
    def urlconf(self) -> Routes | None:
        """What middleware is to take for ``request.urlconf``, where the languages are in it."""
        prefixed = self._languages is not None and self._languages.prefixed
        return self if prefixed else None

    def learn_languages(self) -> None:
        """Read translated routes in every language, which loads them all; fail if one is wrong."""
        if self._languages is not None:
            for route, error in self._languages.learn():
                self._fail(route, None, error)

    def _patterns(self, value: Any) -> list[Any]:
        if isinstance(value, Mapping):
            return [pattern for item in value.items() for pattern in self._from_item(*item)]
        if isinstance(value, str):
            try:
                value = _module_of_routes(value).urlpatterns
            except (ImportError, AttributeError, ImproperlyConfigured) as exc:
                raise ImproperlyConfigured(
                    f"WEBSOCKET_HANDLERS = {value!r} is not a module with urlpatterns: {exc}. "
                    "Write the dotted path of one, a dict of route -> handler, or a list of routes."
                ) from exc
        return list(value)

    def _from_item(self, route: Any, handler: Any) -> list[Any]:
        if isinstance(handler, tuple):  # what include() returns
            remedy = f"Write WEBSOCKET_HANDLERS as a list: [path({route!r}, include(...)), ...]."
            self._fail(str(route), None, HandlerError("An include() is not a handler.", remedy))
            return []
        try:
            if not isinstance(route, str):
                raise ImproperlyConfigured(f"a route is a string, not {route!r}.")
            target: Any = handler if callable(handler) else Deferred(handler)
            return [django_path(route, target)]
        except ImproperlyConfigured as exc:
            remedy = 'Write it as for django.urls.path(): "ws/rooms/<slug:room>/".'
            self._fail(str(route), None, HandlerError(f"This is no route: {exc}", remedy))
            return []

    def _adapt_all(self, patterns: Iterable[Any], around: Around) -> list[Any]:
        """Return the patterns adapted for matching, all of them new."""
        adapted: list[Any] = []
        for pattern in patterns:
            if not isinstance(pattern, (URLPattern, URLResolver)):
                remedy = "Use path(), re_path() and include() from django_ws_dispatch.routing."
                error = HandlerError("This is no route.", remedy)
                self._fail(f"{around.text}{pattern!r}", None, error)
            elif depends_on_language(pattern):
                language = settings.LANGUAGE_CODE
                adapted += in_language(language, self._adapt_or_fail, pattern, around)
            else:
                adapted += self._adapt_or_fail(pattern, around)
        return adapted

    def _adapt_or_fail(self, pattern: URLPattern | URLResolver, around: Around) -> list[Any]:
        """Return the pattern adapted; none where it is wrong."""
        try:
            inner = around.and_of(pattern)
            adapt: Any = self._include if isinstance(pattern, URLResolver) else self._route
            return [adapt(pattern, inner)]
        except HandlerError as exc:
            error = exc
        except Exception as exc:
            if self.strict:
                raise
            if isinstance(exc, ImproperlyConfigured):
                error = HandlerError(str(exc), "")
            else:
                error = HandlerError(
                    f"Building this route raised {type(exc).__name__}: {exc}.",
                    "Import its module in 'manage.py shell' to see where.",
                )
        self._fail(around.text + str(pattern.pattern), getattr(pattern, "name", None), error)
        return []

    def _include(self, resolver: URLResolver, inner: Around) -> URLResolver:
        dotted: DottedInclude | None = getattr(resolver, "dotted_include", None)
        patterns: Any = resolver.url_patterns
        app_name, namespace = resolver.app_name, resolver.namespace
        if dotted is not None:
            try:
                module = _module_of_routes(dotted.module)
                arg = (module, dotted.app_name) if dotted.app_name else module
                included, app_name, namespace = django_include(arg, namespace=dotted.namespace)
            except (ImportError, ImproperlyConfigured) as exc:
                raise HandlerError(
                    f"The routes {dotted.module!r} can not be included: {exc}.",
                    "Write the dotted path of a module with urlpatterns.",
                ) from exc
            patterns = getattr(included, "urlpatterns", included)
        first = len(self.routes)
        adapted = self._adapt_all(patterns, inner)
        if namespace:
            self.routes[first:] = [
                one._replace(name=one.name and f"{namespace}:{one.name}")
                for one in self.routes[first:]
            ]
        return URLResolver(resolver.pattern, adapted, resolver.default_kwargs, app_name, namespace)

    def _route(self, pattern: URLPattern, inner: Around) -> URLPattern:
        callback: Any = pattern.callback
        dotted = None
        if isinstance(callback, Deferred):
            callback = callback.value
            if isinstance(callback, str):
                dotted = callback
                callback = import_handler(dotted)
        handler = self._handlers.get(id(callback)) or Handler(callback)
        handler.check_arguments(inner.args, set(inner.names))
        self._handlers[id(callback)] = handler
        self.routes.append(Route(inner.text, pattern.name, handler, None))
        kind = MountPattern if is_mount(pattern) or depends_on_language(pattern) else URLPattern
        adapted: Any = kind(pattern.pattern, callback, pattern.default_args, pattern.name)
        adapted.dotted_path = dotted
        return adapted  # type: ignore[no-any-return]

    def _fail(self, route: str, name: str | None, error: HandlerError) -> None:
        if self.strict:
            raise ImproperlyConfigured(f"WEBSOCKET_HANDLERS[{route!r}]: {error}") from error
        self.routes.append(Route(route, name, None, error))


def _for_reversing(patterns: Iterable[Any]) -> Iterator[URLPattern | URLResolver]:
    """Adapted patterns, those of handlers with a dotted path once more under that name."""
    for one in patterns:
        if isinstance(one, URLResolver):
            yield with_patterns(one, list(_for_reversing(one.url_patterns)))
            continue
        yield one
        if one.dotted_path not in (None, one.name):
            yield URLPattern(one.pattern, one.callback, one.default_args, one.dotted_path)


def _module_of_routes(path: str) -> ModuleType:
    module = import_module(path)
    if not hasattr(module, "urlpatterns"):
        raise ImproperlyConfigured("it has no urlpatterns")
    if not isinstance(module.urlpatterns, Iterable):
        raise ImproperlyConfigured(f"its urlpatterns is {module.urlpatterns!r}, and not a list")
    return module


@cache
def current_routes() -> Routes:
    """Return the routes of the ``WEBSOCKET_HANDLERS`` setting, built once.

    Raises:
        ImproperlyConfigured: the setting is wrong.
    """
    return Routes(conf.handlers)


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting.startswith(("WEBSOCKET_", "LANGUAGE", "LOCALE_PATHS", "USE_I18N")):
        current_routes.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_ws_dispatch.routing")
