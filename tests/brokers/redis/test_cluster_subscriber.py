"""The subscriptions of an event loop on a cluster whose nodes the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError

from django_ws_dispatch.brokers.redis import RedisBroker, cluster_subscriber
from django_ws_dispatch.brokers.redis.cluster import Cluster
from django_ws_dispatch.brokers.redis.cluster_subscriber import ClusterSubscriber
from django_ws_dispatch.brokers.redis.nodes import Node
from django_ws_dispatch.brokers.supervised import ACKNOWLEDGED, MESSAGE
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.testing.brokers import Recorder
from tests.brokers.test_supervised import FakeConnection
from tests.kit.waiting import until

pytestmark = pytest.mark.asyncio

LOW, HIGH = b"{b}", b"{a}"  # of the first half of the slots, and of the second


class Told(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.lost: list[Any] = []
        self.back: list[Any] = []

    def on_lost(self, channels: Any = None) -> None:
        self.lost.append(channels)

    def on_reconnect(self, channels: Any = None) -> None:
        self.back.append(channels)
        super().on_reconnect(channels)


class Site:
    """A cluster of two nodes, as its nodes say, and what is subscribed to there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, timeout: float = 60) -> None:
        broker = RedisBroker("default", "redis://start", {"cluster": True, "timeout": timeout})
        (cluster,) = broker.nodes
        assert isinstance(cluster, Cluster)
        self.cluster = cluster
        self.one, self.two = cluster.at("one", 7001), cluster.at("two", 7002)
        self.owners: tuple[Node, Node] | Exception = (self.one, self.two)
        self.connections: dict[Node, FakeConnection] = {}
        self.asked: list[Node | None] = []
        self.recorder = Told()
        monkeypatch.setattr(cluster_subscriber, "LOOK", 60)
        monkeypatch.setattr(cluster_subscriber, "PAUSE", 0.001)
        monkeypatch.setattr(Node, "aconnect", self._connect)
        monkeypatch.setattr(cluster_subscriber, "_Connection", self._make)
        calls: Any = self
        self.subscriber = ClusterSubscriber(cluster, broker, self.recorder, calls)

    async def _connect(self) -> Any:
        return None

    def _make(self, _: Any, lose: Any, lose_slot: Any) -> FakeConnection:
        connection = FakeConnection()
        connection.lose, connection.lose_slot = lose, lose_slot  # type: ignore[attr-defined]
        self.connections[lose.__self__.node] = connection
        return connection

    async def refresh(self, first: Node | None, last: Node | None) -> None:
        self.asked.append(first)
        if isinstance(self.owners, Exception):
            raise self.owners
        one, two = ([node.name.split("/")[2].split(":")[0].encode()] for node in self.owners)
        ports = [self.cluster._addresses[node][1] for node in self.owners]
        self.cluster._learn(
            self.one, [[0, 8191, [*one, ports[0], b""]], [8192, 16383, [*two, ports[1], b""]]]
        )

    async def subscribe(self, name: bytes) -> None:
        ready = self.subscriber.subscribe(name.decode(), name)
        assert ready is not None
        await ready


@pytest_asyncio.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    site = Site(monkeypatch)
    yield site
    await site.subscriber.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_each_channel_is_subscribed_to_where_its_slot_is(site: Site) -> None:
    await asyncio.gather(site.subscribe(LOW), site.subscribe(HIGH))
    assert site.connections[site.one].told == [("subscribe", [LOW])]
    assert site.connections[site.two].told == [("subscribe", [HIGH])]
    assert site.subscriber.subscribe("{b}", LOW) is None
    site.connections[site.two].coming.put_nowait([MESSAGE, HIGH, b"x"])
    await site.recorder.until(lambda: site.recorder.got == [("{a}", b"x")])
    assert site.recorder.back == site.recorder.lost == []


async def test_a_channel_is_let_go_of_where_it_is(site: Site) -> None:
    await site.subscribe(LOW)
    site.subscriber.unsubscribe(LOW)
    await until(lambda: len(site.connections[site.one].told) == 2)
    assert site.connections[site.one].told[-1] == ("unsubscribe", [LOW])
    site.subscriber.unsubscribe(b"never subscribed")


@pytest.mark.parametrize("how", ["pushed", "refused"])
async def test_a_channel_follows_its_slot(
    how: str, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.subscribe(LOW)
    site.owners = (site.two, site.two)
    connection: Any = site.connections[site.one]
    if how == "pushed":
        connection.lose(LOW)
    else:
        connection.lose_slot(key_slot(LOW))
    await site.recorder.until(lambda: site.recorder.reconnects == 1)
    assert site.asked[-1] is site.one
    assert site.connections[site.two].told == [("subscribe", [LOW])]
    assert site.recorder.lost == [["{b}"]]
    assert site.recorder.back == [{"{b}"}]
    await until(lambda: connection.closed)
    assert "1 channels follow them" in caplog.text
    # What the old node still says is not heard.
    site.connections[site.two].coming.put_nowait([MESSAGE, LOW, b"x"])
    await site.recorder.until(lambda: site.recorder.got == [("{b}", b"x")])


async def test_the_answer_to_an_unsubscription_is_no_loss(site: Site) -> None:
    await site.subscribe(LOW)
    connection: Any = site.connections[site.one]
    connection.silent = True
    site.subscriber.unsubscribe(LOW)
    await until(lambda: len(connection.told) == 2)
    ready = site.subscriber.subscribe("{b}", LOW)
    await until(lambda: len(connection.told) == 3)
    connection.lose(LOW)
    assert not site.recorder.lost
    connection.coming.put_nowait([ACKNOWLEDGED, LOW, b""])
    assert ready is not None
    await ready


async def test_the_channels_of_a_lost_node_go_where_the_slot_goes(site: Site) -> None:
    await asyncio.gather(site.subscribe(LOW), site.subscribe(HIGH))
    site.owners = (site.two, site.two)
    site.connections[site.one].coming.put_nowait(RedisConnectionError("gone"))
    await until(lambda: any(site.recorder.back))
    await until(lambda: len(site.subscriber._nodes) == 1)
    assert ("subscribe", [LOW]) in site.connections[site.two].told
    # Nobody else has missed anything.
    assert site.recorder.lost[0] == ["{b}"]
    assert [{*one} for one in site.recorder.back if one] == [{"{b}"}]


async def test_a_look_now_and_then_finds_what_nobody_said(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_subscriber, "LOOK", 0.002)
    await site.subscribe(LOW)
    site.owners = (site.two, site.two)
    await site.recorder.until(lambda: site.recorder.reconnects == 1)
    assert site.connections[site.two].told == [("subscribe", [LOW])]


async def test_who_waits_is_told_why_no_node_is_known(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(monkeypatch, timeout=0.05)
    site.owners = RedisConnectionError("nobody is there")
    with pytest.raises(BrokerError, match=r"within 0.05 s: nobody is there\."):
        await site.subscribe(LOW)
    site.owners = (site.one, site.two)
    await until(lambda: site.connections)
    await site.subscriber.aclose()
    assert "No node says where 1 channels are" in caplog.text


async def test_closing_tells_who_waits_for_a_node(site: Site) -> None:
    site.owners = RedisConnectionError("nobody is there")
    ready = site.subscriber.subscribe("a", b"a")
    await site.subscriber.aclose()
    assert ready is not None
    with pytest.raises(BrokerError):
        await ready


class Shard:
    """A connection of redis-py that reads what the test says."""

    is_connected = True

    def __init__(self, *coming: Any) -> None:
        self.coming = list(coming)
        self.sent: list[Any] = []

    async def read_response(self, **_: Any) -> Any:
        coming = self.coming.pop(0)
        if isinstance(coming, Exception):
            raise coming
        return coming

    def pack_commands(self, commands: Any) -> Any:
        return commands

    async def send_packed_command(self, commands: Any) -> None:
        self.sent += commands


async def test_the_words_of_sharded_pub_sub_are_those_of_any() -> None:
    lost: list[Any] = []
    shard = Shard(
        [b"ssubscribe", b"a", 1],
        [b"smessage", b"a", b"x"],
        [b"sunsubscribe", b"a", 0],
        [b"sunsubscribe", None, 0],
        MovedError("3300 two:7002"),
        b"PONG",
    )
    connection = cluster_subscriber._Connection(shard, lost.append, lost.append)
    read = [await connection.read() for _ in range(6)]
    assert read[:2] == [[ACKNOWLEDGED, b"a", 1], [MESSAGE, b"a", b"x"]]
    assert read[-2:] == [None, b"PONG"]
    assert lost == [b"a", 3300]


async def test_each_channel_is_a_command_of_its_own() -> None:
    shard = Shard()
    connection = cluster_subscriber._Connection(shard, lambda _: None, lambda _: None)
    await connection.subscribe([b"a", b"b"])
    await connection.unsubscribe([b"a"])
    assert shard.sent == [("SSUBSCRIBE", b"a"), ("SSUBSCRIBE", b"b"), ("SUNSUBSCRIBE", b"a")]
    shard.is_connected = False
    with pytest.raises(RedisConnectionError):
        await connection.subscribe([b"a"])
