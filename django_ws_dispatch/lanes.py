"""Sync work of all sockets on a fixed set of threads: the lanes.

A handler calls asgiref's ``sync_to_async`` or the async ORM and knows nothing of this module. By
itself asgiref would send the work of all sockets to one thread, or, with a context per socket,
open a thread and a database connection for each. Here ``WEBSOCKET_SYNC_THREADS`` daemon threads
serve all sockets of the process. A socket takes the least busy lane at its first sync call and
holds it until its next read or its end, so that in between all its sync code sees one thread::

    task of a socket --sync_to_async--> ThreadSensitiveContext (one for the process)
        --> _Router.submit: whose task is this? --> the lane that this socket holds

Entering a ``ThreadSensitiveContext`` per socket costs 2 us; two context variables a tenth of that.

A transaction belongs into one sync call: between two calls of a socket its lane serves others.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import select
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.core.signals import setting_changed
from django.db import connections

from .conf import conf

__all__ = ["Holder", "Lane", "background", "enter", "errand", "off", "release", "shutdown"]

logger = logging.getLogger("django_ws_dispatch.lanes")

# Seconds without work after which a socket that never reads loses its lane.
HOLD_IDLE_SECONDS = 10.0
# Seconds after the end of the last hold at which the lane's connections are checked and closed.
CHECK_AFTER_SECONDS = 1.0

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Holder(Protocol):
    """A socket, as the lanes see it. Hashable by identity.

    Attributes:
        lane: the lane held now; set here and, but for its first value ``None``, nowhere else.
        lane_ended: the handler is over; set it before the last ``release()``.
        is_between_reads: the handler has read, and will again, so that it holds its lane until
            then, no matter how long. Another one loses it after ``HOLD_IDLE_SECONDS``.
    """

    lane: Lane | None
    lane_ended: bool

    @property
    def is_between_reads(self) -> bool: ...


def enter(holder: Holder) -> None:
    """Send the sync work of the current context, and of tasks started in it, to a lane.

    Does nothing inside ``off()``. Below ``async_to_sync`` asgiref prefers the calling thread.
    """
    if _off.get():
        return
    SyncToAsync.thread_sensitive_context.set(_shared)
    _holder.set(holder)


def release(holder: Holder) -> None:
    """Give the holder's lane back; without one, do nothing.

    To be called at every read and, after setting ``lane_ended``, at the end. Work of the holder
    that is queued or running keeps the lane until it is done.
    """
    with _lock:
        lane = holder.lane
        if lane is not None:
            hold = lane.holds[holder]
            if hold.pending:
                hold.leaving = True
            else:
                lane.end(hold)


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
    """A holder that is no socket."""

    lane: Lane | None = None
    lane_ended = False
    is_between_reads = False


@contextlib.contextmanager
def errand() -> Iterator[None]:
    """Send the sync work of this block to a lane, though no socket does it."""
    holder = _Errand()
    enter(holder)
    try:
        yield
    finally:
        holder.lane_ended = True
        release(holder)


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
    for thread in _router.retire():
        thread.join(max(0.0, deadline - monotonic()))


class _Hold:
    """That one socket holds one lane."""

    __slots__ = ("holder", "idle_since", "leaving", "pending")

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        self.pending = 0  # calls queued or running
        self.leaving = False  # over as soon as nothing is pending
        self.idle_since = 0.0


class Lane:
    """One thread, started at the first call, that runs what it is given in that order.

    ``holds``, ``pending`` and ``retired`` belong to whoever has ``_lock``. It is not a
    ``ThreadPoolExecutor``: the interpreter waits for the running call of one before it exits.
    """

    def __init__(self, number: int) -> None:
        self.holds: dict[Holder, _Hold] = {}
        self.pending = 0
        self.retired = False
        self.thread: threading.Thread | None = None
        self._number = number
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any], _Hold] | None]
        self._queue = SimpleQueue()
        self._unheld_since = 0.0
        self._fresh = False  # a first hold began, its first call is still to come

    def submit(self, holder: Holder, call: Callable[[], _R]) -> Future[_R]:
        if self.thread is None:
            thread = threading.Thread(
                target=self._run, name=f"websocket-lane-{self._number}", daemon=True
            )
            # Free-threaded Python gives a new thread its starter's context: an empty one.
            contextvars.Context().run(thread.start)
            self.thread = thread
        hold = self.holds.get(holder)
        if hold is None:
            self._fresh = self._fresh or not self.holds
            hold = self.holds[holder] = _Hold(holder)
            holder.lane = self
        hold.leaving = False
        hold.pending += 1
        self.pending += 1
        future: Future[_R] = Future()
        self._queue.put((future, call, hold))
        return future

    def end(self, hold: _Hold) -> None:
        del self.holds[hold.holder]
        hold.holder.lane = None
        if not self.holds:
            self._unheld_since = monotonic()
            if self.retired:
                self._queue.put(None)

    def retire(self) -> None:
        self.retired = True
        self._queue.put(None)

    # What follows runs on the lane's own thread.

    def _run(self) -> None:
        # To wake once a second while the lane is held costs less than to be woken by each read.
        due: float | None = None  # when to look after holds and connections
        while True:
            with contextlib.suppress(Empty):
                work = self._queue.get(timeout=None if due is None else max(0.0, due - monotonic()))
                if work is not None:
                    self._do(*work)
                    del work  # or the result would live until the next call
                    due = due or monotonic() + CHECK_AFTER_SECONDS
            if self.retired and not self.holds:
                connections.close_all()
                return
            if due is not None and monotonic() >= due:
                due = self._look_after()

    def _do(self, future: Future[Any], call: Callable[[], Any], hold: _Hold) -> None:
        if not future.set_running_or_notify_cancel():
            self._done(hold)
            return
        try:
            fresh, self._fresh = self._fresh, False
            self._check_connections(fresh=fresh)
            result = call()
        except BaseException as exc:  # the caller's to handle
            self._done(hold)
            future.set_exception(exc)
            del future  # the exception's traceback leads to this frame
        else:
            self._done(hold)
            future.set_result(result)

    def _done(self, hold: _Hold) -> None:
        # Before the result is set: who has it finds the books in order.
        with _lock:
            self.pending -= 1
            hold.pending -= 1
            if not hold.pending:
                hold.idle_since = monotonic()
                if hold.leaving:
                    self.end(hold)

    def _look_after(self) -> float | None:
        """End holds that lapsed, check connections if nobody holds the lane; return when next."""
        with _lock:
            now = monotonic()
            for hold in list(self.holds.values()):
                idle = not hold.pending and not hold.holder.is_between_reads
                if idle and now - hold.idle_since >= HOLD_IDLE_SECONDS:
                    self.end(hold)
            if self.holds:
                return now + CHECK_AFTER_SECONDS
            due = self._unheld_since + CHECK_AFTER_SECONDS
            if now < due:
                return due
        self._check_connections(fresh=True, working=False)  # a first call would queue behind this
        return None

    def _check_connections(self, *, fresh: bool, working: bool = True) -> None:
        """Close connections that are unusable or too old, and drop those that the database dropped.

        The first is done where nobody holds the lane: a cursor may be open. But a lost connection
        has no cursor left to break, so the second is done before every call, whoever holds the
        lane, for the price of a ``poll()``; then nobody notices that the database was restarted.
        The round trip of ``is_usable()`` is paid where that, or an error, raised suspicion, and by
        the first hold on a lane at rest: a network can lose a connection without a word.

        ``fresh``: nobody holds the lane, or a first hold begins. ``working``: a call is about to
        run; with ``CONN_MAX_AGE = 0`` to count here, each message would get its own connection.
        """
        rested = fresh and monotonic() - self._unheld_since >= CHECK_AFTER_SECONDS
        try:
            for connection in connections.all(initialized_only=True):
                if connection.connection is None or connection.in_atomic_block:
                    continue  # a transaction is never touched
                if fresh and not (working and connection.settings_dict["CONN_MAX_AGE"] == 0):
                    connection.close_if_unusable_or_obsolete()
                # Outside autocommit the caller has to learn that a transaction is lost.
                if not working or connection.connection is None or not connection.autocommit:
                    continue
                if rested or connection.errors_occurred or _has_unread_data(connection):
                    connection.errors_occurred = False
                    if not connection.is_usable():
                        connection.close()
        except Exception:
            logger.exception("Checking the database connections of a websocket lane failed.")


def _has_unread_data(connection: Any) -> bool:
    """Tell whether the database said something unasked: most often, that it is gone.

    ``False`` where the driver has no ``fileno()`` (SQLite, Oracle).
    """
    try:
        descriptor = connection.connection.fileno()
    except AttributeError:
        return False
    except Exception:  # each driver has its own for "closed"
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([descriptor], [], [], 0)[0])


class _Router(Executor):
    """Sends a call to the lane of the socket in whose task it is made."""

    def __init__(self) -> None:
        self._lanes: list[Lane] = []  # made at the first call: settings are read lazily
        self._ending: list[threading.Thread] = []

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_R]:
        # asgiref calls this in the loop's thread, in the context of the task.
        holder = _holder.get()
        if holder is None or holder.lane_ended:
            # A task that outlived its handler: where asgiref sends sync work without a context.
            return SyncToAsync.single_thread_executor.submit(fn, *args, **kwargs)
        with _lock:
            lane = holder.lane
            if lane is None:
                if not self._lanes:
                    self._lanes = [Lane(number) for number in range(conf.sync_threads)]
                # Work before holds: a lane with one blocked call is busier than one with two
                # sockets that wait for something else.
                lane = min(self._lanes, key=lambda lane: (lane.pending, len(lane.holds)))
            return lane.submit(holder, partial(fn, *args, **kwargs))

    def retire(self) -> list[threading.Thread]:
        """Use new lanes from now on; return the threads of old ones that have not ended."""
        with _lock:
            lanes, self._lanes = self._lanes, []
            for lane in lanes:
                lane.retire()
            threads = self._ending + [lane.thread for lane in lanes if lane.thread is not None]
            self._ending = [thread for thread in threads if thread.is_alive()]
            return self._ending


def _setting_changed(*, setting: str, **kwargs: Any) -> None:
    if setting == "WEBSOCKET_SYNC_THREADS":
        _router.retire()


def _enter_once(executor: Executor) -> ThreadSensitiveContext:
    # Never exited: asgiref refuses the work of tasks that outlive their context.
    context = ThreadSensitiveContext(executor=executor)
    with contextlib.suppress(StopIteration):  # it awaits nothing, so it needs no loop
        context.__aenter__().send(None)  # type: ignore[no-untyped-call]
    return context


_lock = threading.Lock()
_off: contextvars.ContextVar[bool] = contextvars.ContextVar("lanes_off", default=False)
_holder: contextvars.ContextVar[Holder | None] = contextvars.ContextVar("lane_holder", default=None)
_router = _Router()
_shared = contextvars.Context().run(_enter_once, _router)
setting_changed.connect(_setting_changed)
