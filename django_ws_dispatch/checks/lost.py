"""Decorators that do not count: those of a handler that another one has inside.

A decorator counts where ``options.levels()`` finds it: on what stands in ``WEBSOCKET_HANDLERS``,
and below ``functools.wraps()`` and ``functools.partial``. What a handler calls in its body nobody
sees, so that ``login_required`` is lost behind a wrapper that does not say what it wraps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from ..inside import attributes, inside, walk
from ..routing.handlers import Handler, name_of
from ..routing.options import ADDED_UP, OPTIONS, Applied, Decorated, Options, levels

__all__ = ["Lost", "lost_decorators"]

# This package enforces what its own objects hold, and the settings lead to every handler there is.
_CLOSED = ("django_ws_dispatch", "django.conf")


class Lost(NamedTuple):
    """A handler inside another one, and its decorators that do not count, the outermost first."""

    name: str
    decorators: list[str]


def lost_decorators(handler: Handler) -> Iterator[Lost]:
    """Find what a handler closes over, holds, binds and inherits, whose decorators do not count.

    Nothing is evaluated. What the handler's own decorators do as well is not lost.
    """
    seen = {id(one) for one in [*handler.options.applied, *_beside(handler.callback)]}
    for part in walk(handler.callback, _parts):
        found = [one for one in _applied(part) if id(one) not in seen]
        seen.update(map(id, found))
        names = [one.name for one in found if not _is_done(one.changes, handler.options)]
        if names:
            yield Lost(_name(part), list(dict.fromkeys(names)))


def _beside(callback: Any) -> Iterator[Applied]:
    """The decorators of a ``__call__`` whose object has another method as this handler."""
    for level in levels(callback):
        if type(level) is MethodType and level.__name__ != "__call__":
            for cls in _classes(level.__self__):
                yield from _applied(cls.__dict__.get("__call__"))


def _applied(part: Any) -> Iterator[Applied]:
    """What decorators have been used on an object, or on its class."""
    if type(part) is Decorated:
        yield from part.websocket_options
    for space in (attributes(part), *(cls.__dict__ for cls in _classes(part))):
        options = space.get(OPTIONS)
        if type(options) is tuple:
            yield from options


def _classes(part: Any) -> tuple[type, ...]:
    kind = type(part)
    return part.__mro__ if issubclass(kind, type) else kind.__mro__


def _parts(part: Any) -> Iterator[Any]:
    """What is inside an object, and what its class has overridden."""
    if type(part) is Decorated:
        yield part.__wrapped__
        return
    if any(cls.__module__.startswith(_CLOSED) for cls in type(part).__mro__):
        return
    yield from inside(part)
    owner, name = part, "__call__"
    if type(part) is MethodType:
        owner, name = part.__self__, getattr(part.__func__, "__name__", name)
    for cls in _classes(owner):
        overridden = cls.__dict__.get(name)
        if type(overridden) in (FunctionType, classmethod, staticmethod):
            yield overridden


def _name(part: Any) -> str:
    while type(part) in (partial, Decorated):
        part = part.func if type(part) is partial else part.__wrapped__
    return name_of(part if issubclass(type(part), (FunctionType, type)) else type(part))


def _is_done(changes: Mapping[str, Any], options: Options) -> bool:
    """Whether a handler's own decorators do what another one would have done."""
    return all(
        # With asgi it is said how a handler is called. Of what does not add up the outermost wins.
        all(one in getattr(options, name) for one in value)
        if name in ADDED_UP
        else name == "asgi" or getattr(options, name)
        for name, value in changes.items()
    )
