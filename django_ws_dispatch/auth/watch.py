"""Whose the sockets of an event loop are, and for how long: who has logged out, or was changed.

A user is watched before it is loaded: the tokens of its session are registered, then the session
and the user are read, so that a logout that falls between finds the socket. What may have been
missed is looked up (``verifier.py``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from time import monotonic
from typing import Any

from django.apps import apps
from django.contrib.sessions.backends.base import SessionBase

from .. import lanes
from ..brokers import get_broker
from ..codes import CloseCode
from ..exceptions import BrokerError
from ..groups import members
from ..groups.messages import Message as Frame
from ..loops import PerLoop
from . import control
from .control import CONTROL, EVERYBODY, Message
from .keys import changes, logged_out, tokens_of, unseal
from .sessions import reopen_session
from .users import aload_nobody, aload_user
from .verifier import Verifier
from .watched import NOBODY, Socket, Watched, key_of

__all__ = ["Watch", "local"]

logger = logging.getLogger("django_ws_dispatch.connection")


class Watch:
    """Who the sockets of one event loop belong to."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.verifier = Verifier(self._make_task, self._ask_where)
        self._by_session: dict[str, dict[Socket, None]] = {}
        self._by_user: dict[str, dict[Socket, None]] = {}
        self._rechecks: dict[Socket, tuple[float, float]] = {}
        self._resolving: dict[int, set[str]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._context = lanes.background()
        self._tasks: set[asyncio.Task[Any]] = set()

    # The user of a socket

    async def resolve_user(self, socket: Socket, load: Callable[[], Awaitable[Any]]) -> Any:
        """Load the user of a socket, such that no logout and no change falls between."""
        await asyncio.shield(self.listen())
        from_session = socket.request.user_from_session
        changed: set[str] = set()
        self._resolving[id(changed)] = changed
        try:
            if from_session:
                # What was read before this socket is known here may be out of date.
                if hasattr(socket.session, "_session_cache"):
                    load = partial(aload_user, reopen_session(socket.session))
                if self._watch_session(socket):
                    load = aload_nobody
            while True:
                changed.clear()
                user = in_session = await load()
                if not from_session:
                    in_session = await self._user_in_session(socket)
                if _is_logged_out(socket, socket.watched or NOBODY):  # meanwhile, perhaps
                    user = in_session = await aload_nobody()
                watched = (socket.watched or NOBODY)._replace(
                    user=key_of(user), in_session=key_of(in_session)
                )
                self._watch(socket, watched)
                self._follow_known(socket)
                if not changed & {EVERYBODY, *watched.users}:
                    return user
        finally:
            del self._resolving[id(changed)]

    async def _user_in_session(self, socket: Socket) -> Any:
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

    def _watch_session(self, socket: Socket) -> bool:
        """Watch the session of a socket; return whether it was logged out a moment ago."""
        key = socket.session.session_key
        sessions = tuple(tokens_of(key)) if key else ()
        watched = (socket.watched or NOBODY)._replace(key=key, sessions=sessions)
        self._watch(socket, watched)
        return _is_logged_out(socket, watched)

    def _watch(self, socket: Socket, watched: Watched) -> None:
        self._unwatch(socket)
        if socket.watch is not None:  # or a task has outlived its handler
            socket.watched = watched
            for index, key in self._entries(watched):
                index.setdefault(key, {})[socket] = None

    def forget(self, socket: Socket) -> None:
        self._unwatch(socket)
        self._rechecks.pop(socket, None)
        self.verifier.forget(socket)

    def _unwatch(self, socket: Socket) -> None:
        for index, key in self._entries(socket.watched or NOBODY):
            if key in index:
                index[key].pop(socket, None)
                if not index[key]:
                    del index[key]
        socket.watched = None

    def _entries(self, watched: Watched) -> list[tuple[dict[str, dict[Socket, None]], str]]:
        sessions = [(self._by_session, token) for token in watched.sessions]
        return sessions + [(self._by_user, pk) for pk in watched.users]

    # What happens elsewhere

    def begin(self) -> None:
        """The server starts: a logout just before the first user comes must not be missed."""
        if not get_broker("default").in_process:
            self.listen()

    def listen(self) -> asyncio.Task[None]:
        """Hear of logouts and changes elsewhere. Return the task that is done once it does."""
        if self._listening is None:
            self._listening = self._make_task(self._listen())
        return self._listening

    async def _listen(self) -> None:
        ready = members.local().add(self, CONTROL)
        if ready is not None:
            try:
                await asyncio.shield(ready)
            except BrokerError as exc:
                # It reconnects by itself, and every user is verified then.
                logger.error("Logouts elsewhere are not heard of: %s", exc)

    def receive(self, frame: Frame) -> None:
        # Ours are bytes: a text is nobody's, and is told of as what can not be read.
        message = control.decode(frame.event.get("bytes", b""))
        if message is not None:
            if message.sender != control.sender():  # its own it knows already
                self.handle(message)
            elif message.where is not None:
                for socket in self._by_session.get(message.where, ()):
                    self.verifier.heard(socket)

    def handle(self, message: Message) -> None:
        for token, sealed in message.changed:
            changes.note(token, sealed)
            for socket in list(self._by_session.get(token, ())):
                if _is_in(socket, message.namespace):
                    self._follow(socket, token, sealed)
                else:  # It does if the session is the same one, and so is gone under this key.
                    self.verifier.verify(socket)
        if message.where is not None and (known := changes.get(message.where)) is not None:
            answer = {"changed": [message.where], "to": [known]}
            self._make_task(_publish(_within(answer, message.namespace)))
        for token in message.look:
            self.verify(self._by_session.get(token, ()))
        for ended in message.sessions:
            logged_out.add(ended, message.namespace or "")
            for socket in list(self._by_session.get(ended, ())):
                self._session_ended(socket, message.namespace)
        if message.user == EVERYBODY:
            self.verify_all()
        elif message.user is not None:
            self._mark_changed(message.user)
            concerned = self._by_user.get(message.user, ())
            self.verify(one for one in concerned if _is_in(one, message.namespace))

    def catch_up(self) -> None:
        """The broker is back: a logout may have been missed, and a key that was changed."""
        self.verifier.be_patient()
        self.verify_all()

    def verify_all(self) -> None:
        self._mark_changed(EVERYBODY)
        self.verify(dict.fromkeys(one for sockets in self._by_user.values() for one in sockets))

    def verify(self, sockets: Iterable[Socket]) -> None:
        for socket in list(sockets):
            self.verifier.verify(socket)

    def _mark_changed(self, pk: str) -> None:
        for changed in self._resolving.values():
            changed.add(pk)

    def _session_ended(self, socket: Socket, namespace: str | None) -> None:
        watched = socket.watched or NOBODY
        if not watched.users:
            return  # it is nobody's, and so it stays
        if _is_in(socket, namespace):
            socket.kick(CloseCode.LOGGED_OUT, "logged out")
        else:
            self.verifier.verify(socket)

    def _follow(self, socket: Socket, token: str, sealed: str) -> None:
        """The session of a socket has another key."""
        watched = socket.watched or NOBODY
        key = None if watched.key is None else unseal(sealed, watched.key, token)
        if key is None:
            return
        if isinstance(session := socket.session, SessionBase):
            session._session_key = key
        moved = watched._replace(key=key, sessions=tuple(tokens_of(key)), key_since=monotonic())
        self._watch(socket, moved)
        if _is_logged_out(socket, moved):
            self._session_ended(socket, socket.namespace)
        elif not self._follow_known(socket):
            self.verifier.verify(socket)

    def _follow_known(self, socket: Socket) -> bool:
        """Follow a session that got another key while nobody knew yet that it is this socket's.

        It may have got several, of which what was told last has come first.
        """
        for token in (socket.watched or NOBODY).sessions:
            if (known := changes.get(token)) is not None:
                self._follow(socket, token, known)
                return True
        return False

    async def _ask_where(self, socket: Socket, watched: Watched) -> None:
        """Ask other processes what has become of a session that is not there any more.

        The answer is for this socket, or its namespace: elsewhere may be one with the same key.
        """
        if self._follow_known(socket):
            return
        if get_broker("default").in_process:
            self.verifier.heard(socket)  # nobody knows more
        else:
            for token in watched.sessions:
                question = _within({"where": token}, socket.namespace)
                await control.publish_control(control.encode(question))

    # Time

    def recheck(self, socket: Socket, every: float) -> None:
        self._rechecks[socket] = (monotonic() + every, every)

    def sweep(self, now: float) -> None:
        for socket, (at, every) in list(self._rechecks.items()):
            if now >= at:
                self._rechecks[socket] = (now + every, every)
                self.verifier.verify(socket)

    def _make_task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start what is the work of no socket, in nobody's context."""
        task = self.loop.create_task(work, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        local.pop()
        self.verifier.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


local = PerLoop(Watch)
"""Who the sockets of the running event loop belong to."""


def _is_logged_out(socket: Socket, watched: Watched) -> bool:
    return any(logged_out.has(token, socket.namespace) for token in watched.sessions)


def _is_in(socket: Socket, namespace: str | None) -> bool:
    return not namespace or socket.namespace is None or socket.namespace == namespace


def _within(message: dict[str, Any], namespace: str | None) -> dict[str, Any]:
    return {**message, "namespace": namespace} if namespace else message


async def _publish(message: dict[str, Any]) -> None:
    try:
        await control.publish_control(control.encode(message))
    except BrokerError as exc:
        logger.debug("The key of a session could not be told: %s", exc)
