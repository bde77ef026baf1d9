"""Sync work of all sockets on a bounded set of threads: the lanes.

A handler calls asgiref's ``sync_to_async`` or the async ORM and knows nothing of this module. By
itself asgiref would send the work of all sockets to one thread, or, with a context per socket, open
a database connection for each. Here at most ``WEBSOCKET_SYNC_THREADS`` calls of the process run at
once, on as many connections. Between two reads a socket has a thread of its own, its lane, so that
all its sync code sees one thread, and nobody else's sync code does::

    task of a socket --sync_to_async--> LaneExecutor: whose task is this? (executors.py)
        --> Pool: whose turn is it? (pool.py, waiting.py)
        --> Lane: the thread of that socket, in a Slot with connections (lane.py, databases.py)
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any, Protocol, cast

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext

from . import executors
from .caretaker import Caretaker
from .executors import Block, PrivateBlock, load_sync_context
from .lane import Holder, Lane, LaneThread

__all__ = [
    "Holder",
    "Lane",
    "background",
    "enter",
    "has_thread",
    "is_off",
    "lane_for",
    "load_sync_context",
    "off",
    "private_lane",
    "release",
    "shutdown",
]

_off: contextvars.ContextVar[bool] = contextvars.ContextVar("lanes_off", default=False)


def enter(holder: Holder) -> None:
    """Send the sync work of the current context, and of tasks started in it, to a lane.

    Inside ``off()`` only ``WEBSOCKET_SYNC_CONTEXT`` is entered around it. Below ``async_to_sync``
    asgiref prefers the calling thread.
    """
    executors.current.set(holder)
    if _off.get():
        executors.enter_context_only(holder)
    else:
        SyncToAsync.thread_sensitive_context.set(executors.shared)


class HasLane(Protocol):
    """What ``release()`` wants to know of a holder."""

    lane: Lane | None


def release(holder: HasLane) -> None:
    """Give the holder's lane back; without one, do nothing.

    To be called at every read and, after setting ``lane_ended``, at the end. Work of the holder
    that is queued or running keeps the lane until it is done.
    """
    lane = holder.lane
    if lane is not None:
        lane.pool.release(lane)


def lane_for(websocket: Any, *, urgent: bool = False) -> contextlib.AbstractContextManager[None]:
    """Send the sync work of this block to a lane of its own, though it is not the handler's.

    Args:
        websocket: on whose behalf: its sync context is entered.
        urgent: others wait for it.
    """
    return _held_by(Block(websocket, urgent=urgent))


@contextlib.contextmanager
def private_lane() -> Iterator[None]:
    """Send the sync work of this block to a thread, and to connections, that end with it.

    For middleware: it has them to itself, as that of a page has. ``WEBSOCKET_SYNC_THREADS`` such
    blocks have them at once, from their first sync call on; others wait there, first come, first
    served. One inside another shares them: it would wait for what is held on its behalf.
    """
    around = executors.current.get()
    if isinstance(around, PrivateBlock) and not around.lane_ended:
        yield
        return
    with _held_by(PrivateBlock(urgent=True)):
        yield


@contextlib.contextmanager
def _held_by(block: Block) -> Iterator[None]:
    before = executors.current.get()
    enter(block)
    try:
        yield
    finally:
        block.lane_ended = True
        release(block)
        executors.current.set(before)


@contextlib.contextmanager
def off() -> Iterator[None]:
    """Use no lanes for what is entered in the current context: asgiref alone decides.

    For the test client: the transaction of a ``TestCase`` is seen in its own thread only.
    """
    was_off = _off.get()
    context = SyncToAsync.thread_sensitive_context
    entered = context.get(None) is executors.shared
    _off.set(True)
    if entered:
        context.set(cast(ThreadSensitiveContext, None))  # asgiref tests its truth
    try:
        yield
    finally:
        _off.set(was_off)
        if entered:
            context.set(executors.shared)


def is_off() -> bool:
    """Return whether the current context uses no lanes, because of ``off()``."""
    return _off.get()


def has_thread() -> bool:
    """Return whether sync work of the current context goes to a thread that is not everybody's: to
    a lane, to that of a request, or to that of whoever waits in ``async_to_sync()``.
    """
    if _off.get() or getattr(AsyncToSync.executors, "current", None) is not None:
        return True
    if asyncio.get_running_loop() in AsyncToSync.loop_thread_executors:
        return True
    context = SyncToAsync.thread_sensitive_context.get(None)
    if context is executors.shared:
        return executors.current.get() is not None
    return context is not None


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
    executors.executor.retire()
    for thread in threading.enumerate():
        if isinstance(thread, (LaneThread, Caretaker)) and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - monotonic()))
