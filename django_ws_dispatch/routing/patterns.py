"""What can be said of one of Django's URL patterns without a path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings
from django.urls import ResolverMatch
from django.urls.resolvers import (
    LocalePrefixPattern,
    RegexPattern,
    RoutePattern,
    URLPattern,
    URLResolver,
)

__all__ = [
    "Mount",
    "MountPattern",
    "beginning",
    "depends_on_language",
    "is_literal",
    "is_mount",
    "leaves",
    "may_fit",
    "shape_of",
    "with_patterns",
]

_CONVERTED = re.compile(r"<(?:([^>:]+):)?[^>]+>")
_ANCHORED = re.compile(r"(.*)(?:(?<!\\)\$|\\[Zz])", re.DOTALL)
_ONE_TEXT = re.compile(r"\^[\w/-]*")


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
        if match is not None and is_mount(self):  # a translated one may have an end
            rest, *_ = self.pattern.match(path)  # type: ignore[misc]
            mounted: Any = Mount(match.func, rest)
            match.func = mounted
        return match


def beginning(pattern: Any, prefix: str = "") -> str:
    """Return the literal segments, with their slashes, that every path for it begins with.

    ``prefix`` is the literal text of the includes around it.
    """
    literal = prefix
    if is_plain_route(pattern):
        literal += str(pattern.pattern).partition("<")[0]
    return literal[: literal.rfind("/") + 1]


def is_literal(pattern: Any) -> bool:
    """Whether it fits one text only, in every language."""
    return is_plain_route(pattern) and not pattern.pattern.converters


def is_plain_route(pattern: Any) -> bool:
    # A translated route is another one in every language.
    route = getattr(pattern.pattern, "_route", None)
    return isinstance(pattern.pattern, RoutePattern) and isinstance(route, str)


def depends_on_language(pattern: Any) -> bool:
    """Whether it fits other paths in another language, as far as can be seen."""
    if isinstance(pattern.pattern, RegexPattern):
        return not isinstance(pattern.pattern._regex, str)  # type: ignore[attr-defined]
    return not is_plain_route(pattern)


def may_fit(pattern: Any, prefix: str, path: str) -> bool:
    """Whether a path, without its first slash, may be for it: no converter is asked."""
    if not path.startswith(prefix):
        return False
    rest = path[len(prefix) :]
    if isinstance(pattern.pattern, LocalePrefixPattern):
        if rest.partition("/")[0] in (*dict(settings.LANGUAGES), settings.LANGUAGE_CODE):
            return True
        inside = () if pattern.pattern.prefix_default_language else pattern.url_patterns
        return any(may_fit(one, prefix, path) for one in inside)
    # What is translated may fit in one of the languages.
    return depends_on_language(pattern) or bool(pattern.pattern.regex.search(rest))


def leaves(patterns: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every pattern behind literal includes only, in order.

    Yields:
        the literal text of the includes around it, the pattern, and the same in its includes as if
        there were no other.
    """
    for pattern in patterns:
        if isinstance(pattern, URLResolver) and is_literal(pattern):
            inside = leaves(pattern.url_patterns, prefix + str(pattern.pattern))
            for whole, inner, alone in inside:
                yield whole, inner, with_patterns(pattern, [alone])
        else:
            yield prefix, pattern, pattern


def with_patterns(resolver: URLResolver, patterns: list[Any]) -> URLResolver:
    """Return an include like another one, around other patterns."""
    return URLResolver(
        resolver.pattern,
        patterns,
        resolver.default_kwargs,
        resolver.app_name,
        resolver.namespace,
    )


def shape_of(pattern: Any, prefix: str) -> str:
    """What two patterns have in common that fit the same paths; it ends as those paths do."""
    text = str(pattern.pattern)
    if isinstance(pattern.pattern, RegexPattern):
        anchored = _ANCHORED.fullmatch(text)
        if anchored is None:
            return f"mount {prefix}{text}"
        text = anchored[1]
        if not _ONE_TEXT.fullmatch(text):
            return f"regex {prefix}{text}"
        text = text[1:]
    return _CONVERTED.sub(lambda match: f"<{match[1] or 'str'}>", prefix + text)


def is_mount(pattern: URLPattern) -> bool:
    """Whether it may leave something of a path: a ``re_path`` without an end."""
    regex = pattern.pattern.regex.pattern
    return isinstance(pattern.pattern, RegexPattern) and not regex.endswith(("$", r"\Z", r"\z"))
