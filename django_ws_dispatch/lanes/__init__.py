"""Sync work of all sockets on a bounded set of threads: the lanes.

A handler calls asgiref's ``sync_to_async`` or the async ORM and knows nothing of this module. By
itself asgiref would send the work of all sockets to one thread, or, with a context per socket, open
a database connection for each. Here at most ``WEBSOCKET_SYNC_THREADS`` calls of the process run at
once, on as many connections. Between two reads a socket has a thread of its own, its lane, so that
all its sync code sees one thread, and nobody else's sync code does::

    task of a socket --sync_to_async--> ThreadSensitiveContext (one for the process)
        --> _Router.submit: whose task is this? --> the lane of that socket (pool.py)

Entering a ``ThreadSensitiveContext`` per socket costs 2 us; two context variables a tenth of that.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from time import monotonic
from typing import Any, ParamSpec, TypeVar, cast

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext
from django.core.signals import setting_changed

from ..conf import conf
from .caretaker import Caretaker
from .context import Passing, executor_of_asgiref, is_apart, load_sync_context, within
from .lane import Holder, Lane, LaneThread
from .pool import Pool

__all__ = [
    "Holder",
    "Lane",
    "background",
    "enter",
    "lane_for",
    "load_sync_context",
    "off",
    "private_lane",
    "release",
    "shutdown",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def enter(holder: Holder) -> None:
    """Send the sync work of the current context, and of tasks started in it, to a lane.

    Inside ``off()`` only ``WEBSOCKET_SYNC_CONTEXT`` is entered around it. Below ``async_to_sync``
    asgiref prefers the calling thread.
    """
    if _off.get():
        _enter_nothing_but_context(holder)
        return
    SyncToAsync.thread_sensitive_context.set(_shared)
    _holder.set(holder)


def release(holder: Holder) -> None:
    """Give the holder's lane back; without one, do nothing.

    To be called at every read and, after setting ``lane_ended``, at the end. Work of the holder
    that is queued or running keeps the lane until it is done.
    """
    lane = holder.lane
    if lane is not None:
        lane.pool.release(lane)


@contextlib.contextmanager
def off() -> Iterator[None]:
    """Use no lanes for what is entered in the current context: asgiref alone decides.

    For the test client: the transaction of a ``TestCase`` is seen in its own thread only.
    """
    was_off = _off.get()
    context = SyncToAsync.thread_sensitive_context
    entered = context.get(None) is _shared
    _off.set(True)
    if entered:
        context.set(cast(ThreadSensitiveContext, None))  # asgiref tests its truth
    try:
        yield
    finally:
        _off.set(was_off)
        if entered:
            context.set(_shared)


class _Errand:
    """A holder that is no socket.

    Args:
        websocket: whose sync context is entered; ``None`` for none.
        urgent: others wait for it.
    """

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


class _Apart(_Errand):
    """One whose lane has a thread and connections to itself for as long as it lasts."""

    is_between_reads = True

    def __init__(self) -> None:
        super().__init__(urgent=True)


@contextlib.contextmanager
def lane_for(websocket: Any, *, urgent: bool = False) -> Iterator[None]:
    """Send the sync work of this block to a lane of its own, though it is not the handler's.

    Args:
        websocket: on whose behalf: its sync context is entered.
        urgent: others wait for it.
    """
    with _held_by(_Errand(websocket, urgent=urgent)):
        yield


@contextlib.contextmanager
def private_lane() -> Iterator[None]:
    """Send the sync work of this block to a thread, and to connections, that end with it.

    For middleware: it has them to itself, as that of a page has. ``WEBSOCKET_SYNC_THREADS`` such
    blocks have them at once, from their first sync call on; others wait there, first come, first
    served. One inside another shares them: it would wait for what is held on its behalf.
    """
    around = _holder.get()
    if not _off.get() and isinstance(around, _Apart) and not around.lane_ended:
        yield
        return
    with _held_by(_Apart()):
        yield


@contextlib.contextmanager
def _held_by(errand: _Errand) -> Iterator[None]:
    before, was_apart = _holder.get(), is_apart.get()
    is_apart.set(errand.lane_socket is None)
    enter(errand)
    try:
        yield
    finally:
        errand.lane_ended = True
        release(errand)
        _holder.set(before)
        is_apart.set(was_apart)


def background() -> contextvars.Context:
    """Return the context for what no socket does: an empty one, but inside ``off()`` the current.

    There sync work has to stay where the work of the test is.
    """
    return contextvars.copy_context() if _off.get() else contextvars.Context()


def shutdown(timeout: float = 5.0) -> None:
    """Let the lanes finish, close their connections, end their threads; later work gets new ones.

    A process that ends need not call it. A test does before it drops the database.

    Args:
        timeout: seconds to wait; a lane still held by then ends when it is given back.
    """
    deadline = monotonic() + timeout
    _router.retire()
    for thread in threading.enumerate():
        if isinstance(thread, (LaneThread, Caretaker)) and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - monotonic()))


class _Router(Executor):
    """Sends a call to the lane of the socket in whose task it is made."""

    def __init__(self) -> None:
        # Made at the first call: settings are read lazily.
        self._pool: Pool | None = None
        self._private: Pool | None = None  # of what is apart
        self._lock = threading.Lock()

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_R]:
        # asgiref calls this in the loop's thread, in the context of the task.
        holder = _holder.get()
        if holder is None:
            return SyncToAsync.single_thread_executor.submit(fn, *args, **kwargs)
        call: Any = fn if not args and not kwargs else partial(fn, *args, **kwargs)
        if holder.lane_socket is not None:
            call = within(holder.lane_socket, call)
        future: Future[_R] | None = None
        while future is None:  # until no change of the setting falls between
            future = self._pool_of(holder).submit(holder, call)
        return future

    def _pool_of(self, holder: Any) -> Pool:
        if (lane := holder.lane) is not None:
            # One from before a change of the setting stays where it is.
            return cast("Pool", lane.pool)
        private = isinstance(holder, _Apart)
        pool = self._private if private else self._pool
        if pool is None:
            with self._lock:
                if private:
                    pool = self._private = self._private or Pool(conf.sync_threads, private=True)
                else:
                    pool = self._pool = self._pool or Pool(conf.sync_threads)
        return pool

    def forget(self) -> None:
        """This process is a fork, which has none of its parent's threads."""
        self._pool, self._private, self._lock = None, None, threading.Lock()

    def retire(self) -> None:
        """Use new lanes from now on."""
        with self._lock:
            pools = self._pool, self._private
            self._pool = self._private = None
        for pool in pools:
            if pool is not None:
                pool.retire()


def _setting_changed(*, setting: str, **kwargs: Any) -> None:
    if setting in ("WEBSOCKET_SYNC_THREADS", "WEBSOCKET_SYNC_CONTEXT"):
        _router.retire()


def _enter_once(executor: Executor) -> ThreadSensitiveContext:
    # Never exited: asgiref refuses the work of tasks that outlive their context.
    context = ThreadSensitiveContext(executor=executor)
    with contextlib.suppress(StopIteration):  # it awaits nothing, so it needs no loop
        context.__aenter__().send(None)  # type: ignore[no-untyped-call]
    return context


def _enter_nothing_but_context(holder: Any) -> None:
    if holder.lane_socket is None or load_sync_context() is None:
        return
    current = getattr(AsyncToSync.executors, "current", None)
    executor = executor_of_asgiref(asyncio.get_running_loop()) if current is None else current
    if isinstance(executor, Passing) and executor.websocket is holder.lane_socket:
        return
    if current is None:
        _enter_once(Passing(executor, holder.lane_socket))
    else:
        AsyncToSync.executors.current = Passing(executor, holder.lane_socket)


_off: contextvars.ContextVar[bool] = contextvars.ContextVar("lanes_off", default=False)
_holder: contextvars.ContextVar[Any] = contextvars.ContextVar("lane_holder", default=None)
_router = _Router()
_shared = contextvars.Context().run(_enter_once, _router)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_router.forget)
setting_changed.connect(_setting_changed)
