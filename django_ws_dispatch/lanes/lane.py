"""A lane: the thread that runs the sync work of one socket."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .databases import NOTHING, Databases
from .observer import User

if TYPE_CHECKING:
    from .pool import Pool

__all__ = ["Holder", "Lane", "LaneThread", "Slot"]

logger = logging.getLogger("django_ws_dispatch.lanes")

_R = TypeVar("_R")


class Holder(Protocol):
    """A socket, as the lanes see it. Hashable by identity.

    Attributes:
        lane: the lane held now; set by the lanes and, but for its first value ``None``, nowhere
            else.
        lane_ended: the handler is over; set it before the last ``release()``.
        lane_urgent: others wait for its calls: a handshake.
        lane_socket: whose ``WEBSOCKET_SYNC_CONTEXT`` is entered; ``None`` for nobody's.
        lane_client: whose it is: clients take turns.
        lane_user: the same, if it is known to be somebody who is logged in. The calls of one user
            leave a slot to the others.
        is_between_reads: the handler has read, and will again, so that it holds its lane until
            then, no matter how long. Another one loses it after a while without work.
        is_over: the client has left, or the socket is closed.
        path: for the log.
    """

    lane: Lane | None
    lane_ended: bool
    lane_urgent: bool

    @property
    def lane_socket(self) -> Any: ...
    @property
    def lane_client(self) -> Hashable: ...
    @property
    def lane_user(self) -> Hashable | None: ...
    @property
    def is_between_reads(self) -> bool: ...
    @property
    def is_over(self) -> bool: ...
    @property
    def path(self) -> str: ...


class Slot:
    """Runs one call at a time, and has the connections for it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.databases = Databases()
        self.lane: Lane | None = None  # whose call runs
        self.owner: Lane | None = None  # who has left something here: it is nobody else's
        self.since = 0.0  # when its call began, or the last one ended
        self.checked = False  # its connections are being looked after
        self.rested = True  # they were since the last call
        self.wanted: deque[Lane] = deque()  # whose cursors are here, and who wait for their turn
        self.wanted_first = True

    @property
    def is_idle(self) -> bool:
        return self.lane is None and not self.checked

    def is_free_for(self, lane: Lane | None) -> bool:
        """Whether a call of that lane, or of any, may run now."""
        return self.is_idle and (self.owner is None or self.owner is lane)


class LaneThread(threading.Thread):
    """The thread of a lane."""


class Lane:
    """The thread of one socket, from its first call to its next read.

    Its attributes belong to the pool, under its lock. It is not a ``ThreadPoolExecutor``: the
    interpreter waits for the running call of one before it exits.
    """

    def __init__(self, pool: Pool, holder: Holder) -> None:
        self.pool = pool
        self.holder = holder
        self.token = User()
        self.user: Hashable | None = None
        self.calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self.pending = 0  # calls queued or running
        self.leaving = False  # over as soon as nothing is pending
        self.waits = False  # for a slot
        self.slot = pool.extra  # where its call runs, or its last one ran: at first nowhere
        self.left = NOTHING  # there
        self.idle_since = 0.0
        self._kept: dict[str, Any] = {}
        self.thread: LaneThread | None = None  # before its first call runs
        # What its thread is to do next; ``None`` ends it.
        self.steps: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def run_call(self) -> None:
        """Have the thread run the next call. Not under the pool's lock: to start one waits."""
        self.steps.put(self._run_call)
        if self.thread is not None:
            return
        name = f"websocket-lane-{self.slot.number}"
        self.thread = LaneThread(target=self._run, name=name, daemon=True)
        try:
            # Free-threaded Python gives a new thread its starter's context: an empty one.
            contextvars.Context().run(self.thread.start)
        except RuntimeError as exc:  # no more threads are to be had
            self.thread = None
            self.steps.get()
            future, _ = self.calls.popleft()
            is_wanted = future.set_running_or_notify_cancel()
            self.pool.done(self, None)
            if is_wanted:
                future.set_exception(exc)

    # What follows runs on the lane's own thread.

    def _run(self) -> None:
        while (step := self.steps.get()) is not None:
            step()

    def _run_call(self) -> None:
        future, call = self.calls.popleft()
        if not future.set_running_or_notify_cancel():
            self.pool.done(self, None)
            return
        databases = self.slot.databases
        result: Any = None
        failure: BaseException | None = None
        try:
            databases.adopt(self._kept)
            self._kept = {}
            databases.begin(self.token)
            result = call()
        except BaseException as exc:  # the caller's to handle
            failure = exc
        left = _guarded(databases.end)
        if left is None or self.slot is self.pool.extra:
            databases.close()  # also where nobody knows what was left
            left = NOTHING
        # Before the result is set: who has it finds the books in order.
        self.pool.done(self, left)
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)
        # Or they would live until the next call: the traceback leads to this frame.
        del future, call, result, failure

    def give_back(self) -> None:
        kept = _guarded(self.slot.databases.discard)
        if kept is None or self.pool.is_private:
            self.slot.databases.close()
        self._kept = kept or {}
        self.pool.given_back(self)


def _guarded(step: Callable[[], _R]) -> _R | None:
    """Do what must not cost a socket its call."""
    try:
        return step()
    except Exception:
        logger.exception("Looking after the database connections of a websocket failed.")
        return None
