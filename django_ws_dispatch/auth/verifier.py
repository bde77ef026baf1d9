"""Looking again whether the users of open sockets are still in. It is never given up.

One look at a time for a socket, and a few at a time for all: another event meanwhile makes it look
again. What can not be said now, since the database or the broker is away, is asked again until it
can. And who seems to be out may only have been given another key for the session, by a page that is
not done yet: so such a look is repeated, and other processes are asked, before a socket is closed.
A question counts once this process has heard it itself: while its subscription is not back after an
outage of the broker, no answer would reach it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from math import inf
from time import monotonic
from typing import Any

from asgiref.sync import sync_to_async

from .. import lanes
from ..codes import CloseCode
from ..loops import back_off
from .sessions import reopen_session
from .users import Verdict, verify
from .watched import Socket, Watched

__all__ = ["Verifier"]

logger = logging.getLogger("django_ws_dispatch.connection")

# Looks under way at once.
AT_ONCE = 4
# Seconds before a look that failed is repeated, at first and at most.
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 5.0
# Seconds before a look is repeated that says "out" and may be wrong; after an outage of the broker
# others may still have to reach it, and to say what they could not: they are asked at each look.
DOUBT_SECONDS = 0.4
PATIENCE_SECONDS = 5.0
# Seconds that a page may take to save a session that it has given another key.
PAGE_SECONDS = 60.0


class Verifier:
    """The verifications of one event loop.

    Args:
        make_task: starts a task that is no socket's.
        ask_where: asks what has become of the session of a socket, and calls ``heard()`` when
            others have got the question; may raise if nobody can be asked.
    """

    def __init__(
        self,
        make_task: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
        ask_where: Callable[[Socket, Watched], Awaitable[None]],
    ) -> None:
        self._make_task = make_task
        self._ask_where = ask_where
        self._ready: dict[Socket, None] = {}
        self._looking: dict[Socket, asyncio.Task[None]] = {}
        self._again: set[Socket] = set()  # of those: once more
        self._timers: dict[Socket, asyncio.TimerHandle] = {}
        self._pauses: dict[Socket, Iterator[float]] = {}  # of those whose last look failed
        self._doubted: dict[Socket, float] = {}  # until when it may be in: inf before it is asked
        self._patient_until = 0.0
        self._failing = False

    def verify(self, socket: Socket) -> None:
        """Look at a socket's user as soon as possible, after a look that is under way."""
        if (timer := self._timers.pop(socket, None)) is not None:
            timer.cancel()
        if socket in self._looking:
            self._again.add(socket)
        else:
            self._ready[socket] = None
            self._start()

    def forget(self, socket: Socket) -> None:
        """A socket is over."""
        if (timer := self._timers.pop(socket, None)) is not None:
            timer.cancel()
        for known in (self._ready, self._pauses, self._doubted):
            known.pop(socket, None)
        self._again.discard(socket)

    def heard(self, socket: Socket) -> None:
        """Other processes were asked about a socket: who knows better says so now."""
        if self._doubted.get(socket) == inf:
            self._doubted[socket] = monotonic() + DOUBT_SECONDS

    def be_patient(self) -> None:
        """The broker was away: others may know what is still to be told."""
        self._patient_until = monotonic() + PATIENCE_SECONDS

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._ready.clear()
        self._again.clear()

    def _later(self, socket: Socket, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timers[socket] = loop.call_later(seconds, self.verify, socket)

    def _start(self) -> None:
        while self._ready and len(self._looking) < AT_ONCE:
            socket = next(iter(self._ready))
            del self._ready[socket]
            self._looking[socket] = self._make_task(self._look(socket))

    async def _look(self, socket: Socket) -> None:
        try:
            await self._look_at(socket)
        except Exception as exc:
            self._failed(socket, exc)
        else:
            self._pauses.pop(socket, None)
            self._succeeded()
        finally:
            del self._looking[socket]
            if socket in self._again:
                self._again.discard(socket)
                self.verify(socket)
            self._start()

    async def _look_at(self, socket: Socket) -> None:
        watched = socket.watched
        if watched is None or socket.is_over:
            self.forget(socket)
            return
        session = reopen_session(socket.session, watched.key) if watched.in_session else None
        with lanes.lane_for(socket, urgent=True):
            verdict = await sync_to_async(verify)(session, watched.in_session, watched.user)
        if socket.watched is not None and socket.watched.key != watched.key:
            self.verify(socket)  # that was of a key that it has no longer
        elif verdict is Verdict.IN:
            self._doubted.pop(socket, None)
            socket.watched = socket.watched and socket.watched.settled(watched.key)
        elif verdict is Verdict.OUT or not await self._is_doubtful(socket, watched):
            self._doubted.pop(socket, None)
            socket.kick(CloseCode.LOGGED_OUT, "no longer logged in")

    async def _is_doubtful(self, socket: Socket, watched: Watched) -> bool:
        """Whether who seems to be out has to be looked at again."""
        now, until = monotonic(), self._doubted.setdefault(socket, inf)
        # The page that has given it this key saves it at its end.
        if now >= max(until, self._patient_until, watched.key_since + PAGE_SECONDS):
            return False
        if until == inf or now < self._patient_until:
            await self._ask_where(socket, watched)
        self._later(socket, DOUBT_SECONDS)
        return True

    def _succeeded(self) -> None:
        if self._failing and not self._pauses:
            self._failing = False
            logger.warning("Users can be verified again.")
        for socket in list(self._pauses):
            self.verify(socket)

    def _failed(self, socket: Socket, exc: Exception) -> None:
        pauses = self._pauses.setdefault(socket, back_off(FIRST_PAUSE, LONGEST_PAUSE))
        self._later(socket, next(pauses))
        if not self._failing:
            self._failing = True
            logger.error(
                "The user of %s can not be verified. It is tried again until that is possible, as "
                "are others; until then their sockets stay open, and no other line says so.",
                socket.path,
                exc_info=exc,
                extra={"path": socket.path},
            )
