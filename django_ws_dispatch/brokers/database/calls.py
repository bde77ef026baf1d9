"""Work on the database: on Django's connection of a thread, or on connections of the broker's own.

What sync code asks for is done on the connection that its thread has, so that it is a part of its
transaction. What event loops ask for between them, such as what a group has missed, is done on a
few connections that no request shares, in threads of their own: all lanes may be held by sockets
that wait for it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from django.db import DatabaseError, Error

from ...exceptions import BrokerError
from ..base import BaseBroker
from ..slots import Slots
from .session import OwnSession, Session, is_conflict

__all__ = ["OwnCalls", "call"]

# Connections that an event loop has at once.
MAX_CONNECTIONS = 4
# Seconds between two attempts where others are at it.
PAUSE = 0.005

P = ParamSpec("P")
T = TypeVar("T")

Work = Callable[Concatenate[Session, P], T]


def call(
    broker: BaseBroker, session: Session, work: Work[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Do ``work`` on a session, within the broker's time-out.

    Where nothing of it can be in a transaction of the caller's it is done again: on a fresh
    connection, if this one turns out to be broken, and as long as it only meets others.

    Raises:
        BrokerError: the database did not do it.
    """
    deadline = time.monotonic() + broker.timeout
    fresh = False
    with session.patience(broker.timeout):
        while True:
            try:
                return work(session, *args, **kwargs)
            except Error as exc:
                if not session.in_transaction:
                    is_one = isinstance(exc, DatabaseError) and is_conflict(exc)
                    if is_one and time.monotonic() < deadline:
                        time.sleep(PAUSE * random.uniform(0.5, 1.5))
                        continue
                    if not fresh and session.is_broken:
                        fresh = True
                        session.close()
                        continue
                raise error_of(broker, session, exc) from exc


def error_of(broker: BaseBroker, session: Session, exc: BaseException) -> BrokerError:
    """Return what a caller is told of what a database said."""
    return BrokerError(
        f"The broker {broker.alias!r} ({name_of(session)}) did not answer: {why(exc)}."
    )


def name_of(session: Session) -> str:
    """Return what the log calls a database."""
    return f"database {session.wrapper.alias!r}"


def why(exc: BaseException) -> str:
    """Return what went wrong, for the middle of a sentence."""
    text = " ".join(str(exc).split()).rstrip(".") or type(exc).__name__
    if "django_ws_dispatch_" in text and ("exist" in text or "no such table" in text):
        text += ' (has "manage.py migrate" made the tables of django_ws_dispatch.brokers.database?)'
    return text


class OwnCalls:
    """Work that one event loop asks for, on connections that nobody else has.

    Args:
        broker: on whose behalf.
        using: an alias of ``DATABASES``.
    """

    def __init__(self, broker: BaseBroker, using: str) -> None:
        self._broker = broker
        self._using = using
        self._idle: list[OwnSession] = []
        self._slots = Slots(MAX_CONNECTIONS, broker.timeout)
        self._executor = ThreadPoolExecutor(MAX_CONNECTIONS, "django-ws-dispatch database")
        self._owner: asyncio.Task[None] | None = None
        self._closed = False

    async def call(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do ``work`` on one of the connections; see ``call()``."""
        broker = self._broker
        if self._owner is None:
            self._owner = asyncio.get_running_loop().create_task(
                self._own(), name=f"django-ws-dispatch calls of {broker.alias}"
            )
        try:
            async with self._slots.hold() as left:
                return await self._call_within(left, lambda session: work(session, *args, **kwargs))
        except TimeoutError as exc:
            raise BrokerError(
                f"The broker {broker.alias!r} (database {self._using!r}) did not answer within "
                f"{broker.timeout:g} s."
            ) from exc

    async def _call_within(self, seconds: float, work: Callable[[Session], T]) -> T:
        broker = self._broker
        session = self._idle.pop() if self._idle else OwnSession(self._using, broker.timeout)
        job = self._executor.submit(call, broker, session, work)
        try:
            async with asyncio.timeout(seconds):
                result = await asyncio.wrap_future(job)
        except BaseException:
            session.abort()
            # Its thread may be at it yet.
            job.add_done_callback(lambda _: session.close())
            self._close_idle()  # They are as old.
            raise
        self._slots.answered()
        if self._closed:
            session.close()
        else:
            self._idle.append(session)
        return result

    async def _own(self) -> None:
        """Close the connections when this loop ends and cancels its tasks."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._closed = True
            self._close_idle()
            self._executor.shutdown(wait=False)

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def aclose(self) -> None:
        """Close the connections, those in use when they are done."""
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.wait([self._owner])
        self._closed = True
