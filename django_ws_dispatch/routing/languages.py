"""In which language a path is looked for: a route may be translated, or begin with a language.

A page's path is matched in the language that Django's ``LocaleMiddleware`` has chosen. That of a
socket is matched before any middleware runs, and ``reverse()`` may have made it in another language
than the one that the handshake asks for: a page can be rendered in any.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import copy_context
from itertools import chain
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.urls.resolvers import LocalePrefixPattern, URLResolver
from django.utils import translation

from ..handshake.request import BadRequest, build_request
from ..typing import Scope
from .handlers import HandlerError
from .patterns import depends_on_language

__all__ = ["Languages", "in_language"]

T = TypeVar("T")

REMEDY = "Correct its translation: what it captures is the same in every language."


def in_language(language: str, function: Callable[..., T], *args: Any) -> T:
    """Return ``function(*args)`` as it is in a language, which is active in it and nowhere else."""
    context = copy_context()
    context.run(translation.activate, language)
    return context.run(function, *args)


class Languages:
    """What languages have to do with the routes of a site.

    Attributes:
        prefixed: whether ``i18n_patterns()`` is used, as ``LocaleMiddleware`` finds it.
    """

    def __init__(self, patterns: Sequence[Any]) -> None:
        behind = [one for one in patterns if isinstance(one.pattern, LocalePrefixPattern)]
        self.prefixed = bool(behind)
        self._default_prefixed = all(one.pattern.prefix_default_language for one in behind[:1])
        # Behind the prefix it is the path that says the language.
        self._free = list(_walk([one for one in patterns if one not in behind]))
        inside = (_walk(one.url_patterns, _text(one)) for one in behind)
        self._translated = [*self._free, *chain.from_iterable(inside)]
        self._distinct: list[str] | None = None

    def __bool__(self) -> bool:
        return self.prefixed or bool(self._translated)

    def of(self, scope: Scope, path: str) -> Iterator[str]:
        """Every language that a path, below the script prefix, is to be looked for in, the
        likeliest first.
        """
        if not settings.USE_I18N:
            return iter([settings.LANGUAGE_CODE])
        candidates = [self._chosen(scope), settings.LANGUAGE_CODE]
        head = path.lstrip("/").partition("/")[0]
        if self.prefixed and head in dict(settings.LANGUAGES):
            candidates.append(head)
        if self._free:
            if self._distinct is None:
                self.learn()
            candidates += self._distinct or ()
        return iter(dict.fromkeys(candidates))

    def _chosen(self, scope: Scope) -> str:
        """The language that ``LocaleMiddleware`` would choose."""
        try:
            request = build_request(scope)
        except BadRequest:
            return settings.LANGUAGE_CODE  # the check of Host and Origin says what is wrong
        if self.prefixed and not self._default_prefixed:
            return translation.get_language_from_path(request.path_info) or settings.LANGUAGE_CODE
        return translation.get_language_from_request(request, check_path=self.prefixed)

    def learn(self) -> list[tuple[str, HandlerError]]:
        """Read the routes in every language, and remember those in which they differ.

        The catalogs of all languages are loaded for that: not while sockets wait.

        Returns:
            The routes that are wrong in a language.
        """
        errors: list[tuple[str, HandlerError]] = []
        distinct: dict[tuple[str, ...], str] = {}
        default = settings.LANGUAGE_CODE
        captured = [in_language(default, _captured, pattern) for _, pattern in self._translated]
        for language, _ in settings.LANGUAGES if settings.USE_I18N and self._translated else ():
            distinct.setdefault(in_language(language, _texts, self._free), language)
            for (route, pattern), expected in zip(self._translated, captured, strict=True):
                problem = in_language(language, _problem, pattern, expected)
                if problem is not None:
                    problem = f"In the language {language!r} the route is {problem}"
                    errors.append((route, HandlerError(problem, REMEDY)))
        self._distinct = list(distinct.values())
        return errors


def _walk(patterns: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every pattern that depends on the language, with the text of its route."""
    for one in patterns:
        route = prefix + _text(one)
        if depends_on_language(one):
            yield route, one.pattern
        if isinstance(one, URLResolver):
            yield from _walk(one.url_patterns, route)


def _text(one: Any) -> str:
    # Where nothing is translated nothing of a language is loaded.
    if not depends_on_language(one):
        return str(one.pattern)
    return in_language(settings.LANGUAGE_CODE, str, one.pattern)


def _texts(patterns: Iterable[tuple[str, Any]]) -> tuple[str, ...]:
    return tuple(str(pattern) for _, pattern in patterns)


def _captured(pattern: Any) -> tuple[frozenset[str], int]:
    return frozenset(pattern.regex.groupindex), pattern.regex.groups


def _problem(pattern: Any, expected: tuple[frozenset[str], int]) -> str | None:
    try:
        captured = _captured(pattern)
    except (ImproperlyConfigured, re.error) as exc:
        return f"{str(pattern)!r}, which can not be compiled: {exc}."
    return None if captured == expected else f"{str(pattern)!r}, which captures something else."
