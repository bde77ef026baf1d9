"""From what stands in ``WEBSOCKET_HANDLERS`` to one calling convention."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ..conf import conf
from ..handshake.request import split_path
from ..limits import Limits
from ..websockets import WebSocket
from ..websockets.raw import RawForm
from .options import Decorated, levels, options_of

__all__ = ["Handler", "HandlerError", "import_handler", "is_coroutine_function"]


class HandlerError(ImproperlyConfigured):
    """Something in ``WEBSOCKET_HANDLERS`` is no handler."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


def import_handler(path: str) -> Callable[..., Any]:
    """Return the handler at a dotted path, or raise ``HandlerError``."""
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

    __slots__ = ("callback", "given", "limits", "name", "options", "plain", "raw")

    def __init__(self, callback: Any) -> None:
        self.given = callback
        """what stands in the route, and is counted by ``connection_limit``"""
        self.options = options = options_of(callback)
        while type(callback) is Decorated:
            callback = callback.__wrapped__
        self.callback: Callable[..., Awaitable[None]] = callback
        self.name = name_of(callback)
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

    def run(
        self, socket: WebSocket, args: tuple[Any, ...], kwargs: dict[str, Any], rest: str | None
    ) -> Awaitable[None]:
        """Return what runs it. ``rest``: of the path, behind a route that mounts."""
        if self.raw:
            return self._run_raw(socket, args, kwargs, rest)
        return self.callback(socket, *args, **kwargs)

    async def _run_raw(
        self, socket: WebSocket, args: tuple[Any, ...], kwargs: dict[str, Any], rest: str | None
    ) -> None:
        scope = dict(socket.scope, url_route={"args": args, "kwargs": dict(kwargs)})
        if self.options.needs_user:
            scope["session"] = socket.session
            scope["user"] = await socket.auser()
        if rest is not None:
            # What matched belongs to the root_path, and the path stays whole (ASGI spec, "HTTP").
            scope["path"] = "".join(split_path(scope))
            matched = len(scope["path"]) - len(rest)
            scope["root_path"] = scope["path"][:matched].rstrip("/")
        form = RawForm(socket)
        await self.callback(scope, form.receive, form.send)

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
        """Raise ``HandlerError`` if it can not be called with what its route captures."""
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
    named = callback if hasattr(callback, "__qualname__") else callback.__class__
    return f"{named.__module__}.{named.__qualname__}"
