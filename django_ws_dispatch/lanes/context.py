"""``WEBSOCKET_SYNC_CONTEXT``: what is entered around each piece of a socket's sync work."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, ParamSpec, TypeVar, cast

from asgiref.sync import AsyncToSync, SyncToAsync
from django.core.signals import setting_changed

from ..conf import conf, import_function
from .databases import here

__all__ = ["Passing", "executor_of_asgiref", "is_apart", "load_sync_context", "within"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Where there are no lanes: whether it is middleware that runs, whose work is not the socket's yet.
is_apart: ContextVar[bool] = ContextVar("lanes_apart", default=False)

SyncContext = Callable[[Any], AbstractContextManager[Any]]


@cache
def load_sync_context() -> SyncContext | None:
    """Return the function that ``WEBSOCKET_SYNC_CONTEXT`` names.

    Raises:
        ImproperlyConfigured: it can not be imported, or is no function.
    """
    path = conf.sync_context
    if path is None:
        return None
    remedy = (
        "Write the dotted path of a function of the websocket that returns a context manager, such "
        "as one decorated with contextlib.contextmanager."
    )
    return cast("SyncContext", import_function("WEBSOCKET_SYNC_CONTEXT", path, remedy))


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "WEBSOCKET_SYNC_CONTEXT":
        load_sync_context.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_ws_dispatch.lanes.context")


def within(websocket: Any, call: Callable[[], _R]) -> Callable[[], _R]:
    """Return ``call`` such that its work is done inside the site's context manager.

    What asgiref has run in a thread enters the context variables of the task first, and calls the
    function last: around that one the context manager belongs, so that the variables that it sets
    are seen, too.
    """
    function = load_sync_context()
    if function is None:
        return call
    if isinstance(call, partial) and call.args and callable(call.args[-1]):
        handler = getattr(call.func, "__func__", None)
        if handler is SyncToAsync.thread_handler:
            *before, child = call.args
            inner = partial(_enter, function, websocket, child)
            return partial(call.func, *before, inner, **call.keywords)
    return partial(_enter, function, websocket, call)


def _enter(function: SyncContext, websocket: Any, call: Callable[[], _R]) -> _R:
    databases = here()
    if databases is None:
        with function(websocket):
            return call()
    entered = False
    try:
        while not entered:
            databases.entering()
            with function(websocket):
                entered = databases.entered()
                if entered:
                    try:
                        return call()
                    finally:
                        databases.leaving()
    finally:
        databases.left()
    return cast("_R", None)  # it has suppressed what the call raised


class Passing(Executor):
    """Passes calls on to another executor, inside the site's context manager but for middleware.

    Args:
        executor: where asgiref would have sent them.
        websocket: whose they are.
    """

    def __init__(self, executor: Any, websocket: Any) -> None:
        self._executor = executor
        self.websocket = websocket

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_R]:
        """See ``concurrent.futures.Executor``."""
        call: Any = fn if not args and not kwargs else partial(fn, *args, **kwargs)
        if not is_apart.get():
            call = within(self.websocket, call)
        future: Future[_R] = self._executor.submit(call)
        return future

    def __getattr__(self, name: str) -> Any:
        # asgiref climbs from an executor of its own to the one around it.
        return getattr(self._executor, name)


def executor_of_asgiref(loop: Any) -> Any:
    """Return where asgiref sends sync work of this context when there are no lanes."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    executors = AsyncToSync.loop_thread_executors
    return (
        SyncToAsync.context_to_thread_executor.get(context) if context else None
    ) or executors.get(loop, SyncToAsync.single_thread_executor)
