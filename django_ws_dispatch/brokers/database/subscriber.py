"""Reading what came: on one connection of an event loop that nobody else has.

All that came behind the last number is read at once, and what is for nobody here is left out. So a
connection that was lost, or a database that was restarted, costs nothing that was committed, unless
it was gone for so long that it was deleted meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import Error

from ..base import BaseSubscriber, Receiver
from ..supervised import ACKNOWLEDGED, MESSAGE, Connection, SupervisedSubscriber
from .calls import why
from .care import examined
from .channels import key_of
from .messages import Arrived, behind, newest_number
from .numbering import number_all, unnumbered
from .session import OwnSession
from .tables import MESSAGES

if TYPE_CHECKING:
    from .broker import DatabaseBroker

__all__ = ["DatabaseSubscriber"]

# Seconds between two looks where NOTIFY wakes whoever reads.
LISTENING_POLL = 5.0
# Seconds without a look after which something may have been deleted: half of the time it is there.
LONG = 30.0
# What is read at once: messages, at first and at most, and bytes.
FIRST_COUNT, MOST_COUNT = 50, 500
MOST_BYTES = 1024 * 1024

# What read() returns where nothing came: the database is there.
NOTHING: list[object] = []


class Missed(Exception):
    """What was sent meanwhile was deleted before this process has read it."""


class DatabaseSubscriber(SupervisedSubscriber, BaseSubscriber):
    """The subscriptions of one event loop."""

    expected: ClassVar = (OSError, TimeoutError, Error, Missed)
    meanwhile: ClassVar = "what is sent meanwhile comes when it is back"

    def __init__(self, broker: DatabaseBroker, receiver: Receiver) -> None:
        super().__init__(broker, receiver, f"database {broker.using!r}")
        self.broker = broker
        self.last: int | None = None
        """the number of the last message that was read"""
        self.established: set[bytes] = set()
        """the channels whose messages were read up to there, on an earlier connection perhaps"""
        self._alone: dict[str, str] = {}

    async def connect(self) -> Connection:
        self.established &= self.wanted.subscriptions.keys()
        connection = _Connection(self)
        try:
            await connection.open()
        except BaseException:
            await connection.close()
            raise
        return connection

    def why(self, exc: Exception) -> str:
        return why(exc)

    def subscribe(self, channel: str) -> asyncio.Future[None] | None:  # type: ignore[override]
        key = key_of(channel)
        if self.broker.is_alone:
            self._alone[key] = channel
            return None
        return super().subscribe(channel, key.encode())

    def unsubscribe(self, channel: str) -> None:  # type: ignore[override]
        key = key_of(channel)
        if self._alone.pop(key, None) is None:
            super().unsubscribe(key.encode())

    def deliver(self, arrived: Sequence[Arrived]) -> None:
        """Take, in any thread, what only this process can see."""
        with suppress(RuntimeError):  # its loop is closed
            self._loop.call_soon_threadsafe(self._deliver, arrived)

    def _deliver(self, arrived: Sequence[Arrived]) -> None:
        for one in arrived:
            subscription = self.wanted.subscriptions.get(one.channel.encode())
            channel = subscription.channel if subscription else self._alone.get(one.channel)
            if channel is not None:
                self._receiver.on_message(channel, one.message)


class _Connection:
    """A connection on which one thread at a time works for the loop, and where it is waited for."""

    def __init__(self, subscriber: DatabaseSubscriber) -> None:
        broker = subscriber.broker
        self._subscriber = subscriber
        self._loop = asyncio.get_running_loop()
        self._session = OwnSession(broker.using, broker.timeout)
        self._executor = ThreadPoolExecutor(1, "django-ws-dispatch subscriber")
        self._poll = broker.poll
        self._socket: int | None = None  # on which NOTIFY comes
        self._wake = asyncio.Event()
        self._more = True
        self._count = FIRST_COUNT
        self._wanted: set[bytes] = set()
        self._new: list[bytes] = []
        self._arrived: deque[tuple[int, list[object]]] = deque()
        self._version: object = None
        self._looked = time.monotonic()
        self._busy: asyncio.Future[Any] | None = None

    async def _run(self, work: Any, *args: Any) -> Any:
        # Shielded: the thread goes on, and nobody else may use the connection meanwhile.
        self._busy = self._loop.run_in_executor(self._executor, work, *args)
        return await asyncio.shield(self._busy)

    async def open(self) -> None:
        self._socket = await self._run(self._open)
        if self._socket is not None:
            self._poll = LISTENING_POLL

    def _open(self) -> int | None:
        session, subscriber = self._session, self._subscriber
        descriptor = None
        if session.vendor == "postgresql" and subscriber.broker.listen:
            descriptor = _listen(session)
        if subscriber.last is None:
            subscriber.last = max(newest_number(session), examined(session))
        else:
            self._find_what_is_missing()
        return descriptor

    def _find_what_is_missing(self) -> None:
        subscriber, gone = self._subscriber, examined(self._session)
        if subscriber.last is not None and gone > subscriber.last:
            subscriber.last = gone
            raise Missed("this process was away for so long that messages are gone")

    # What it is told

    async def subscribe(self, names: Sequence[bytes]) -> None:
        self._wanted.update(names)
        self._new += names
        self._wake.set()

    async def unsubscribe(self, names: Sequence[bytes]) -> None:
        self._wanted.difference_update(names)
        self._subscriber.established.difference_update(names)

    async def ping(self) -> None:
        self._wake.set()

    # What it reads

    async def read(self) -> object:
        if not self._arrived:
            if not (self._more or self._new):
                await self._wait()
            await self._look()
        # Only now: what still waits here when the connection is lost is read again.
        number, response = self._arrived.popleft()
        self._subscriber.last = number
        return response

    async def _wait(self) -> None:
        """Wait until there may be something, or it is time to look."""
        descriptor = self._socket
        if descriptor is not None:
            self._loop.add_reader(descriptor, self._wake.set)
        try:
            async with asyncio.timeout(self._poll):
                await self._wake.wait()
        except TimeoutError:
            pass
        finally:
            if descriptor is not None:
                self._loop.remove_reader(descriptor)

    async def _look(self) -> None:
        self._wake.clear()
        new, established = self._new, self._subscriber.established
        self._new = []
        try:
            arrived: list[Arrived] = await self._run(self._read)
        except BaseException:
            self._new = new + self._new
            raise
        end = self._subscriber.last or 0
        if arrived:
            end = arrived[-1].number
            size = sum(len(one.message) for one in arrived)
            count = min(MOST_COUNT, MOST_BYTES * len(arrived) // max(size, 1))
            self._more, self._count = len(arrived) == self._count, max(1, count)
        else:
            self._more = False
        for one in arrived:
            if (name := one.channel.encode()) in established:
                self._arrived.append((one.number, [MESSAGE, name, one.message]))
        self._arrived.append((end, NOTHING))
        if self._more:
            self._new = new + self._new
            return
        for name in new:
            if name in self._wanted:
                established.add(name)
            self._arrived.append((end, [ACKNOWLEDGED, name, 0]))

    def _read(self) -> list[Arrived]:
        session, now = self._session, time.monotonic()
        since, self._looked = now - self._looked, now
        if since > LONG:
            self._find_what_is_missing()
        if self._socket is not None:
            _take_notifications(session)
        last = self._subscriber.last or 0
        if session.vendor == "sqlite":
            # It says whether anybody has written anything, and reads nothing for that.
            ((version,),) = session.execute("PRAGMA data_version")
            if version == self._version and not self._more:
                return []
            self._version = version
        elif session.vendor == "mysql" and unnumbered(session):
            number_all(session)
        return behind(session, last, self._count)

    async def close(self) -> None:
        if self._busy is not None and not self._busy.done():
            self._session.abort()
            # It has to be over before its connection is closed; that of a database that is silent
            # and can not be woken is left to its thread.
            await asyncio.wait([self._busy], timeout=self._subscriber.broker.timeout)
        if self._busy is None or self._busy.done():
            if self._busy is not None and not self._busy.cancelled():
                self._busy.exception()
            self._session.close()
        else:
            self._busy.add_done_callback(lambda _: self._session.close())
        self._executor.shutdown(wait=False)


def _listen(session: OwnSession) -> int | None:
    """Have NOTIFY come on the connection; return its file descriptor, ``None`` where it can not."""
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    if not is_psycopg3:
        return None
    ((table,),) = session.execute(f"SELECT '{MESSAGES}'::regclass::oid::bigint")
    session.execute(f"LISTEN {MESSAGES}_{table}")
    connection: Any = session.wrapper.connection
    return int(connection.fileno())


def _take_notifications(session: OwnSession) -> None:
    # What they say is not looked at: they wake, and what is to be read is in the table.
    connection: Any = session.wrapper.connection
    connection.pgconn.consume_input()
    while connection.pgconn.notifies() is not None:
        pass
