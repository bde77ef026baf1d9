"""What a broker is: it carries bytes from any process to every process that asked for them.

A broker knows channels (a ``str``, any characters) and messages (``bytes``), nothing else: no
group, no socket, no JSON. To write one, derive from ``BaseBroker`` and ``BaseSubscriber`` and run
``django_ws_dispatch.testing.brokers.BrokerConformance`` on it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from django.core.exceptions import ImproperlyConfigured

from .history import Keep, Page, Top
from .presence import Entry, Listed, Roll, Tracked

__all__ = ["BaseBroker", "BaseSubscriber", "Receiver"]

DEFAULT_TIMEOUT = 2.0
# Seconds: less is over before a broker can answer, more is more than sockets and timers take.
SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 0.01, 3600


class Receiver(Protocol):
    """Whom a subscriber tells what happens. It is called in the subscriber's loop, never raises."""

    def on_message(self, channel: str, message: bytes) -> asyncio.Future[None] | None:
        """Take a message.

        Returns:
            ``None``, or a future that is done once there is room for more: a subscriber waits for
            it before it reads on. That is the only back-pressure there is.
        """

    def on_lost(self, channels: Collection[str] | None = None) -> None:
        """The server is away: from here on messages may be lost, of all channels or of these."""

    def on_reconnect(self, channels: Collection[str] | None = None) -> None:
        """Messages may have been lost, and all of that is subscribed to again."""


class BaseSubscriber(ABC):
    """The subscriptions of one event loop on one broker.

    All methods are called in that loop. It does not raise when the broker is lost: it comes back by
    itself, subscribes to everything again, and then calls ``receiver.on_reconnect()`` once;
    ``receiver.on_lost()`` came before. Where it has several servers, each of them is a server of
    its own for that, and may name its channels.
    """

    @abstractmethod
    def subscribe(self, channel: str) -> asyncio.Future[None] | None:
        """Ask for the messages of ``channel``; never suspends.

        Returns:
            ``None`` if messages published from now on arrive. Otherwise a future that is done once
            they do, or has a ``BrokerError`` when the broker did not answer within
            ``broker.timeout`` seconds; the channel stays asked for until ``unsubscribe()``. Several
            callers may wait for the same future.
        """

    @abstractmethod
    def unsubscribe(self, channel: str) -> None:
        """Nobody needs ``channel`` any more; never suspends and never raises.

        What still arrives is ignored by the receiver, so it may take its time; a ``subscribe()``
        that follows at once must not miss anything that is published after it is done.
        """


class BaseBroker(ABC):
    """One entry of ``WEBSOCKET_BROKERS``.

    There is one object per process. ``publish()`` is called from any thread, ``apublish()`` and
    ``subscriber()`` from any event loop; what a process holds in one loop is released by
    ``aclose()`` there. A process may fork after the object was made.

    Args:
        alias: its key in ``WEBSOCKET_BROKERS``.
        location: its ``LOCATION``, ``None`` if there is none.
        options: its ``OPTIONS``. Every broker takes ``timeout``, the seconds within which a
            publisher is told that the broker did not take a message (0.01 to 3600, default 2).

    Raises:
        ImproperlyConfigured: something is wrong with them. Making the object makes no connection.
    """

    option_names: ClassVar[frozenset[str]] = frozenset({"timeout"})
    """The keys of ``OPTIONS`` that the broker knows."""

    in_process: ClassVar[bool] = False
    """True if messages reach this process only."""

    has_history: ClassVar[bool] = False
    """True if it remembers messages: it has all from ``keep()`` to ``aforget()`` below."""

    has_presence: ClassVar[bool] = False
    """True if it knows who is here: it has ``atrack()``, ``snapshot()`` and ``asnapshot()``."""

    def __init__(self, alias: str, location: object, options: Mapping[str, Any]) -> None:
        self.alias = alias
        self.location = location
        unknown = sorted(map(str, set(options) - self.option_names))
        if unknown:
            raise self.misconfigured(
                f"OPTIONS does not know {', '.join(unknown)}; it takes "
                f"{', '.join(sorted(self.option_names))}."
            )
        self.timeout = self.seconds_of(
            options, "timeout", DEFAULT_TIMEOUT, SHORTEST_TIMEOUT, LONGEST_TIMEOUT
        )

    def seconds_of(
        self,
        options: Mapping[str, Any],
        name: str,
        default: float,
        shortest: float,
        longest: float,
    ) -> float:
        """Return one of the ``OPTIONS``, a number of seconds.

        Args:
            options: all of them.
            name: its key.
            default: where it is left out.
            shortest, longest: its bounds.

        Raises:
            ImproperlyConfigured: it is no such number.
        """
        seconds = options.get(name, default)
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, (int, float))
            or not shortest <= seconds <= longest
        ):
            raise self.misconfigured(
                f'OPTIONS["{name}"] must be a number of seconds from {shortest:g} to '
                f"{longest:g}, not {seconds!r:.40}; {default:g} is the default."
            )
        return float(seconds)

    def misconfigured(self, problem: str) -> ImproperlyConfigured:
        """Return the exception that says what is wrong with this entry of the setting."""
        return ImproperlyConfigured(f"WEBSOCKET_BROKERS[{self.alias!r}]: {problem}")

    @abstractmethod
    def publish(self, channel: str, message: bytes) -> None:
        """Hand ``message`` over, from sync code in any thread.

        What one thread publishes to one channel arrives in that order.

        Raises:
            BrokerError: the broker did not take it within ``timeout`` seconds, one retry on a fresh
                connection included where the first was found broken.
        """

    @abstractmethod
    async def apublish(self, channel: str, message: bytes) -> None:
        """Hand ``message`` over, from the running event loop, which it never blocks.

        It arrives behind what a thread has published to the channel before.

        Cancellation does not rule out that the message was sent.

        Raises:
            BrokerError: as ``publish()``.
        """

    @abstractmethod
    def subscriber(self, receiver: Receiver) -> BaseSubscriber:
        """Return a new subscriber of the running event loop; makes no connection yet."""

    @abstractmethod
    async def aclose(self) -> None:
        """Release what there is in the running event loop, its subscribers included."""

    # History: optional. A broker that has none says so in ``has_history``.

    def keep(self, channel: str, message: bytes, keep: Keep, *, order: bool = False) -> str | None:
        """Keep ``message`` and publish it, in one step: what is delivered was kept before.

        One call keeps it once, also where it tries again on a fresh connection.

        Args:
            channel: of any name.
            message: is published as ``history.kept()`` has it.
            keep: how many messages, and for how long.
            order: it is no message, but an order to those who hear it: it does not count.

        Returns:
            Its position; ``None`` if it is sent when a transaction commits, and has none before.

        Raises:
            BrokerError: as ``publish()``; or the store refuses to write, and nothing is published.
        """
        raise NotImplementedError

    async def akeep(
        self, channel: str, message: bytes, keep: Keep, *, order: bool = False
    ) -> str | None:
        """See ``keep()``. Cancellation does not rule out that it was kept and sent."""
        raise NotImplementedError

    def read(
        self, channel: str, since: str, keep: Keep, count: int, *, heard: bool = False
    ) -> Page:
        """Read up to ``count`` entries behind a position.

        Args:
            channel: of any name.
            since: anything that a client may bring; the page is not ``known`` unless it is a
                position of which nothing behind it is missing.
            keep: as for ``keep()``.
            count: entries, 1 or more.
            heard: this process has heard the message of that position, and every one before it. If
                the store does not know it, and has not merely dropped it, then it went back in
                time: it begins a new epoch, and everybody is told with ``RESET``. To who has heard
                all but ``FORGOTTEN`` the position before that is known, and to nobody else.

        Raises:
            BrokerError: as ``publish()``.
        """
        raise NotImplementedError

    async def aread(
        self, channel: str, since: str, keep: Keep, count: int, *, heard: bool = False
    ) -> Page:
        """See ``read()``."""
        raise NotImplementedError

    def newest(self, channel: str, keep: Keep, count: int, before: str | None = None) -> Page:
        """Read up to ``count`` of the newest entries, or of those before a position.

        The page is ``known``; its entries are oldest first, orders among them.

        Raises:
            BrokerError: as ``publish()``.
        """
        raise NotImplementedError

    async def anewest(
        self, channel: str, keep: Keep, count: int, before: str | None = None
    ) -> Page:
        """See ``newest()``."""
        raise NotImplementedError

    async def atops(self, channels: Sequence[str]) -> list[Top | None]:
        """Return where channels stand, ``None`` where the store has nothing of one.

        Raises:
            BrokerError: as ``publish()``.
        """
        raise NotImplementedError

    def top(self, channel: str, keep: Keep) -> Top:
        """Return where a channel stands. Of one without messages it makes a position for all.

        Raises:
            BrokerError: as ``publish()``.
        """
        raise NotImplementedError

    async def atop(self, channel: str, keep: Keep) -> Top:
        """See ``top()``."""
        raise NotImplementedError

    def forget(self, channel: str, keep: Keep) -> None:
        """Drop what is kept, and leave and publish ``FORGOTTEN`` in its place, an order.

        Raises:
            BrokerError: as ``publish()``.
        """
        raise NotImplementedError

    async def aforget(self, channel: str, keep: Keep) -> None:
        """See ``forget()``."""
        raise NotImplementedError

    # Presence: optional. A broker that has none says so in ``has_presence``.

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
        """Take what a tracker says of its sockets, and publish in one step what that changes.

        To say the same twice changes nothing. Trackers that were silent for ``EXPIRY`` seconds, and
        keys that linger no more, are swept, a bounded number in one call: whoever sweeps one tells
        of it, and nobody else does.

        Args:
            channel: of any name.
            tracker: unique and unguessable; one of an event loop in this process, and of a channel.
            entries: keys of which it has another number of sockets than before, or other info; none
                to say that it is there still.
            listed: how many keys are listed, and for how long one lingers.
            roll: answer with all who are here.
            away: the broker was away, as far as is known: no tracker is gone for ``GRACE`` seconds,
                nor does one that says something itself after its time.
            ends: it has no sockets any more, and is not here.
            replaces: another tracker, from which the sockets of the entries' keys are taken over.
            replaced: of what is left of that one nothing counts: it is swept at once.

        Raises:
            BrokerError: as ``publish()``.
        """
        raise NotImplementedError

    def snapshot(self, channel: str, most: int) -> Roll:
        """Return who is here, the first ``most`` of them listed. It changes nothing.

        Raises:
            BrokerError: as ``publish()``.
        """
        raise NotImplementedError

    async def asnapshot(self, channel: str, most: int) -> Roll:
        """See ``snapshot()``."""
        raise NotImplementedError

    def close(self) -> None:  # noqa: B027 - most brokers have nothing to do here
        """Release what belongs to no event loop: the setting has changed."""
