"""What can be said of one of Django's URL patterns without a path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.urls import ResolverMatch
from django.urls.resolvers import RegexPattern, RoutePattern, URLPattern, URLResolver

__all__ = ["Mount", "MountPattern", "beginning", "is_mount", "literals"]


class Mount:
    """The callback of an unanchored ``re_path`` once it matched, with what it left of the path."""

    def __init__(self, callback: Any, rest: str) -> None:
        self.callback = callback
        self.rest = rest
        self.__name__ = getattr(callback, "__name__", type(callback).__name__)


class MountPattern(URLPattern):
    """An unanchored ``re_path``: its callback is a ``Mount``."""

    def resolve(self, path: str) -> ResolverMatch | None:
        match = super().resolve(path)
        if match is not None:
            rest, *_ = self.pattern.match(path)  # type: ignore[misc]
            mounted: Any = Mount(match.func, rest)
            match.func = mounted
        return match


def beginning(pattern: Any) -> str:
    """Return the literal segments, with their slashes, that every path for it begins with."""
    if not is_plain_route(pattern):
        return ""
    literal = str(pattern.pattern).partition("<")[0]
    return literal[: literal.rfind("/") + 1]


def is_literal(pattern: Any) -> bool:
    return is_plain_route(pattern) and not pattern.pattern.converters


def is_plain_route(pattern: Any) -> bool:
    # A translated route is another one in every language.
    route = getattr(pattern.pattern, "_route", None)
    return isinstance(pattern.pattern, RoutePattern) and isinstance(route, str)


def literals(patterns: Iterable[Any]) -> Iterator[str]:
    """The routes without a converter, through includes too."""
    for pattern in patterns:
        if is_literal(pattern):
            route = str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                for inner in literals(pattern.url_patterns):
                    yield route + inner
            else:
                yield route


def is_mount(pattern: URLPattern) -> bool:
    """Whether it may leave something of a path: a ``re_path`` without an end."""
    regex = pattern.pattern.regex.pattern
    return isinstance(pattern.pattern, RegexPattern) and not regex.endswith(("$", r"\Z", r"\z"))
