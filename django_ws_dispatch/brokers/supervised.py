"""A subscriber that keeps a connection to a server: what a broker with a server is made on.

One task supervises. It connects, subscribes to all that is wanted, and then a reader and a writer
work on the connection until one of them fails; then it does so again, after a pause. What is wanted
is kept here and not on the connection, so nothing is forgotten in between.
"""

from __future__ import annotations

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from typing import ClassVar

from ..exceptions import BrokerError
from .base import BaseBroker, Receiver

__all__ = ["ACKNOWLEDGED", "MESSAGE", "Connection", "SupervisedSubscriber"]

logger = logging.getLogger("django_ws_dispatch.brokers")

# Seconds between two attempts to connect, at first and at most; each pause is cut by up to a half,
# so that the processes of a site do not all come at once.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.5
# Seconds of reading after which the event loop gets a turn though there is more to read.
TURN = 0.005
# Channels in one subscribe().
BATCH = 500

# What a connection reads, in the words of pub/sub.
MESSAGE = b"message"
ACKNOWLEDGED = b"subscribe"


class Connection(ABC):
    """One connection to a server. Whatever its methods raise is the end of it.

    One task reads and another one calls the rest.
    """

    @abstractmethod
    async def subscribe(self, names: Sequence[bytes]) -> None:
        """Ask for channels that this connection has not. Each is acknowledged where it reads."""

    @abstractmethod
    async def unsubscribe(self, names: Sequence[bytes]) -> None:
        """Let go of channels that it has."""

    @abstractmethod
    async def ping(self) -> None:
        """Have the server send something."""

    @abstractmethod
    def read(self) -> Awaitable[object]:
        """Read what comes next.

        Returns:
            ``[MESSAGE, name, message]``, ``[ACKNOWLEDGED, name, anything]``, or whatever is no list
            of three and shows that the server is there.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close it at once, whatever the server has not taken yet."""


class _Subscription:
    __slots__ = ("acknowledged", "channel", "pending", "sent", "waiter", "wanted")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.wanted = True
        self.sent = False  # The last that this connection was told is to subscribe.
        self.pending = 0  # Acknowledgements that are to come.
        # Once true it stays so while the server is away: a join need not wait for what was there.
        self.acknowledged = False
        self.waiter: asyncio.Future[None] | None = None


class SupervisedSubscriber(ABC):
    """The subscriptions of one event loop on one server.

    Args:
        broker: whose.
        receiver: is told of messages, and when the server is back.
        server: what the log calls it.
    """

    expected: ClassVar[tuple[type[Exception], ...]] = (OSError, TimeoutError)
    """What a server that is away or refuses does to a client: the log has no traceback of it."""

    def __init__(self, broker: BaseBroker, receiver: Receiver, server: str) -> None:
        self._broker = broker
        self._receiver = receiver
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._subscriptions: dict[bytes, _Subscription] = {}
        self._changed: dict[bytes, None] = {}  # An ordered set.
        self._wake = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._lost: str | None = None  # Why, while the server is away.
        self._unconfirmed: set[bytes] = set()
        self._confirmed = False
        self._heard = 0.0
        self._taking = False  # The reader waits for the receiver, not for the server.

    @abstractmethod
    async def connect(self) -> Connection:
        """Return a new connection. It is cancelled where that takes longer than the time-out."""

    def why(self, exc: Exception) -> str:
        """Return what went wrong with the server, for the middle of a sentence."""
        return str(exc) or type(exc).__name__

    def subscribe(self, channel: str, name: bytes) -> asyncio.Future[None] | None:
        """Ask for ``channel``, which is called ``name`` on the wire (see ``BaseSubscriber``)."""
        subscription = self._subscriptions.get(name)
        if subscription is None:
            subscription = self._subscriptions[name] = _Subscription(channel)
            self._change(name)
        elif not subscription.wanted:
            subscription.wanted = True
            self._change(name)
        if subscription.acknowledged:
            return None
        waiter = subscription.waiter
        if waiter is None or waiter.done():
            waiter = subscription.waiter = self._loop.create_future()
            timer = self._loop.call_later(self._broker.timeout, self._give_up, waiter)
            waiter.add_done_callback(lambda _: timer.cancel())
        return waiter

    def unsubscribe(self, name: bytes) -> None:
        """Let go of a channel, when the writer comes to it."""
        subscription = self._subscriptions.get(name)
        if subscription is not None and subscription.wanted:
            subscription.wanted = False
            self._change(name)
            # While the server is away nobody comes to it, and each join that fails would stay.
            self._forget_if_done(name, subscription)

    def _change(self, name: bytes) -> None:
        self._changed[name] = None
        self._wake.set()
        if self._supervisor is None:
            self._supervisor = self._loop.create_task(
                self._supervise(), name=f"django-ws-dispatch subscriber of {self._broker.alias}"
            )

    def _give_up(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_exception(self._error())
            waiter.exception()  # Whoever waited may be gone.

    def _error(self) -> BrokerError:
        why = f": {self._lost}" if self._lost else ""
        return BrokerError(
            f"The broker {self._broker.alias!r} ({self._server}) did not acknowledge a "
            f"subscription within {self._broker.timeout:g} s{why}."
        )

    # Supervision

    async def _supervise(self) -> None:
        pause = FIRST_PAUSE
        while True:
            self._confirmed = False
            try:
                async with asyncio.timeout(self._broker.timeout):
                    connection = await self.connect()
                await self._serve(connection)
            except Exception as exc:  # Garbage, or a bug, must not end all deliveries.
                self._note_lost(exc)
            if self._confirmed:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _serve(self, connection: Connection) -> None:
        """Work on a connection until it fails, and raise why."""
        self._begin()
        tasks = {
            self._loop.create_task(self._read(connection)),
            self._loop.create_task(self._write(connection)),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await connection.close()

    def _begin(self) -> None:
        for name, subscription in list(self._subscriptions.items()):
            subscription.sent = False
            subscription.pending = 0
            if not subscription.wanted:
                del self._subscriptions[name]
        self._changed = dict.fromkeys(self._subscriptions)
        self._unconfirmed = set(self._subscriptions)
        self._heard = self._loop.time()
        self._wake.set()

    def _note_lost(self, exc: Exception) -> None:
        why = self.why(exc)
        if self._lost is None:
            logger.error(
                "Lost the broker %r (%s): %s. Sockets stay open; messages of their groups are lost "
                "until it is back.",
                self._broker.alias,
                self._server,
                why,
                exc_info=None if isinstance(exc, self.expected) else exc,
            )
        self._lost = why

    def _note_confirmed(self) -> None:
        self._confirmed = True
        if self._lost is not None:
            self._lost = None
            logger.warning(
                "The broker %r (%s) is back; %d channels are subscribed to.",
                self._broker.alias,
                self._server,
                len(self._subscriptions),
            )
            self._receiver.on_reconnect()

    # Writing

    async def _write(self, connection: Connection) -> None:
        """Tell the server what has changed, and ping it where it is silent."""
        patience = self._broker.timeout
        pinged: float | None = None
        while True:
            self._wake.clear()
            await self._tell_changes(connection)
            if not self._unconfirmed and not self._confirmed:
                self._note_confirmed()
            now = self._loop.time()
            if self._taking or self._heard > now - patience:
                pinged = None
            elif pinged is None:
                pinged = now
                await self._tell(connection.ping())
            elif now >= pinged + patience:
                # Perhaps it was this loop that stood still: let the reader have its turn first.
                await asyncio.sleep(0.05)
                if self._heard < pinged and not self._taking:
                    raise TimeoutError(f"no answer to a PING within {patience:g} s")
                pinged = None
            since = now if self._taking else self._heard if pinged is None else pinged
            try:
                async with asyncio.timeout_at(since + patience):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _tell_changes(self, connection: Connection) -> None:
        changed, self._changed = self._changed, {}
        subscribe, unsubscribe = [], []
        for name in changed:
            subscription = self._subscriptions.get(name)
            if subscription is None:
                continue
            if subscription.wanted and not subscription.sent:
                subscription.sent = True
                subscription.pending += 1
                subscribe.append(name)
            elif not subscription.wanted and subscription.sent:
                subscription.sent = subscription.acknowledged = False
                unsubscribe.append(name)
            self._forget_if_done(name, subscription)
        # Of each channel only one, so their order does not matter.
        for start in range(0, len(subscribe), BATCH):
            await self._tell(connection.subscribe(subscribe[start : start + BATCH]))
        for start in range(0, len(unsubscribe), BATCH):
            await self._tell(connection.unsubscribe(unsubscribe[start : start + BATCH]))

    async def _tell(self, telling: Awaitable[None]) -> None:
        patience = 2 * self._broker.timeout
        try:
            async with asyncio.timeout(patience):
                await telling
        except TimeoutError:
            # It stands still, and its buffers are full: no PING would get through either.
            raise TimeoutError(f"nothing was taken within {patience:g} s") from None

    def _forget_if_done(self, name: bytes, subscription: _Subscription) -> None:
        if not subscription.wanted and not subscription.sent:
            self._unconfirmed.discard(name)
            if not subscription.pending:
                del self._subscriptions[name]
                self._changed.pop(name, None)

    # Reading

    async def _read(self, connection: Connection) -> None:
        on_message = self._receiver.on_message
        began = self._loop.time()
        while True:
            response = await connection.read()
            now = self._heard = self._loop.time()
            if not isinstance(response, list) or len(response) != 3:
                continue
            kind, name, data = response
            if kind == MESSAGE:
                subscription = self._subscriptions.get(name)
                if subscription is not None:
                    busy = on_message(subscription.channel, data)
                    if busy is not None:
                        await self._take(busy)
            elif kind == ACKNOWLEDGED:
                self._acknowledge(name)
            if now - began > TURN:
                await asyncio.sleep(0)
                began = self._loop.time()

    async def _take(self, busy: asyncio.Future[None]) -> None:
        self._taking = True
        try:
            await busy
        finally:
            self._taking = False
            self._heard = self._loop.time()

    def _acknowledge(self, name: bytes) -> None:
        subscription = self._subscriptions.get(name)
        if subscription is None:
            return
        subscription.pending = max(subscription.pending - 1, 0)
        if not subscription.pending and subscription.sent:
            subscription.acknowledged = True
            waiter = subscription.waiter
            subscription.waiter = None
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
        self._forget_if_done(name, subscription)
        if name in self._unconfirmed:
            self._unconfirmed.discard(name)
            self._wake.set()

    async def aclose(self) -> None:
        """Close the connection; whoever waits for a subscription gets ``BrokerError``."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            await asyncio.wait([supervisor])
        for subscription in self._subscriptions.values():
            if subscription.waiter is not None:
                self._give_up(subscription.waiter)
        self._subscriptions.clear()
