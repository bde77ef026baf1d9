"""Where asgiref sends sync work: to the lane of whoever holds the current context.

asgiref gives the work of a ``ThreadSensitiveContext`` to its executor. One of them is there for all
sockets: to enter one per socket costs 2 us, to set two context variables a tenth of that.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, suppress
from functools import cache, partial
from typing import Any, ParamSpec, TypeVar, cast

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext
from django.core.signals import setting_changed

from ..conf import conf, import_function
from .databases import here
from .lane import Holder, Lane
from .pool import Pool

__all__ = [
    "Block",
    "LaneExecutor",
    "PrivateBlock",
    "current",
    "enter_context_only",
    "executor",
    "load_sync_context",
    "shared",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")

SyncContext = Callable[[Any], AbstractContextManager[Any]]

current: contextvars.ContextVar[Holder | None] = contextvars.ContextVar("lane_holder", default=None)
"""whose sync work that of this context is"""


class Block:
    """A holder that is no socket: a block of code, perhaps on a socket's behalf."""

    lane: Lane | None = None
    lane_ended = False
    lane_user: Hashable | None = None
    is_between_reads = is_over = False

    def __init__(self, websocket: Any = None, *, urgent: bool = False) -> None:
        self.lane_socket = websocket
        self.lane_urgent = urgent

    @property
    def lane_client(self) -> Hashable:
        # What is urgent waits for nothing else of the same client.
        alone = self.lane_socket is None or self.lane_urgent
        return self if alone else self.lane_socket.lane_client

    @property
    def path(self) -> str:
        return "" if self.lane_socket is None else str(self.lane_socket.path)


class PrivateBlock(Block):
    """One whose lane has a thread and connections to itself for as long as it lasts."""

    is_between_reads = True


class LaneExecutor(Executor):
    """Runs a call in the lane of whoever holds the context in which it is made.

    Attributes:
        pools: that of private lanes (``True``), that of all others (``False``); each is made at its
            first call, since settings are read lazily.
    """

    def __init__(self) -> None:
        self.pools: dict[bool, Pool] = {}
        self._lock = threading.Lock()

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_R]:
        # asgiref calls this in the loop's thread, in the context of the task.
        holder = current.get()
        if holder is None:
            return SyncToAsync.single_thread_executor.submit(fn, *args, **kwargs)
        call = _within_context(holder, partial(fn, *args, **kwargs) if args or kwargs else fn)
        future: Future[_R] | None = None
        while future is None:  # until no change of the setting falls between
            future = self._pool_of(holder).submit(holder, call)
        return future

    def _pool_of(self, holder: Holder) -> Pool:
        if (lane := holder.lane) is not None:
            return lane.pool  # also one from before a change of the setting
        private = isinstance(holder, PrivateBlock)
        with self._lock:
            pool = self.pools.get(private)
            if pool is None:
                pool = self.pools[private] = Pool(conf.sync_threads, private=private)
        return pool

    def forget(self) -> None:
        """This process is a fork, which has none of its parent's threads."""
        self.pools, self._lock = {}, threading.Lock()

    def retire(self) -> None:
        with self._lock:
            pools, self.pools = self.pools, {}
        for pool in pools.values():
            pool.retire()


# WEBSOCKET_SYNC_CONTEXT: what is entered around each piece of a socket's sync work


@cache
def load_sync_context() -> SyncContext | None:
    """Return the function that ``WEBSOCKET_SYNC_CONTEXT`` names."""
    path = conf.sync_context
    if path is None:
        return None
    remedy = (
        "Write the dotted path of a function of the websocket that returns a context manager, such "
        "as one decorated with contextlib.contextmanager."
    )
    return cast("SyncContext", import_function("WEBSOCKET_SYNC_CONTEXT", path, remedy))


def _within_context(holder: Holder, call: Callable[[], _R]) -> Callable[[], _R]:
    """Return ``call`` such that its work is done inside the site's context manager.

    What asgiref has run in a thread enters the context variables of the task first, and calls the
    function last: around that one the context manager belongs, so that the variables that it sets
    are seen, too.
    """
    websocket, function = holder.lane_socket, load_sync_context()
    if websocket is None or function is None:  # what is nobody's, such as middleware, is outside
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


class _ContextExecutor(Executor):
    """Where there are no lanes: ``WEBSOCKET_SYNC_CONTEXT`` around calls that go elsewhere."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_R]:
        call: Any = partial(fn, *args, **kwargs) if args or kwargs else fn
        if (holder := current.get()) is not None:
            call = _within_context(holder, call)
        future: Future[_R] = self._executor.submit(call)
        return future

    def __getattr__(self, name: str) -> Any:
        # asgiref climbs from an executor of its own to the one around it.
        return getattr(self._executor, name)


def enter_context_only(holder: Holder) -> None:
    """Have ``WEBSOCKET_SYNC_CONTEXT`` entered around calls that asgiref sends where it likes."""
    if holder.lane_socket is None or load_sync_context() is None:
        return
    above = getattr(AsyncToSync.executors, "current", None)
    if above is not None:
        if not isinstance(above, _ContextExecutor):
            AsyncToSync.executors.current = _ContextExecutor(above)
        return
    context = SyncToAsync.thread_sensitive_context.get(None)
    around: Any = SyncToAsync.context_to_thread_executor.get(context) if context else None
    if not isinstance(around, _ContextExecutor):
        of_loop = AsyncToSync.loop_thread_executors.get(asyncio.get_running_loop())
        _enter_once(_ContextExecutor(around or of_loop or SyncToAsync.single_thread_executor))


def _enter_once(executor: Executor) -> ThreadSensitiveContext:
    # Never exited: asgiref refuses the work of tasks that outlive their context.
    context = ThreadSensitiveContext(executor=executor)
    with suppress(StopIteration):  # it awaits nothing, so it needs no loop
        context.__aenter__().send(None)  # type: ignore[no-untyped-call]
    return context


def _setting_changed(*, setting: str, **kwargs: Any) -> None:
    if setting in ("WEBSOCKET_SYNC_THREADS", "WEBSOCKET_SYNC_CONTEXT"):
        load_sync_context.cache_clear()
        executor.retire()


executor = LaneExecutor()
"""that of all sockets"""
shared = contextvars.Context().run(_enter_once, executor)
"""the context that sends work there"""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=executor.forget)
setting_changed.connect(_setting_changed, dispatch_uid="django_ws_dispatch.lanes")
