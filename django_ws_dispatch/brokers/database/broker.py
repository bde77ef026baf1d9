"""The broker itself: who writes on which connection, and what there is in each event loop."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import Error, connections

from ... import lanes
from ...exceptions import BrokerError
from ...loops import PerLoop
from ..base import BaseBroker, BaseSubscriber, Receiver
from ..history import FORGOTTEN, Keep, Page, Top
from ..presence import Entry, Listed, Roll, Tracked, published
from . import history, presence, rolls
from .calls import OwnCalls, Work, call
from .care import tend
from .channels import key_of
from .messages import Arrived
from .sending import Outgoing, Sender, Sending
from .session import OwnSession, Session, in_memory
from .subscriber import DatabaseSubscriber
from .tables import KEPT_FORGOTTEN, KEPT_MESSAGE, KEPT_ORDER

__all__ = ["DatabaseBroker"]

APP = "django_ws_dispatch.brokers.database"
DEFAULT_POLL = 0.1
SHORTEST_POLL, LONGEST_POLL = 0.005, 60.0

# Pieces of what is over that a sender deletes; seconds between two looks of an event loop.
TENDED = 3
TENDED_EVERY = 10.0

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("django_ws_dispatch.brokers")


class DatabaseBroker(BaseBroker):
    """Reaches every process of a site by a database that it has already.

    A message is sent if and only if the transaction around ``send()`` commits; without one, at
    once. It takes no ``LOCATION``. The keys of ``OPTIONS``:

    - ``using``: an alias of ``DATABASES`` (default ``"default"``), a primary of PostgreSQL, SQLite,
      MySQL or MariaDB.
    - ``poll``: seconds between two looks where nothing wakes whoever reads (default 0.1).
    - ``listen``: whether PostgreSQL is to wake them, by LISTEN (default ``True``). A pooler that
      gives the connection to somebody else behind each transaction can not do that.
    - ``timeout``: seconds within which a publisher, or a join, gets a ``BrokerError`` (0.01 to
      3600, default 2).
    """

    has_history = True
    has_presence = True
    option_names = frozenset({"listen", "poll", "timeout", "using"})

    def __init__(self, alias: str, location: object, options: Mapping[str, Any]) -> None:
        super().__init__(alias, location, options)
        if location is not None:
            raise self.misconfigured(
                f"LOCATION must be left out, not {location!r:.80}: the database is that of "
                'OPTIONS["using"], an alias of DATABASES.'
            )
        if not apps.is_installed(APP):
            raise self.misconfigured(
                f'the database broker needs its tables: add "{APP}" to INSTALLED_APPS, and run '
                "manage.py migrate."
            )
        self.using = options.get("using", "default")
        if not isinstance(self.using, str) or self.using not in connections.settings:
            known = ", ".join(map(repr, connections.settings))
            raise self.misconfigured(
                f'OPTIONS["using"] must be an alias of DATABASES ({known}), not {self.using!r:.80}.'
            )
        self.poll = self.seconds_of(options, "poll", DEFAULT_POLL, SHORTEST_POLL, LONGEST_POLL)
        self.listen = options.get("listen", True)
        if not isinstance(self.listen, bool):
            raise self.misconfigured(
                f'OPTIONS["listen"] must be True or False, not {self.listen!r:.40}.'
            )
        self._sender = Sender(
            self.using, self.timeout, self._deliver_here, lambda: self.is_alone, self._tend
        )
        self._tending = threading.Lock()
        self._local = PerLoop(partial(_Local, self))

    @property
    def is_alone(self) -> bool:
        """Whether no second connection can see what is sent: a database in memory."""
        return in_memory(self.using)

    def _call(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return call(self, Session(self.using), work, *args, **kwargs)

    async def _acall(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if lanes.is_off() or self.is_alone:
            # Only there is the transaction of a test.
            return await sync_to_async(self._call)(work, *args, **kwargs)
        return await self._local().calls.call(work, *args, **kwargs)

    async def _asend(self, outgoing: Outgoing) -> str | None:
        if lanes.has_thread() or self.is_alone:
            return await sync_to_async(self._send)(outgoing)
        return await self._local().calls.call(self._sender.send, Sending(outgoing))

    def _send(self, outgoing: Outgoing) -> str | None:
        return self._call(self._sender.send, Sending(outgoing))

    # Sending

    def publish(self, channel: str, message: bytes) -> None:
        """Write ``message`` on Django's connection of this thread, as a part of its transaction.

        See ``BaseBroker``. In a transaction nothing waits for another sender, and nothing is
        retried.
        """
        self._send(Outgoing(channel, message))

    async def apublish(self, channel: str, message: bytes) -> None:
        """Write ``message`` in a transaction of its own, in the lane of the socket whose task this
        is, on the connection that its sync code has.

        So it is sent at once. See ``BaseBroker``.
        """
        await self._asend(Outgoing(channel, message))

    def keep(self, channel: str, message: bytes, keep: Keep, *, order: bool = False) -> str | None:
        """Write ``message`` as ``publish()`` does, to be kept.

        Returns:
            Its position. ``None`` in a transaction: it has none before the commit.
        """
        return self._send(self._kept(channel, message, keep, order))

    async def akeep(
        self, channel: str, message: bytes, keep: Keep, *, order: bool = False
    ) -> str | None:
        """Write ``message`` as ``apublish()`` does, to be kept."""
        return await self._asend(self._kept(channel, message, keep, order))

    def forget(self, channel: str, keep: Keep) -> None:
        self._send(self._kept(channel, FORGOTTEN, keep, True, KEPT_FORGOTTEN))

    async def aforget(self, channel: str, keep: Keep) -> None:
        await self._asend(self._kept(channel, FORGOTTEN, keep, True, KEPT_FORGOTTEN))

    def _kept(
        self, channel: str, message: bytes, keep: Keep, order: bool, kind: int = KEPT_ORDER
    ) -> Outgoing:
        kind = kind if order else KEPT_MESSAGE
        return Outgoing(channel, message, kind, keep.messages, history.ttl_of(keep))

    def _tend(self) -> None:
        """Delete some of what is over, unless another thread is at it."""
        if not self._tending.acquire(blocking=False):
            return
        session = OwnSession(self.using, self.timeout)
        try:
            for _ in range(TENDED):
                if not tend(session):
                    break
        except Error as exc:
            logger.debug("What is over could not be deleted: %s", exc)
        finally:
            session.close()
            self._tending.release()

    def _deliver_here(self, arrived: list[Arrived]) -> None:
        for local in self._local.values():
            local.deliver(arrived)

    # What is remembered, and who is here

    def read(
        self, channel: str, since: str, keep: Keep, count: int, *, heard: bool = False
    ) -> Page:
        return self._call(history.read, channel, since, keep, count, heard)

    async def aread(
        self, channel: str, since: str, keep: Keep, count: int, *, heard: bool = False
    ) -> Page:
        return await self._acall(history.read, channel, since, keep, count, heard)

    def newest(self, channel: str, keep: Keep, count: int, before: str | None = None) -> Page:
        return self._call(history.newest, channel, keep, count, before)

    async def anewest(
        self, channel: str, keep: Keep, count: int, before: str | None = None
    ) -> Page:
        return await self._acall(history.newest, channel, keep, count, before)

    async def atops(self, channels: Sequence[str]) -> list[Top | None]:
        return await self._acall(history.tops, channels)

    def top(self, channel: str, keep: Keep) -> Top:
        return self._call(history.top, channel, keep)

    async def atop(self, channel: str, keep: Keep) -> Top:
        return await self._acall(history.top, channel, keep)

    async def atrack(
        self,
        channel: str,
        tracker: str,
        entries: Sequence[Entry],
        listed: Listed,
        *,
        roll: bool = False,
        away: bool = False,
        ends: bool = False,
        replaces: str = "",
        replaced: bool = False,
    ) -> Tracked:
        said = presence.Said(
            channel, tracker, entries, listed, roll, away, ends, replaces, replaced
        )
        tracked = await self._acall(presence.track, said)
        if tracked.changes is not None and lanes.is_off():
            # A test may never commit, and that is no message of its code. To hear it twice is once.
            self._deliver_here([Arrived(0, key_of(channel), published(tracked.changes))])
        return tracked

    def snapshot(self, channel: str, most: int) -> Roll:
        return self._call(rolls.snapshot, channel, most)

    async def asnapshot(self, channel: str, most: int) -> Roll:
        return await self._acall(rolls.snapshot, channel, most)

    # What there is in an event loop

    def subscriber(self, receiver: Receiver) -> BaseSubscriber:
        return self._local().subscriber(receiver)

    async def aclose(self) -> None:
        local = self._local.pop()
        if local is not None:
            await local.aclose()


class _Local:
    """What a broker has in one event loop."""

    def __init__(self, broker: DatabaseBroker) -> None:
        self._broker = broker
        self.calls = OwnCalls(broker, broker.using)
        self._subscribers: list[DatabaseSubscriber] = []
        self._tending: asyncio.Task[None] | None = None

    def subscriber(self, receiver: Receiver) -> BaseSubscriber:
        subscriber = DatabaseSubscriber(self._broker, receiver)
        self._subscribers.append(subscriber)
        if self._tending is None and not self._broker.is_alone:
            self._tending = asyncio.get_running_loop().create_task(
                self._tend(), name=f"django-ws-dispatch care of {self._broker.alias}"
            )
        return subscriber

    def deliver(self, arrived: list[Arrived]) -> None:
        """Take, in any thread, what only this process can see."""
        for subscriber in self._subscribers:
            subscriber.deliver(arrived)

    async def _tend(self) -> None:
        """Delete what is over, now and then."""
        while True:
            # Those of several processes need not come at once.
            await asyncio.sleep(TENDED_EVERY * random.uniform(0.75, 1.25))
            try:
                while await self.calls.call(tend):
                    pass
            except BrokerError as exc:
                logger.debug("What is over could not be deleted: %s", exc)
            except Exception:
                logger.exception("What is over could not be deleted.")

    async def aclose(self) -> None:
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.wait([self._tending])
        for subscriber in self._subscribers:
            await subscriber.aclose()
        await self.calls.aclose()
