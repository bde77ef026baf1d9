"""The broker itself: which server has a channel, and what there is in each event loop."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from ...loops import PerLoop
from ..base import BaseBroker, BaseSubscriber, Receiver
from ..history import Keep, Page, Top
from ..presence import Entry, Listed, Roll, Tracked
from .calls import AsyncCalls, Calls
from .cluster import Cluster
from .cluster_calls import AsyncClusterCalls, ClusterCalls
from .cluster_subscriber import ClusterSubscriber
from .history import History, Steps
from .nodes import Location, Node, SentinelNode
from .presence import Presence
from .subscriber import RedisSubscriber

__all__ = ["RedisBroker"]

DEFAULT_PREFIX = "wsd"

T = TypeVar("T")


class RedisBroker(BaseBroker):
    """Reaches every process that has the same ``LOCATION`` and prefix.

    ``LOCATION`` is a URL as redis-py has it: ``redis://[user:password@]host:port/db``, ``rediss://``
    for TLS, ``unix:///path``. Of a Redis Cluster it is any node.
    A list of URLs are servers of their own that share the groups among them, by a hash of the name.

    The keys of ``OPTIONS``:

    - ``cluster``: ``True`` if ``LOCATION`` is a node of a Redis Cluster (Redis 7, Valkey 7.2), of
      which each primary has its share of the groups. Without it a node serves groups without
      history and presence alone, and the whole cluster passes on each of their messages.
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

    has_history = True
    has_presence = True
    option_names = frozenset({"cluster", "connection", "prefix", "sentinel", "timeout"})

    def __init__(self, alias: str, location: object, options: Mapping[str, Any]) -> None:
        super().__init__(alias, location, options)
        prefix = options.get("prefix", DEFAULT_PREFIX)
        if not isinstance(prefix, str):
            raise self.misconfigured(f'OPTIONS["prefix"] must be a str, not {prefix!r}.')
        if "{" in prefix or "}" in prefix:
            raise self.misconfigured(
                f'OPTIONS["prefix"] must have no brace, not {prefix!r}: in the names of keys they '
                "say which server of a cluster has them."
            )
        connection = options.get("connection", {})
        if not isinstance(connection, Mapping):
            raise self.misconfigured(
                'OPTIONS["connection"] must be a dict of keyword arguments of redis-py\'s '
                f"connections, not {type(connection).__name__}."
            )
        self._in_cluster = options.get("cluster", False)
        if not isinstance(self._in_cluster, bool):
            raise self.misconfigured(
                f'OPTIONS["cluster"] must be True or False, not {self._in_cluster!r:.40}.'
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
        self._calls = [self._calls_of(node) for node in self.nodes]
        self._history = History(self._key, self._name)
        self._presence = Presence(self._key, self._name)
        self._local = PerLoop(partial(_Local, self))

    def _nodes(self, location: object, sentinel: object, connection: dict[str, Any]) -> list[Node]:
        urls = location if isinstance(location, (list, tuple)) else [location]
        if not urls:
            raise ValueError("the list is empty")
        if self._in_cluster:
            return [self._cluster(location, sentinel, connection)]
        if sentinel is None:
            return [Node(Location(url), connection) for url in urls]
        if not isinstance(sentinel, str):
            raise self.misconfigured(
                'OPTIONS["sentinel"] must be the name of a service that the Sentinels know, '
                f'such as "mymaster", not {type(sentinel).__name__}.'
            )
        return [SentinelNode(sentinel, [Location(url) for url in urls], connection)]

    def _cluster(self, location: object, sentinel: object, connection: dict[str, Any]) -> Cluster:
        if sentinel is not None:
            raise self.misconfigured(
                'OPTIONS["cluster"] and OPTIONS["sentinel"] exclude each other: a cluster elects '
                "its primaries itself. Leave one of them out."
            )
        if isinstance(location, (list, tuple)):
            raise self.misconfigured(
                'with OPTIONS["cluster"] LOCATION is the URL of any one node, since the cluster '
                "tells of the others; a list is servers of their own. Write one of them, as a "
                'str, or leave OPTIONS["cluster"] out.'
            )
        parsed = Location(location)
        if parsed.name.startswith("unix:"):
            raise self.misconfigured(
                'with OPTIONS["cluster"] LOCATION must not be a unix socket: the nodes of a '
                "cluster are reached by TCP. Write redis:// or rediss://."
            )
        return Cluster(parsed, connection)

    def _calls_of(self, node: Node) -> Calls | ClusterCalls:
        return ClusterCalls(node, self) if isinstance(node, Cluster) else Calls(node, self)

    def _channel(self, channel: str) -> tuple[bytes, int]:
        """Return the channel's name on the wire, and which node has it."""
        if self._in_cluster:
            return self._key(channel), 0  # the cluster knows where
        name = self._prefix + channel.encode(errors="surrogatepass")
        count = len(self._calls)
        return name, zlib.crc32(name) % count if count > 1 else 0

    def _name(self, channel: str) -> bytes:
        return self._channel(channel)[0]

    def _key(self, channel: str) -> bytes:
        """Return what the keys of a channel begin with: in a cluster they are in one slot."""
        for one in "%{}":
            channel = channel.replace(one, f"%{ord(one):02X}")
        channel = channel or "%"  # braces with nothing in them are none
        return self._prefix + f"{{{channel}}}:".encode(errors="surrogatepass")

    def publish(self, channel: str, message: bytes) -> None:
        name, node = self._channel(channel)
        self._calls[node].publish(name, message)

    async def apublish(self, channel: str, message: bytes) -> None:
        name, node = self._channel(channel)
        await self._local().calls[node].publish(name, message)

    def _run(self, channel: str, steps: Steps[T]) -> T:
        calls = self._calls[self._channel(channel)[1]]
        answer = None
        try:
            while True:
                answer = calls.call(steps.send(answer))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _arun(self, node: int, steps: Steps[T]) -> T:
        calls = self._local().calls[node]
        answer = None
        while True:
            try:
                call = steps.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            answer = await calls.call(call)

    def keep(self, channel: str, message: bytes, keep: Keep, *, order: bool = False) -> str:
        return self._run(channel, self._history.keep(channel, message, keep, order))

    async def akeep(self, channel: str, message: bytes, keep: Keep, *, order: bool = False) -> str:
        steps = self._history.keep(channel, message, keep, order)
        return await self._arun(self._channel(channel)[1], steps)

    def read(
        self, channel: str, since: str, keep: Keep, count: int, *, heard: bool = False
    ) -> Page:
        return self._run(channel, self._history.read(channel, since, keep, count, heard))

    async def aread(
        self, channel: str, since: str, keep: Keep, count: int, *, heard: bool = False
    ) -> Page:
        steps = self._history.read(channel, since, keep, count, heard)
        return await self._arun(self._channel(channel)[1], steps)

    def newest(self, channel: str, keep: Keep, count: int, before: str | None = None) -> Page:
        return self._run(channel, self._history.newest(channel, keep, count, before))

    async def anewest(
        self, channel: str, keep: Keep, count: int, before: str | None = None
    ) -> Page:
        steps = self._history.newest(channel, keep, count, before)
        return await self._arun(self._channel(channel)[1], steps)

    async def atops(self, channels: Sequence[str]) -> list[Top | None]:
        shares: dict[int, list[str]] = {}
        for channel in dict.fromkeys(channels):
            shares.setdefault(self._channel(channel)[1], []).append(channel)
        found: dict[str, Top | None] = {}
        for node, share in shares.items():
            tops = await self._arun(node, self._history.tops(share))
            found.update(zip(share, tops, strict=True))
        return [found[channel] for channel in channels]

    def top(self, channel: str, keep: Keep) -> Top:
        return self._run(channel, self._history.top(channel, keep))

    async def atop(self, channel: str, keep: Keep) -> Top:
        return await self._arun(self._channel(channel)[1], self._history.top(channel, keep))

    def forget(self, channel: str, keep: Keep) -> None:
        self._run(channel, self._history.forget(channel, keep))

    async def aforget(self, channel: str, keep: Keep) -> None:
        await self._arun(self._channel(channel)[1], self._history.forget(channel, keep))

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
        steps = self._presence.track(
            channel, tracker, entries, listed, roll, away, ends, replaces, replaced
        )
        return await self._arun(self._channel(channel)[1], steps)

    def snapshot(self, channel: str, most: int) -> Roll:
        return self._run(channel, self._presence.snapshot(channel, most))

    async def asnapshot(self, channel: str, most: int) -> Roll:
        steps = self._presence.snapshot(channel, most)
        return await self._arun(self._channel(channel)[1], steps)

    def subscriber(self, receiver: Receiver) -> BaseSubscriber:
        local = self._local()
        subscriber = _Subscriber(self, receiver, local)
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
        self.calls = [
            AsyncClusterCalls(node, broker)
            if isinstance(node, Cluster)
            else AsyncCalls(node, broker)
            for node in broker.nodes
        ]
        self.subscribers: list[_Subscriber] = []


class _Subscriber(BaseSubscriber):
    """Sends each channel to the subscriber of its node."""

    def __init__(self, broker: RedisBroker, receiver: Receiver, local: _Local) -> None:
        self._broker = broker
        self._subscribers = [
            ClusterSubscriber(node, broker, receiver, calls)
            if isinstance(node, Cluster) and isinstance(calls, AsyncClusterCalls)
            else RedisSubscriber(node, broker, receiver)
            for node, calls in zip(broker.nodes, local.calls, strict=True)
        ]

    def subscribe(self, channel: str) -> asyncio.Future[None] | None:
        name, node = self._broker._channel(channel)
        return self._subscribers[node].subscribe(channel, name)

    def unsubscribe(self, channel: str) -> None:
        name, node = self._broker._channel(channel)
        self._subscribers[node].unsubscribe(name)

    async def aclose(self) -> None:
        for subscriber in self._subscribers:
            await subscriber.aclose()
