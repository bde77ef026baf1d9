"""The broker itself: which server has a channel, and what there is in each event loop."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ...loops import PerLoop
from ..base import BaseBroker, BaseSubscriber, Receiver
from ..history import Keep, Page, Top
from .calls import AsyncCalls, Calls
from .history import Command, History, atake, take
from .nodes import Location, Node, SentinelNode
from .subscriber import RedisSubscriber

__all__ = ["RedisBroker"]

DEFAULT_PREFIX = "wsd"
# Commands in one round trip.
BATCH = 500


class RedisBroker(BaseBroker):
    """Reaches every process that has the same ``LOCATION`` and prefix.

    ``LOCATION`` is a URL as redis-py has it: ``redis://[user:password@]host:port/db``, ``rediss://``
    for TLS, ``unix:///path``. Of a Redis Cluster it is any node: the cluster passes messages on.
    A list of URLs are servers of their own that share the groups among them, by a hash of the name.

    The keys of ``OPTIONS``:

    - ``prefix`` stands before every channel (default ``"wsd"``). Redis does not keep the channels
      of its databases apart: two sites on one server need two prefixes.
    - ``timeout``: seconds within which a publisher, or a join, gets a ``BrokerError`` (0.01 to
      3600, default 2).
    - ``sentinel``: the name of a service. The URLs of ``LOCATION`` are then those of Sentinels.
    - ``connection``: further keyword arguments of redis-py's connections, such as
      ``ssl_ca_certs``, or ``username`` and ``password`` where Sentinels tell the address. Those of
      TLS (``ssl_...``) are for the Sentinels too, but for what their own URL says; what a
      Sentinel's URL says of TLS is for the primary too, but for what stands here.
    """

    option_names = frozenset({"connection", "prefix", "sentinel", "timeout"})
    has_history = True

    def __init__(self, alias: str, location: object, options: Mapping[str, Any]) -> None:
        super().__init__(alias, location, options)
        prefix = options.get("prefix", DEFAULT_PREFIX)
        if not isinstance(prefix, str):
            raise self.misconfigured(f'OPTIONS["prefix"] must be a str, not {prefix!r}.')
        if "{" in prefix or "}" in prefix:
            # The braces in a key say which slot of a cluster it is in.
            raise self.misconfigured(f'OPTIONS["prefix"] has no {{ and no }}, unlike {prefix!r}.')
        connection = options.get("connection", {})
        if not isinstance(connection, Mapping):
            raise self.misconfigured(
                'OPTIONS["connection"] must be a dict of keyword arguments of redis-py\'s '
                f"connections, not {type(connection).__name__}."
            )
        try:
            self.nodes = self._nodes(location, options.get("sentinel"), dict(connection))
        except ValueError as exc:
            raise self.misconfigured(
                f'LOCATION: {exc}. Write a URL such as "redis://127.0.0.1:6379/0", '
                '"rediss://user:password@host:6379/0" or "unix:///run/valkey.sock", '
                "or a list of them."
            ) from exc
        self._prefix = f"{prefix}:".encode(errors="surrogatepass")
        for node in self.nodes:
            node.channels = f"{prefix}:*"
        self._calls = [Calls(node, self) for node in self.nodes]
        self._local = PerLoop(partial(_Local, self))

    def _nodes(self, location: object, sentinel: object, connection: dict[str, Any]) -> list[Node]:
        urls = location if isinstance(location, (list, tuple)) else [location]
        if not urls:
            raise ValueError("the list is empty")
        if sentinel is None:
            return [Node(Location(url), connection) for url in urls]
        if not isinstance(sentinel, str):
            raise self.misconfigured(
                'OPTIONS["sentinel"] must be the name of a service that the Sentinels know, '
                f'such as "mymaster", not {type(sentinel).__name__}.'
            )
        return [SentinelNode(sentinel, [Location(url) for url in urls], connection)]

    def _channel(self, channel: str) -> tuple[bytes, int]:
        """Return the channel's name on the wire, and which node has it."""
        name = self._prefix + channel.encode(errors="surrogatepass")
        count = len(self._calls)
        return name, zlib.crc32(name) % count if count > 1 else 0

    def publish(self, channel: str, message: bytes) -> None:
        name, node = self._channel(channel)
        self._calls[node].publish(name, message)

    async def apublish(self, channel: str, message: bytes) -> None:
        name, node = self._channel(channel)
        await self._local().calls[node].publish(name, message)

    # History

    def _history(self, channel: str) -> tuple[History, int]:
        name, node = self._channel(channel)
        return History(self._prefix, channel, name), node

    def keep(self, channel: str, message: bytes, keep: Keep, *, order: bool = False) -> str:
        history, node = self._history(channel)
        first, again = history.keep(message, keep, order=order)
        return history.position(*self._calls[node].call([first], [again]))

    async def akeep(self, channel: str, message: bytes, keep: Keep, *, order: bool = False) -> str:
        history, node = self._history(channel)
        first, again = history.keep(message, keep, order=order)
        return history.position(*await self._local().calls[node].call([first], [again]))

    def read(
        self, channel: str, since: str, keep: Keep, count: int, *, heard: bool = False
    ) -> Page:
        history, node = self._history(channel)
        return take(history.read(since, keep, count, heard=heard), self._calls[node].call)

    async def aread(
        self, channel: str, since: str, keep: Keep, count: int, *, heard: bool = False
    ) -> Page:
        history, node = self._history(channel)
        steps = history.read(since, keep, count, heard=heard)
        return await atake(steps, self._local().calls[node].call)

    def newest(self, channel: str, keep: Keep, count: int, before: str | None = None) -> Page:
        history, node = self._history(channel)
        return take(history.newest(keep, count, before), self._calls[node].call)

    async def anewest(
        self, channel: str, keep: Keep, count: int, before: str | None = None
    ) -> Page:
        history, node = self._history(channel)
        return await atake(history.newest(keep, count, before), self._local().calls[node].call)

    async def atops(self, channels: Sequence[str]) -> list[Top | None]:
        wanted: dict[int, list[Command]] = {}
        where = []
        for channel in channels:
            history, node = self._history(channel)
            commands = wanted.setdefault(node, [])
            where.append((node, len(commands)))
            commands.append(history.get())
        answers = {
            node: [
                answer
                for start in range(0, len(commands), BATCH)
                for answer in await self._local().calls[node].call(commands[start : start + BATCH])
            ]
            for node, commands in wanted.items()
        }
        return [History.as_top(answers[node][index]) for node, index in where]

    def top(self, channel: str, keep: Keep) -> Top:
        history, node = self._history(channel)
        return take(history.top(keep), self._calls[node].call)

    async def atop(self, channel: str, keep: Keep) -> Top:
        history, node = self._history(channel)
        return await atake(history.top(keep), self._local().calls[node].call)

    def forget(self, channel: str, keep: Keep) -> None:
        history, node = self._history(channel)
        first, again = history.forget(keep)
        history.position(*self._calls[node].call([first], [again]))

    async def aforget(self, channel: str, keep: Keep) -> None:
        history, node = self._history(channel)
        first, again = history.forget(keep)
        history.position(*await self._local().calls[node].call([first], [again]))

    def subscriber(self, receiver: Receiver) -> BaseSubscriber:
        local = self._local()
        subscriber = _Subscriber(self, receiver)
        local.subscribers.append(subscriber)
        return subscriber

    async def aclose(self) -> None:
        local = self._local.pop()
        if local is not None:
            for subscriber in local.subscribers:
                await subscriber.aclose()
            for calls in local.calls:
                await calls.aclose()

    def close(self) -> None:
        for calls in self._calls:
            calls.close()


class _Local:
    """What a broker has in one event loop."""

    def __init__(self, broker: RedisBroker) -> None:
        self.calls = [AsyncCalls(node, broker) for node in broker.nodes]
        self.subscribers: list[_Subscriber] = []


class _Subscriber(BaseSubscriber):
    """Sends each channel to the subscriber of its node."""

    def __init__(self, broker: RedisBroker, receiver: Receiver) -> None:
        self._broker = broker
        self._subscribers = [RedisSubscriber(node, broker, receiver) for node in broker.nodes]

    def subscribe(self, channel: str) -> asyncio.Future[None] | None:
        name, node = self._broker._channel(channel)
        return self._subscribers[node].subscribe(channel, name)

    def unsubscribe(self, channel: str) -> None:
        name, node = self._broker._channel(channel)
        self._subscribers[node].unsubscribe(name)

    async def aclose(self) -> None:
        for subscriber in self._subscribers:
            await subscriber.aclose()
