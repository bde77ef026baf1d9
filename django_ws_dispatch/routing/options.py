"""What decorators set on a handler, and how it is read again.

A decorator is a call of ``decorated()`` in ``decorators.py`` that changes fields of ``Options``: a
new one needs no more than that, and a field where none says it yet.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial, update_wrapper
from types import FunctionType, MethodType
from typing import Any, TypeVar

from ..limits import Rate

__all__ = ["Applied", "Decorated", "Options", "decorated", "levels", "options_of"]

OPTIONS = "websocket_options"
# What adds up where a decorator is used twice. Of the others the outermost wins.
ADDED_UP = frozenset(("permissions", "tests", "connection_limits"))

H = TypeVar("H", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """One decorator on one handler: ``functools.wraps()`` copies it, and it counts once."""

    name: str
    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """What decorators have set on a handler."""

    asgi: bool = False
    needs_user: bool = False
    login: bool = False
    permissions: tuple[str, ...] = ()
    tests: tuple[Callable[[Any], Any], ...] = ()
    subprotocols: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] | None = None
    max_message_size: int | None = None
    rate_limit: Rate | None = None
    idle_timeout: float | None = None
    connection_limits: tuple[tuple[int, str], ...] = ()
    recheck_user: float | None = None
    applied: tuple[Applied, ...] = field(default=(), compare=False)
    """the decorators, each once, the outermost first"""


def options_of(handler: object) -> Options:
    """Return what decorators have set on a handler, and on whatever it calls in its turn."""
    applied = dict.fromkeys(one for level in levels(handler) for one in _applied_to(level))
    changes: dict[str, Any] = {}
    for one in reversed(applied):
        for name, value in one.changes.items():
            changes[name] = (*value, *changes.get(name, ())) if name in ADDED_UP else value
    return Options(applied=tuple(applied), **changes)


def levels(callback: Any) -> Iterator[Any]:
    """A callable, then what it calls: its ``__call__``, what it wraps or binds, and so on."""
    following, seen = [callback], 0
    while following and seen < 100:
        callback = following.pop()
        yield callback
        seen += 1
        if isinstance(callback, partial):
            following.append(callback.func)
            continue
        if (wrapped := getattr(callback, "__wrapped__", None)) is not None:
            following.append(wrapped)
        if callable(callback) and not (inspect.isroutine(callback) or inspect.isclass(callback)):
            following.append(callback.__call__)


def _applied_to(level: object) -> tuple[Applied, ...]:
    applied = getattr(level, OPTIONS, None)
    return applied if isinstance(applied, tuple) else ()


def decorated(handler: H, name: str, **changes: Any) -> H:
    """Return another handler that is like ``handler``, and has these options as well.

    Args:
        handler: of either form. It stays as it is.
        name: of the decorator, for people.
        changes: fields of ``Options``.

    Raises:
        TypeError: it is not callable.
    """
    if not callable(handler):
        raise TypeError(f"@{name} decorates a handler, not {handler!r}.")
    another: H = _another(handler, (Applied(name, changes), *_applied_to(handler)))
    return another


def _another(handler: Any, applied: tuple[Applied, ...]) -> Any:
    # Copies, where something can be copied that has no state: they are of the same kind without
    # more ado, cost nothing when they are called, and a method of a class is bound like any other.
    another: Any
    kind = type(handler)
    if kind is MethodType:
        return MethodType(_another(handler.__func__, applied), handler.__self__)
    if kind is FunctionType:
        another = FunctionType(
            handler.__code__,
            handler.__globals__,
            handler.__name__,
            handler.__defaults__,
            handler.__closure__,
        )
        another.__kwdefaults__ = handler.__kwdefaults__
        update_wrapper(another, handler)
    elif kind is partial:
        another = partial(handler.func, *handler.args, **handler.keywords)
        another.__dict__.update(handler.__dict__)
    elif issubclass(kind, type):
        names = ("__module__", "__qualname__", "__doc__", "__firstlineno__")
        space = {name: getattr(handler, name) for name in names if hasattr(handler, name)}
        another = kind(handler.__name__, (handler,), {**space, "__slots__": ()})
    else:
        return Decorated(handler, applied)
    setattr(another, OPTIONS, applied)
    return another


class Decorated:
    """An object with options of its own that is the object it stands for in all else."""

    __slots__ = ("__wrapped__", OPTIONS)

    _OWN = frozenset((*__slots__, "__reduce_ex__"))

    def __init__(self, handler: Any, applied: tuple[Applied, ...]) -> None:
        object.__setattr__(self, "__wrapped__", handler)
        object.__setattr__(self, OPTIONS, applied)

    def __getattribute__(self, name: str) -> Any:
        if name in Decorated._OWN:
            return object.__getattribute__(self, name)
        return getattr(self.__wrapped__, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__wrapped__, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """What some other decorator has made of a method is bound to its object."""
        if not hasattr(type(self.__wrapped__), "__get__"):
            return self
        return Decorated(self.__wrapped__.__get__(instance, owner), self.websocket_options)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A copy has the options too."""
        return Decorated, (self.__wrapped__, self.websocket_options)
