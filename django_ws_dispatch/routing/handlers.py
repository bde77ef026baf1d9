"""From what stands in ``WEBSOCKET_HANDLERS`` to one calling convention."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ..conf import conf
from ..limits import Limits, Rate
from ..websockets import WebSocket
from ..websockets.raw import RawSocket

__all__ = [
    "Applied",
    "Handler",
    "HandlerError",
    "Options",
    "applied_to",
    "change_options",
    "import_handler",
    "is_coroutine_function",
    "options_of",
]

OPTIONS = "websocket_options"
# What adds up where a decorator is used twice. Of the others the outermost wins.
ADDED_UP = frozenset(("permissions", "tests", "connection_limits"))


@dataclass(frozen=True, slots=True)
class Options:
    """What decorators set on a handler."""

    asgi: bool = False
    user: bool = False
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
    names: tuple[str, ...] = field(default=(), compare=False)
    """the decorators, outermost first, for people"""

    @property
    def needs_user(self) -> bool:
        return bool(
            self.user
            or self.login
            or self.permissions
            or self.tests
            or self.recheck_user
            or any(per == "user" for _, per in self.connection_limits)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """One decorator on one handler: ``functools.wraps()`` copies it, and it counts once."""

    name: str
    changes: Mapping[str, Any]


def options_of(handler: object) -> Options:
    """Return what decorators have set on a handler, and on whatever it calls in its turn."""
    applied = applied_to(handler)
    changes: dict[str, Any] = {}
    for one in reversed(applied):
        for name, value in one.changes.items():
            changes[name] = (*value, *changes.get(name, ())) if name in ADDED_UP else value
    return Options(names=tuple(one.name for one in applied), **changes)


def applied_to(handler: object) -> dict[Applied, None]:
    """Return the decorators that count for a handler, each once, the outermost first."""
    applied: dict[Applied, None] = {}
    for level in levels(handler):
        applied |= dict.fromkeys(_applied(level))
    return applied


def _applied(level: object) -> tuple[Applied, ...]:
    applied = getattr(level, OPTIONS, None)
    return applied if isinstance(applied, tuple) else ()


def change_options(handler: Any, name: str, **changes: Any) -> None:
    """Set options on a handler, which stays the object that it is.

    Raises:
        TypeError: it is not callable, or takes no attributes.
    """
    if not callable(handler):
        raise TypeError(f"@{name} decorates a handler, not {handler!r}.")
    try:
        setattr(handler, OPTIONS, (Applied(name, changes), *_applied(handler)))
    except AttributeError as exc:
        raise TypeError(
            f"@{name} sets an option on the handler, and {handler!r} takes no attributes: "
            "decorate a function, or an object of a class without __slots__."
        ) from exc


class HandlerError(ImproperlyConfigured):
    """Something in ``WEBSOCKET_HANDLERS`` is no handler."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


def import_handler(path: str) -> Callable[..., Any]:
    """Return the handler at a dotted path.

    Raises:
        HandlerError: nothing can be imported from there.
    """
    try:
        if path.startswith("."):
            raise ImportError("a relative path has nothing to be relative to")
        handler = import_string(path)
    except ImportError as exc:
        raise HandlerError(
            f"The handler {path!r} can not be imported: {exc}.",
            'Write the dotted path of a coroutine function, as in "chat.sockets.room".',
        ) from exc
    return handler  # type: ignore[no-any-return]


class Handler:
    """A callable with its options and limits, however it wants to be called.

    Args:
        callback: a coroutine function ``(websocket, **kwargs)``, or a raw ASGI application
            ``(scope, receive, send)``.

    Raises:
        HandlerError: it is neither.
    """

    __slots__ = ("callback", "limits", "name", "options", "plain", "raw", "socket_class")

    def __init__(self, callback: Any) -> None:
        self.callback: Callable[..., Awaitable[None]] = callback
        self.name = name_of(callback)
        self.options = options = options_of(callback)
        self.raw = options.asgi or is_raw(callback)
        self._check()
        self.limits = Limits(
            options.max_message_size or conf.max_message_size,
            options.rate_limit or conf.rate_limit,
            options.idle_timeout or conf.idle_timeout,
            conf.outbox_size,
        )
        self.plain = not (options.needs_user or options.connection_limits)
        """the handshake asks for nothing but host and origin"""
        self.socket_class: type[WebSocket] = RawSocket if self.raw else WebSocket

    def _check(self) -> None:
        callback = self.callback
        if not callable(callback):
            raise HandlerError(
                f"{callback!r} is not a handler.",
                "Give a coroutine function, an ASGI application, or the dotted path of one.",
            )
        if inspect.isclass(callback) and not (self.raw and hasattr(callback, "__await__")):
            remedy = "an instance of it"
            if hasattr(callback, "as_asgi"):
                remedy = f"{callback.__name__}.as_asgi()"
            raise HandlerError(f"The handler {self.name} is a class.", f"Pass {remedy}.")
        for level in levels(callback):
            module = getattr(level, "__globals__", {}).get("__name__")
            if module == "django.contrib.auth.decorators":
                raise HandlerError(
                    f"The handler {self.name} is wrapped by a decorator of "
                    "django.contrib.auth.decorators, which calls it with a request.",
                    "Use the decorator of the same name from django_ws_dispatch.decorators.",
                )
        if self.options.asgi or inspect.isclass(callback) or is_coroutine_function(callback):
            return
        if getattr(callback, "__module__", None) == "django_ws_dispatch.decorators":
            raise HandlerError(
                f"The handler {self.name} is a decorator that was not given its argument.",
                "Write it with parentheses, as in @user_passes_test(is_member).",
            )
        if any(map(inspect.isasyncgenfunction, levels(callback))):
            raise HandlerError(
                f"The handler {self.name} is an async generator function: it yields.",
                "Take the yield out, and send with 'await websocket.send()'.",
            )
        raise HandlerError(
            f"The handler {self.name} is not a coroutine function.",
            "Write it with 'async def'; sync code in it is called through "
            "asgiref.sync.sync_to_async."
            + " An ASGI application that is a plain callable is marked with asgi_handler."
            * (self.raw or not inspect.isfunction(callback)),
        )

    def check_arguments(self, args: int, names: set[str]) -> None:
        """Check that it can be called with what its route captures.

        Raises:
            HandlerError: it can not.
        """
        if self.raw:
            return
        try:
            signature = inspect.signature(self.callback)
        except (TypeError, ValueError):
            return  # written in C: the first connection tells
        try:
            signature.bind(None, *(None,) * args, **dict.fromkeys(names))
        except TypeError as exc:
            captured = ", ".join([*["…"] * args, *sorted(names)])
            raise HandlerError(
                f"The handler {self.name}{signature} does not fit its route: {exc}.",
                f"It is called with (websocket{', ' + captured if captured else ''})."
                + " An ASGI application whose parameters are not named scope, receive, send is "
                "marked with asgi_handler." * may_be_raw(signature, names),
            ) from exc


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


def is_raw(callback: Any) -> bool:
    """Whether some level of it takes ``(scope, receive, send)`` first.

    Each level is asked for its own signature: Channels' ``as_asgi()`` wraps an application in the
    signature of a class.
    """
    for level in levels(callback):
        # An endpoint of Starlette is a class: its objects are awaited.
        if inspect.isclass(level) and not (level is callback and hasattr(level, "__await__")):
            continue
        try:
            names = list(inspect.signature(level, follow_wrapped=False).parameters)
        except (TypeError, ValueError):
            continue
        if names[:3] == ["scope", "receive", "send"]:
            return True
    return False


def may_be_raw(signature: inspect.Signature, names: set[str]) -> bool:
    """Whether it has the three parameters of an ASGI application, under names of its own."""
    parameters = signature.parameters.values()
    return (
        len(parameters) == 3
        and all(one.kind <= one.POSITIONAL_OR_KEYWORD for one in parameters)
        and all(one.default is one.empty for one in parameters)
        and signature.parameters.keys().isdisjoint({"websocket", *names})
    )


def is_coroutine_function(callback: Any) -> bool:
    """Whether calling it makes a coroutine: also a partial, and an object with ``__call__``."""
    while isinstance(callback, partial):
        callback = callback.func
    return iscoroutinefunction(callback) or iscoroutinefunction(
        getattr(callback, "__call__", None)  # noqa: B004
    )


def name_of(callback: Any) -> str:
    """Return the dotted name of a handler, for people."""
    while isinstance(callback, partial):
        callback = callback.func
    named = callback if hasattr(callback, "__qualname__") else type(callback)
    return f"{named.__module__}.{named.__qualname__}"
