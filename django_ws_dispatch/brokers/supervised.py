"""A subscriber that keeps a connection to a server: what a broker with a server is made on.

One task supervises. It connects, subscribes to all that is wanted, and then a reader and a writer
work on the connection until one of them fails; then it does so again, after a pause.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Collection, Sequence
from typing import ClassVar, Protocol

from ..exceptions import BrokerError
from ..loops import back_off
from .base import BaseBroker, Receiver
from .wanted import Wanted

__all__ = ["ACKNOWLEDGED", "MESSAGE", "Connection", "SupervisedSubscriber"]

logger = logging.getLogger("django_ws_dispatch.brokers")

# Seconds between two attempts to connect, at first and at most.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.5
# Seconds of reading after which the event loop gets a turn though there is more to read.
TURN = 0.005
# Channels in one subscribe().
BATCH = 500

# What a connection reads, in the words of pub/sub.
MESSAGE = b"message"
ACKNOWLEDGED = b"subscribe"


class Connection(Protocol):
    """One connection to a server. Whatever its methods raise is the end of it.

    One task reads and another one calls the rest.
    """

    async def subscribe(self, names: Sequence[bytes]) -> None:
        """Ask for channels that this connection has not. Each is acknowledged where it reads."""

    async def unsubscribe(self, names: Sequence[bytes]) -> None:
        """Let go of channels that it has."""

    async def ping(self) -> None:
        """Have the server send something."""

    def read(self) -> Awaitable[object]:
        """Read what comes next.

        Returns:
            ``[MESSAGE, name, message]``, ``[ACKNOWLEDGED, name, anything]``, or whatever is no list
            of three and shows that the server is there.
        """

    async def close(self) -> None:
        """Close it at once, whatever the server has not taken yet."""


class SupervisedSubscriber(ABC):
    """The subscriptions of one event loop on one server.

    Args:
        broker: whose.
        receiver: is told of messages, and when the server is back.
        server: what the log calls it.
    """

    expected: ClassVar[tuple[type[Exception], ...]] = (OSError, TimeoutError)
    """What a server that is away or refuses does to a client: the log has no traceback of it."""

    meanwhile: ClassVar[str] = "until it is back messages of groups without history are lost"
    """What becomes of messages while the server is away, as the log says it."""

    def __init__(self, broker: BaseBroker, receiver: Receiver, server: str) -> None:
        self._broker = broker
        self._receiver = receiver
        self._server = server
        self._loop = asyncio.get_running_loop()
        self.wanted = Wanted(broker.timeout, self._error)
        self._supervisor: asyncio.Task[None] | None = None
        self._lost: str | None = None  # Why, while the server is away.
        self.missed: set[str] = set()
        """Channels that were taken over, and are to be caught up with."""
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
        ready = self.wanted.add(channel, name)
        if ready is not None:
            self._begin()
        return ready

    def take(self, name: bytes, wanted: Wanted, *, missed: bool) -> None:
        """Take a channel over from another subscriber, of which messages may have been missed."""
        channel = wanted.subscriptions[name].channel
        wanted.give(name, self.wanted)
        if missed:
            self.missed.add(channel)
            self._confirmed = False
        self._begin()

    def _begin(self) -> None:
        if self._supervisor is None:
            self._supervisor = self._loop.create_task(
                self._supervise(), name=f"django-ws-dispatch subscriber of {self._broker.alias}"
            )

    @property
    def is_lost(self) -> bool:
        """Whether the server is away."""
        return self._lost is not None

    def unsubscribe(self, name: bytes) -> None:
        """Let go of a channel, when the writer comes to it."""
        self.wanted.remove(name)

    def _error(self) -> BrokerError:
        why = f": {self._lost}" if self._lost else ""
        return BrokerError(
            f"The broker {self._broker.alias!r} ({self._server}) did not acknowledge a "
            f"subscription within {self._broker.timeout:g} s{why}."
        )

    # Supervision

    async def _supervise(self) -> None:
        pauses = back_off(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            self._confirmed = False
            try:
                async with asyncio.timeout(self._broker.timeout):
                    connection = await self.connect()
                await self._serve(connection)
            except Exception as exc:  # Garbage, or a bug, must not end all deliveries.
                why = self.why(exc)
                if self._lost is None:
                    self._receiver.on_lost(self._channels())
                    logger.error(
                        "Lost the broker %r (%s): %s. Sockets stay open; %s.",
                        self._broker.alias,
                        self._server,
                        why,
                        self.meanwhile,
                        exc_info=None if isinstance(exc, self.expected) else exc,
                    )
                self._lost = why
            if self._confirmed:
                pauses = back_off(FIRST_PAUSE, LONGEST_PAUSE)
            await asyncio.sleep(next(pauses))

    async def _serve(self, connection: Connection) -> None:
        """Work on a connection until it fails, and raise why."""
        self.wanted.begin()
        self._heard, self._taking = self._loop.time(), False
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

    def _note_confirmed(self) -> None:
        self._confirmed = True
        if self._lost is not None:
            self._lost = None
            logger.warning(
                "The broker %r (%s) is back; %d channels are subscribed to.",
                self._broker.alias,
                self._server,
                len(self.wanted.subscriptions),
            )
            self.missed.clear()
            self._receiver.on_reconnect(self._channels())
        elif self.missed:
            missed, self.missed = self.missed, set()
            self._receiver.on_reconnect(missed)

    def _channels(self) -> Collection[str] | None:
        """Return what is subscribed to here, ``None`` where that is all there is."""
        return None

    # Writing

    async def _write(self, connection: Connection) -> None:
        """Tell the server what has changed, and ping it where it is silent."""
        patience = self._broker.timeout
        pinged: float | None = None
        while True:
            self.wanted.news.clear()
            await self._tell_changes(connection)
            if self.wanted.confirmed and not self._confirmed:
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
                    await self.wanted.news.wait()
            except TimeoutError:
                pass

    async def _tell_changes(self, connection: Connection) -> None:
        subscribe, unsubscribe = self.wanted.take_changes()
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

    # Reading

    async def _read(self, connection: Connection) -> None:
        on_message, subscriptions = self._receiver.on_message, self.wanted.subscriptions
        began = self._loop.time()
        while True:
            response = await connection.read()
            now = self._heard = self._loop.time()
            if not isinstance(response, list) or len(response) != 3:
                continue
            kind, name, data = response
            if kind == MESSAGE:
                subscription = subscriptions.get(name)
                if subscription is not None:
                    busy = on_message(subscription.channel, data)
                    if busy is not None:
                        self._taking = True
                        await busy
                        self._heard, self._taking = self._loop.time(), False
            elif kind == ACKNOWLEDGED:
                self.wanted.acknowledge(name)
            if now - began > TURN:
                await asyncio.sleep(0)
                began = self._loop.time()

    async def aclose(self) -> None:
        """Close the connection; whoever waits for a subscription gets ``BrokerError``."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            await asyncio.wait([supervisor])
        self.wanted.clear()
