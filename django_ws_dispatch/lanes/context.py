"""``WEBSOCKET_SYNC_CONTEXT``: what is entered around each piece of a socket's sync work."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import Any, TypeVar, cast

from asgiref.sync import SyncToAsync

from ..conf import conf, import_function
from .databases import here

__all__ = ["load_sync_context", "within"]

_R = TypeVar("_R")

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
    if here.databases is not None:
        return here.databases.run_within(partial(function, websocket), call)
    with function(websocket):
        return call()
