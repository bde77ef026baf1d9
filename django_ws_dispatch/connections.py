"""Every open socket of this process: the sweep, counts, and closing from elsewhere.

One ``Connections`` for each event loop; a process has one, but for tests.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import cycle
from time import monotonic
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.base import SessionBase

from . import control, groups, lanes, servers
from .brokers import get_broker
from .codes import CloseCode
from .control import EVERYBODY
from .exceptions import BrokerError
from .handshake.user import (
    aload_nobody,
    aload_user,
    logged_out,
    reopen_session,
    session_token,
)
from .limits import ConnectionCount
from .opening import Watched
from .protocol import CANCEL_AGAIN, STOP_GRACE
from .websockets import WebSocket

__all__ = ["Connections", "aclose", "close_session", "count", "local", "recheck_user"]

logger = logging.getLogger("django_ws_dispatch.connection")

# Seconds between two sweeps.
INTERVAL = 0.25
# One sweep in so many looks at every transport.
CLOSE_LOOK = 16

NOBODY = Watched(None, None, None)

_loops: dict[asyncio.AbstractEventLoop, Connections] = {}
counts = ConnectionCount()
"""per handler and per user, in this process"""


def local() -> Connections:
    """Return the sockets of the running event loop."""
    loop = asyncio.get_running_loop()
    connections = _loops.get(loop)
    if connections is None:
        for other in [other for other in _loops if other.is_closed()]:
            del _loops[other]
        connections = _loops[loop] = Connections(loop)
    return connections


def count() -> int:
    """Return how many sockets are open in this process."""
    return sum(len(connections.sockets) for connections in list(_loops.values()))


async def aclose() -> None:
    """Release what is held for the running event loop, once its last socket is closed.

    A server's process need not. A test does: the next one has another loop.
    """
    connections = _loops.pop(asyncio.get_running_loop(), None)
    if connections is not None:
        await connections.aclose()


class Connections:
    """The open sockets of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._context = lanes.background()
        self.sockets: dict[WebSocket, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._turns = cycle(range(CLOSE_LOOK))
        self._lag_watch: servers.LagWatch | None = None
        self._by_session: dict[str, dict[WebSocket, None]] = {}
        self._by_user: dict[str, dict[WebSocket, None]] = {}
        self._rechecks: dict[WebSocket, tuple[float, float]] = {}
        self._resolving: dict[int, set[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wired: asyncio.Task[None] | None = None

    def add(self, socket: WebSocket) -> None:
        socket.home = self
        self.sockets[socket] = None
        if self._timer is None:
            self._timer = self.loop.call_later(INTERVAL, self._sweep)
            if settings.DEBUG:
                self._lag_watch = servers.LagWatch(self.loop, self._blame)
                self._lag_watch.start()

    def remove(self, socket: WebSocket) -> None:
        self.sockets.pop(socket, None)
        if socket.watched is not None:
            self._unwatch(socket)
            self._rechecks.pop(socket, None)

    def _sweep(self) -> None:
        now = monotonic()
        if self.sockets and next(iter(self.sockets)).server_stops:
            for socket in list(self.sockets):
                socket.stop()
        closely = next(self._turns) == 0
        for socket in list(self.sockets):
            try:
                socket.check(now, closely=closely)
            except Exception:  # The others must not pay for it.
                logger.exception("Looking after %s failed", socket.path)
        for socket, (at, every) in list(self._rechecks.items()):
            if now >= at:
                self._rechecks[socket] = (now + every, every)
                self._verify([socket])
        self._timer = self.loop.call_later(INTERVAL, self._sweep) if self.sockets else None
        if self._timer is None:
            self._end_lag_watch()

    def _blame(self, task: asyncio.Task[Any], where: str) -> None:
        for socket in list(self.sockets):
            if socket.runs_in(task):
                logger.warning(
                    "The handler of %s blocks the event loop, at %s: every socket of this process "
                    "waits. Call what blocks with sync_to_async().",
                    socket.path,
                    where,
                    extra={"path": socket.path},
                )

    def _end_lag_watch(self) -> None:
        if self._lag_watch is not None:
            self._lag_watch.over.set()
            self._lag_watch = None

    async def stop(self) -> None:
        """The server has stopped, and not waited for its sockets: see their handlers out."""
        tasks = [task for socket in list(self.sockets) if (task := socket.stop(gone=True))]
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_GRACE + CANCEL_AGAIN)

    async def aclose(self) -> None:
        """Look after nobody any more."""
        self._end_lag_watch()
        if self._timer is not None:
            self._timer.cancel()
        tasks = [*self._tasks, *([] if self._wired is None else [self._wired])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # Whose socket it is

    async def resolve_user(self, socket: WebSocket, load: Callable[[], Awaitable[Any]]) -> Any:
        """Load the user of a socket, such that no logout and no change falls between."""
        await asyncio.shield(self.hear())
        from_session = socket.request.user_from_session
        changed: set[str] = set()
        self._resolving[id(changed)] = changed
        try:
            if from_session:
                # What was read before this socket is known here may be out of date.
                if hasattr(socket.session, "_session_cache"):
                    load = partial(aload_user, reopen_session(socket.session))
                if self._watch_session(socket) in logged_out:
                    load = aload_nobody
            while True:
                changed.clear()
                user = in_session = await load()
                if not from_session:
                    in_session = await self._user_in_session(socket)
                    if (socket.watched or NOBODY).session in logged_out:
                        user = in_session = await aload_nobody()
                pks = self._watch_users(socket, user, in_session)
                if not changed & {EVERYBODY, *pks}:
                    return user
        finally:
            del self._resolving[id(changed)]

    async def _user_in_session(self, socket: WebSocket) -> Any:
        """Whom the session says it is, where a middleware has said who the user is.

        It may have asked the session, or not: who logs out there is no longer who was let in.
        """
        if not (socket.request.has_session and apps.is_installed("django.contrib.auth")):
            return None
        session: object = socket.session
        if not isinstance(session, SessionBase):
            return None  # a middleware's own
        self._watch_session(socket)
        return await aload_user(reopen_session(socket.session))

    def hear(self) -> asyncio.Task[None]:
        """Hear of logouts and changes elsewhere. Return the task that is done once it does."""
        if self._wired is None:
            self._wired = self.loop.create_task(self._listen(), context=self._context.copy())
        return self._wired

    async def _listen(self) -> None:
        registry = groups.local()
        registry.control = self.control
        registry.on_reconnect = self.verify_all
        try:
            await registry.listen_control()
        except BrokerError as exc:
            # It reconnects by itself, and every user is verified then.
            logger.error("Logouts elsewhere are not heard of: %s", exc)

    def _watch_session(self, socket: WebSocket) -> str:
        key = socket.session.session_key
        token = session_token(key) if key else None
        _, *pks = socket.watched or NOBODY
        self._watch(socket, Watched(token, *pks))
        return token or ""

    def _watch_users(self, socket: WebSocket, user: Any, in_session: Any) -> set[str]:
        token, *_ = socket.watched or NOBODY
        pks = [
            None if (pk := getattr(one, "pk", None)) is None else str(pk)
            for one in (user, in_session)
        ]
        self._watch(socket, Watched(token, *pks))
        return {pk for pk in pks if pk is not None}

    def _watch(self, socket: WebSocket, watched: Watched) -> None:
        self._unwatch(socket)
        if socket not in self.sockets:
            return  # a task has outlived its handler
        socket.watched = watched
        for index, key in self._entries(watched):
            index.setdefault(key, {})[socket] = None

    def _unwatch(self, socket: WebSocket) -> None:
        for index, key in self._entries(socket.watched or NOBODY):
            if key in index:
                index[key].pop(socket, None)
                if not index[key]:
                    del index[key]
        socket.watched = None

    def _entries(self, watched: Watched) -> list[tuple[dict[str, dict[WebSocket, None]], str]]:
        entries = [(self._by_session, watched.session)]
        entries += [(self._by_user, pk) for pk in {watched.user, watched.in_session}]
        return [(index, key) for index, key in entries if key is not None]

    def recheck(self, socket: WebSocket, every: float) -> None:
        """Verify the user of a socket every so many seconds."""
        self._rechecks[socket] = (monotonic() + every, every)

    def control(self, payload: bytes) -> None:
        """Take a control message of any process."""
        message = control.decode(payload)
        if message is None or message.get("from") == control.sender():
            return  # nobody's, or heard already, without the broker
        token: Any = message.get("session")
        pk: Any = message.get("user")
        if pk == EVERYBODY:
            # What a process could not say at the time.
            self.verify_all()
            return
        self._note(pk)
        if isinstance(token, str):
            logged_out.add(token)
        for socket in list(self._by_session.get(token, ())):
            socket.kick(CloseCode.LOGGED_OUT, "logged out")
        self._verify(list(self._by_user.get(pk, ())))

    def _note(self, pk: str | None) -> None:
        for changed in self._resolving.values():
            if pk is not None:
                changed.add(pk)

    def verify_all(self) -> None:
        """A logout may have been missed: verify every user."""
        self._note(EVERYBODY)
        known = dict.fromkeys(one for sockets in self._by_user.values() for one in sockets)
        self._verify(list(known))

    def _verify(self, sockets: list[WebSocket]) -> None:
        for socket in sockets:
            # Of nobody's context: this is the sync work of no socket.
            task = self.loop.create_task(self._verify_one(socket), context=self._context.copy())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _verify_one(self, socket: WebSocket) -> None:
        _, pk, in_session = socket.watched or NOBODY
        try:
            with lanes.errand():
                verified = await _is_verified(socket, pk, in_session)
        except Exception:
            logger.exception("The user of %s can not be verified", socket.path)
            return
        if not verified:
            socket.kick(CloseCode.LOGGED_OUT, "no longer logged in")


async def _is_verified(socket: WebSocket, pk: str | None, in_session: str | None) -> bool:
    """Whether the session still names its user, and whoever else a middleware named is active."""
    if in_session is not None:
        user: Any = await aload_user(reopen_session(socket.session))
        if str(user.pk) != in_session:
            return False
    if pk is None or pk == in_session:
        return True
    user = await get_user_model()._default_manager.filter(pk=pk).afirst()
    return user is not None and user.is_active


def close_session(session_key: str) -> None:
    """Close the sockets of a session that is being logged out, on every node. Any thread.

    A socket that comes a little later, while the store may still have the session, is nobody's.
    """
    token = session_token(session_key)
    logged_out.add(token)  # before the loops look who is there, and where there is none yet
    _tell({"session": token})


def recheck_user(user: Any) -> None:
    """Verify the sockets of a user that has been changed, on every node. Any thread."""
    _tell({"user": str(user.pk)})


def _tell(message: dict[str, str]) -> None:
    """Tell every loop of this process at once, and other processes through the broker."""
    payload = json.dumps(message).encode()
    for loop, connections in list(_loops.items()):
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(connections.control, payload)
    if not get_broker("default").in_process:
        control.send_control(control.encode(**message))
