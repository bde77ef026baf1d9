"""What is wrong with the routes, and what they have inside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.urls.resolvers import RegexPattern, URLResolver

from ..conf import conf
from ..handshake.allowed import load_allowed_origins, unsent
from ..routing.patterns import shape_of
from ..routing.routes import Routes
from .lost import lost_decorators
from .values import setting_error

__all__ = ["check_open_origins", "check_routes", "check_unsent_origins"]

# Said above in words of ours.
_OWN_WORDS = {"urls.W002", "urls.E009"}


def check_routes(said: set[str]) -> Iterator[CheckMessage]:
    """Check every route, but for problems that were said already."""
    try:
        routes = Routes(conf.handlers, strict=False)
        routes.learn_languages()
    except Exception as exc:
        problem = str(exc)
        if not isinstance(exc, ImproperlyConfigured):
            problem = f"WEBSOCKET_HANDLERS can not be read: {type(exc).__name__}: {exc}."
        if problem not in said:
            yield setting_error("handlers", problem)
        return
    for route in routes.routes:
        # A wrong limit is wrong for every route; once is enough.
        if route.error is not None and route.error.problem not in said:
            yield Error(
                route.error.problem,
                hint=route.error.remedy or "Correct this route of WEBSOCKET_HANDLERS.",
                obj=_obj(route.route),
                id="ws_dispatch.E002",
            )
    for route in routes.routes:
        if route.handler is not None:
            for name, decorators in lost_decorators(route.handler):
                yield Warning(
                    f"{route.handler.name} has {name} inside, whose decorators do not count here: "
                    f"{', '.join(decorators)}.",
                    hint=f"Decorate {route.handler.name} as well; where it is a wrapper, "
                    "functools.wraps() does it. Silence this check where it is meant so.",
                    obj=_obj(route.route),
                    id="ws_dispatch.W012",
                )
    patterns = list(_walk(routes.patterns, ""))
    yield from _check_slashes(patterns)
    yield from _check_twins(patterns)
    for _, pattern in patterns:
        checked = pattern.pattern if isinstance(pattern, URLResolver) else pattern
        yield from (message for message in checked.check() if message.id not in _OWN_WORDS)


def _obj(route: str) -> str:
    return f"WEBSOCKET_HANDLERS[{route!r}]"


def _walk(patterns: Iterable[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Every pattern, behind the text of those around it."""
    for pattern in patterns:
        yield prefix, pattern
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, prefix + str(pattern.pattern))


def _check_slashes(patterns: Iterable[tuple[str, Any]]) -> Iterator[Warning]:
    for prefix, pattern in patterns:
        text = str(pattern.pattern)
        slashes = ("/", "^/", "^\\/", "\\/") if isinstance(pattern.pattern, RegexPattern) else "/"
        if text.startswith(slashes) and (not prefix or prefix.endswith("/")):
            yield Warning(
                "The route begins with a slash, so that only a path with two of them fits it.",
                hint="Remove the slash: Django matches what follows the first one.",
                obj=_obj(prefix + text),
                id="ws_dispatch.W004",
            )


def _check_twins(patterns: Iterable[tuple[str, Any]]) -> Iterator[Warning]:
    found: dict[str, list[str]] = {}
    for prefix, pattern in patterns:
        if isinstance(pattern, URLResolver):
            continue
        route = prefix + str(pattern.pattern)
        shape = shape_of(pattern, prefix)
        if shape in found:
            yield Warning(
                f"The route fits the same paths as {found[shape][0]!r} above it, so that its "
                "handler is never called.",
                hint="Remove one of the two.",
                obj=_obj(route),
                id="ws_dispatch.W006",
            )
        found.setdefault(shape, []).append(route)
    for shape, routes in found.items():
        if shape.endswith("/") and shape[:-1] in found:
            yield Warning(
                f"The route looks like {found[shape[:-1]][0]!r}, which has no slash at its end: "
                "no redirect leads a WebSocket from one to the other.",
                hint="Give them the same handler, or other names.",
                obj=_obj(routes[0]),
                id="ws_dispatch.W005",
            )


def _allowed_origins() -> Iterator[tuple[str, Iterable[str], str | None]]:
    """Every list of origins that can be read, with its name, and its route where it has one."""
    with suppress(ImproperlyConfigured):  # said by check_settings
        yield "WEBSOCKET_ALLOWED_ORIGINS", load_allowed_origins() or (), None
    with suppress(Exception):  # said by check_routes
        for route in Routes(conf.handlers, strict=False).routes:
            if route.handler is not None:
                origins = route.handler.options.allowed_origins or ()
                yield "@allowed_origins()", origins, _obj(route.route)


def check_unsent_origins() -> Iterator[Warning]:
    """Look for origins that no browser sends."""
    for name, origins, obj in _allowed_origins():
        for origin in origins:
            if (remedy := unsent(origin)) is not None:
                text = f"{name} has {origin!r}, which no browser sends."
                hint = f"{remedy} Where a native client sends it as it is, silence this check."
                yield Warning(text, hint=hint, obj=obj, id="ws_dispatch.W010")


def check_open_origins() -> Iterator[Warning]:
    """Look for lists of origins that let anybody in."""
    hint = 'Name the origins: ["https://example.com", "https://*.example.com"].'
    for name, origins, obj in _allowed_origins():
        if "*" in origins:
            text = f'{name} has "*", which lets any page of any site open a WebSocket here with '
            text += "the cookies of its visitor."
            yield Warning(text, hint=hint, obj=obj, id="ws_dispatch.W007")
