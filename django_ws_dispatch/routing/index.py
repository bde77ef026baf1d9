"""The index of routes: from a path to the handler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple

from django.urls import Resolver404, ResolverMatch
from django.urls.resolvers import RegexPattern, URLResolver

from ..handshake.request import split_path
from ..typing import Scope
from .handlers import Handler
from .languages import Languages, in_language
from .patterns import Mount, beginning, is_literal, leaves, may_fit

__all__ = ["Index", "Match"]


class Match(NamedTuple):
    """A route that fits a path."""

    handler: Handler
    resolver_match: ResolverMatch
    rest: str | None = None
    """what a mount left of the path; ``None`` where the route is no mount"""


class Index:
    """Finds the first of some routes that fits a path.

    A literal route is one dict look-up, unless one above it may fit as well. All are filed under
    the literal segments that they begin with, and Django's own ``URLResolver`` matches the few that
    are filed under the beginning of a path, in their order.
    """

    _handlers: dict[int, Handler]  # by the identity of a pattern's callback

    def __init__(self, patterns: list[Any]) -> None:
        self._languages = Languages(patterns) or None
        self._filed: dict[str, list[tuple[int, Any]]] = {}
        for index, pattern in enumerate(patterns):
            self._filed.setdefault(beginning(pattern), []).append((index, pattern))
        self._resolver = cache(self._make_resolver)
        self._literal = dict(self._resolved_literals(patterns))

    def find(self, scope: Scope) -> Match | None:
        """Return the first route that fits the path of a scope."""
        if not scope.get("root_path"):
            match = self._literal.get(scope.get("path", "/"))
            if match is not None:
                return match
        path = split_path(scope)[1]
        if (match := self._literal.get(path)) is not None:
            return match
        if self._languages is None:
            return self._find(path)
        languages = self._languages.of(scope, path)
        found = (in_language(language, self._find, path) for language in languages)
        return next((match for match in found if match is not None), None)

    def _find(self, path: str) -> Match | None:
        if not path.startswith("/"):
            return None
        beginnings = tuple(_beginnings(path, self._filed))
        if not beginnings:
            return None
        try:
            return self._match(self._resolver(beginnings), path)
        except Resolver404:
            return None

    def _match(self, resolver: URLResolver, path: str) -> Match:
        match = resolver.resolve(path)
        callback: Any = match.func
        rest = None
        if isinstance(callback, Mount):
            rest = callback.rest
            callback = match.func = callback.callback
        return Match(self._handlers[id(callback)], match, rest)

    def _resolved_literals(self, patterns: list[Any]) -> Iterator[tuple[str, Match]]:
        # A converter may do anything: it is asked when somebody connects, and never here.
        others: dict[str, list[tuple[Any, str]]] = {}
        seen = set()
        for prefix, pattern, alone in leaves(patterns):
            if not is_literal(pattern):
                others.setdefault(beginning(pattern, prefix), []).append((pattern, prefix))
                continue
            route = prefix + str(pattern.pattern)
            above = (other for one in _beginnings("/" + route, others) for other in others[one])
            if route not in seen and not any(may_fit(*other, route) for other in above):
                yield "/" + route, self._match(_resolver_of([alone]), "/" + route)
            seen.add(route)

    def _make_resolver(self, beginnings: tuple[str, ...]) -> URLResolver:
        filed = [entry for one in beginnings for entry in self._filed[one]]
        filed.sort(key=itemgetter(0))
        return _resolver_of([pattern for _, pattern in filed])


def _beginnings(path: str, filed: Mapping[str, Any]) -> Iterator[str]:
    """The beginnings of a path that something is filed under."""
    if "" in filed:
        yield ""
    end = path.find("/", 1)
    while end != -1:
        if (head := path[1 : end + 1]) in filed:
            yield head
        end = path.find("/", end + 1)


def _resolver_of(patterns: list[Any]) -> URLResolver:
    return URLResolver(RegexPattern(r"^/"), patterns)
