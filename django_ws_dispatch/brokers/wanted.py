"""The channels that an event loop wants of a server, whatever becomes of the connection to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Wanted"]

# Seconds by which a timer is late where the event loop stood still.
LATE = 0.1


class _Subscription:
    __slots__ = ("acknowledged", "channel", "pending", "sent", "waiter", "wanted")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.wanted = False
        self.sent = False  # The last that this connection was told is to subscribe.
        self.pending = 0  # Acknowledgements that are to come.
        # Once true it stays so while the server is away: a join need not wait for what was there.
        self.acknowledged = False
        self.waiter: asyncio.Future[None] | None = None


class Wanted:
    """What is wanted, what the connection of the moment was told of it, and what it acknowledged.

    ``error`` is for whoever has waited ``timeout`` seconds for an acknowledgement.
    """

    def __init__(self, timeout: float, error: Callable[[], Exception]) -> None:
        self._timeout = timeout
        self._error = error
        self._loop = asyncio.get_running_loop()
        self.subscriptions: dict[bytes, _Subscription] = {}
        self.news = asyncio.Event()
        """Set when something is to be told, or was acknowledged."""
        self._changed: dict[bytes, None] = {}  # An ordered set.
        self._unconfirmed: set[bytes] = set()

    def add(self, channel: str, name: bytes) -> asyncio.Future[None] | None:
        """Want ``channel``, which is called ``name`` on the wire.

        Returns:
            ``None`` if it is acknowledged, or a future that is done once it is or in time.
        """
        subscription = self.subscriptions.get(name)
        if subscription is None:
            subscription = self.subscriptions[name] = _Subscription(channel)
        if not subscription.wanted:
            subscription.wanted = True
            self._change(name)
        if subscription.acknowledged:
            return None
        waiter = subscription.waiter
        if waiter is None or waiter.done():
            waiter = subscription.waiter = self._loop.create_future()
            self._give_up_at(self._loop.time() + self._timeout, waiter)
        return waiter

    def _give_up_at(self, due: float, waiter: asyncio.Future[None]) -> None:
        timer = self._loop.call_at(due, self._give_up, waiter, due)
        waiter.add_done_callback(lambda _: timer.cancel())

    def remove(self, name: bytes) -> None:
        """Want it no more."""
        subscription = self.subscriptions.get(name)
        if subscription is not None and subscription.wanted:
            subscription.wanted = False
            self._change(name)
            # While the server is away nobody tells it, and each join that fails would stay.
            self._forget_if_done(name, subscription)

    def give(self, name: bytes, other: Wanted) -> None:
        """Have another one want it instead, also for whoever waits for it.

        What the connection here still says of it is ignored.
        """
        subscription = self.subscriptions.pop(name)
        self._changed.pop(name, None)
        self._unconfirmed.discard(name)
        self.news.set()
        if subscription.wanted:
            subscription.sent, subscription.pending = False, 0
            other.subscriptions[name] = subscription
            other._unconfirmed.add(name)
            other._change(name)

    def clear(self) -> None:
        """Want nothing; whoever waits gets the exception."""
        for subscription in self.subscriptions.values():
            if subscription.waiter is not None:
                self._give_up(subscription.waiter)
        self.subscriptions.clear()

    def _change(self, name: bytes) -> None:
        self._changed[name] = None
        self.news.set()

    def _give_up(self, waiter: asyncio.Future[None], due: float | None = None) -> None:
        if due is not None and not waiter.done() and self._loop.time() - due > LATE:
            # The loop was busy with something else: who reads gets its turn first.
            self._give_up_at(self._loop.time() + LATE, waiter)
        elif not waiter.done():
            waiter.set_exception(self._error())
            waiter.exception()  # Whoever waited may be gone.

    def _forget_if_done(self, name: bytes, subscription: _Subscription) -> None:
        if not subscription.wanted and not subscription.sent:
            self._unconfirmed.discard(name)
            if not subscription.pending:
                del self.subscriptions[name]
                self._changed.pop(name, None)

    # A connection

    def begin(self) -> None:
        """Begin with a connection that has been told nothing yet."""
        for name, subscription in list(self.subscriptions.items()):
            subscription.sent = False
            subscription.pending = 0
            if not subscription.wanted:
                del self.subscriptions[name]
        self._changed = dict.fromkeys(self.subscriptions)
        self._unconfirmed = set(self.subscriptions)
        self.news.set()

    @property
    def confirmed(self) -> bool:
        """Whether all that was wanted when it began, and still is, was acknowledged."""
        return not self._unconfirmed

    def take_changes(self) -> tuple[list[bytes], list[bytes]]:
        """Return what to subscribe to and what to unsubscribe from, and note that it was told."""
        changed, self._changed = self._changed, {}
        subscribe, unsubscribe = [], []
        for name in changed:
            subscription = self.subscriptions.get(name)
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
        return subscribe, unsubscribe

    def acknowledge(self, name: bytes) -> None:
        """Note that the server has subscribed this connection."""
        subscription = self.subscriptions.get(name)
        if subscription is None:
            return
        subscription.pending = max(subscription.pending - 1, 0)
        if not subscription.pending and subscription.sent:
            subscription.acknowledged = True
            waiter, subscription.waiter = subscription.waiter, None
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
        self._forget_if_done(name, subscription)
        if name in self._unconfirmed:
            self._unconfirmed.discard(name)
            self.news.set()
