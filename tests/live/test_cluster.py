"""The Redis broker on a cluster, whose slots move and whose primaries die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from django_ws_dispatch import groups
from django_ws_dispatch.brokers import get_broker
from django_ws_dispatch.brokers.history import Keep
from django_ws_dispatch.brokers.presence import Entry, Listed
from django_ws_dispatch.brokers.redis import RedisBroker
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group
from django_ws_dispatch.testing.brokers import BrokerConformance, Recorder
from tests.kit.cluster import Cluster
from tests.kit.members import FakeMember
from tests.kit.valkey import Valkey
from tests.kit.waiting import until, wait_until

from .test_history import ROOM, Publisher, Reader, publishing, reading
from .test_redis import HISTORY, PRESENCE, REDIS_BROKER, delivering

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


class TestConformance(BrokerConformance):
    @pytest.fixture(autouse=True)
    def _server(self, cluster: Cluster) -> None:
        self.location = cluster.url

    def make_broker(self) -> RedisBroker:
        return RedisBroker("default", self.location, {"cluster": True})


def use(cluster: Cluster, settings: Any, **options: object) -> None:
    options = {"cluster": True, **options}
    broker = {"BACKEND": REDIS_BROKER, "LOCATION": cluster.url, "OPTIONS": options}
    settings.WEBSOCKET_BROKERS = {"default": broker}


@pytest_asyncio.fixture
async def site(settings: Any) -> AsyncIterator[Cluster]:
    """A cluster that the test may hurt, and groups that remember on it."""
    settings.WEBSOCKET_GROUPS = {"room:*": {"history": 100_000}}
    with Cluster() as cluster:
        use(cluster, settings)
        yield cluster
        await groups.members.aclose()


def slot_of(group: Group, cluster: Cluster) -> int:
    return cluster.slot_of(f"wsd:{{group:{group.name}}}:")


def check(publisher: Publisher, reader: Reader) -> None:
    """All that was taken came, in order and once; of what was refused nobody knows."""
    assert reader.told is None
    assert reader.got == sorted(set(reader.got))
    assert set(publisher.sent) <= set(reader.got)
    assert set(reader.got) <= {*publisher.sent, *publisher.unsure, publisher.sent[-1] + 1}


@pytest.mark.asyncio
async def test_a_slot_that_moves_under_traffic_loses_nothing(
    site: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    slot = slot_of(ROOM, site)
    async with reading() as first, reading() as second:
        async with publishing() as publisher:
            for _ in range(4):
                await publisher.has_sent(50)
                await asyncio.to_thread(
                    site.move, slot, await asyncio.to_thread(site.elsewhere, slot)
                )
            await publisher.has_sent(50)
        last = publisher.sent[-1]
        for reader in (first, second):
            await until(lambda one=reader: one.told or (one.got and one.got[-1] >= last))
    for reader in (first, second):
        check(publisher, reader)
    assert not publisher.unsure
    assert "follow them" in caplog.text


@pytest.mark.asyncio
async def test_a_primary_that_is_killed_under_traffic_loses_nothing_that_the_cluster_kept(
    site: Cluster,
) -> None:
    slot = slot_of(ROOM, site)
    first, replica = site.primaries[0], site.replica
    if await asyncio.to_thread(site.owner, slot) is not first:
        await asyncio.to_thread(site.move, slot, first)
    async with reading() as reader:
        async with publishing() as publisher:
            await publisher.has_sent(100)
            await asyncio.to_thread(first.kill)
            await asyncio.to_thread(wait_until, lambda: site.is_primary(replica))
            await publisher.has_sent(100)
        last = publisher.sent[-1]
        await until(lambda: reader.told or reader.got[-1] >= last)
    if reader.told is None:
        check(publisher, reader)
    else:
        # What was acknowledged in its last moment, and no replica had yet.
        kept = {int(one.data) for one in (await ROOM.ahistory()).messages}
        assert {*publisher.sent, *reader.got} - kept


@pytest.mark.asyncio
async def test_a_group_between_two_nodes_is_read_and_written(site: Cluster) -> None:
    slot = slot_of(ROOM, site)
    name = f"wsd:{{group:{ROOM.name}}}:"
    async with reading() as reader:
        for number in range(3):
            await ROOM.asend(str(number))
        target = await asyncio.to_thread(site.elsewhere, slot)
        source = await asyncio.to_thread(site.begin_move, slot, target)
        await ROOM.asend("3")
        await until(lambda: reader.got == [0, 1, 2, 3])
        # The position has gone, the messages have not.
        await asyncio.to_thread(site.move_keys, slot, source, target, f"{name}t")
        history = await ROOM.ahistory()
        assert [one.data for one in history.messages] == ["0", "1", "2", "3"]
        assert history.complete
        assert (await ROOM.ahistory(history.position)).complete
        with pytest.raises(BrokerError, match="within 2 s: "):
            await ROOM.asend("refused")
        await asyncio.to_thread(site.move_keys, slot, source, target, f"{name}s")
        # All of it is there, and who reads is not yet: it comes with the slot.
        await ROOM.asend("4")
        await asyncio.to_thread(ROOM.send, "5")
        assert len((await asyncio.to_thread(ROOM.history)).messages) == 6
        await asyncio.to_thread(site.end_move, slot, target)
        await until(lambda: reader.got == [0, 1, 2, 3, 4, 5])
    assert reader.told is None


@pytest.mark.asyncio
async def test_a_new_group_waits_for_the_end_of_a_move(site: Cluster) -> None:
    slot = slot_of(ROOM, site)
    target = await asyncio.to_thread(site.elsewhere, slot)
    await asyncio.to_thread(site.begin_move, slot, target)
    sending = [asyncio.create_task(ROOM.asend("1")), asyncio.create_task(ROOM.aposition())]
    await asyncio.sleep(0)
    await asyncio.to_thread(site.end_move, slot, target)
    await asyncio.gather(*sending)
    assert [one.data for one in (await ROOM.ahistory()).messages] == ["1"]


@pytest.mark.asyncio
async def test_who_is_here_moves_with_the_slot(site: Cluster, settings: Any) -> None:
    settings.WEBSOCKET_GROUPS = {"room:*": {"presence": True, "linger": 0}}
    slot = slot_of(ROOM, site)
    broker = get_broker("default")
    listed = Listed(200, 0.0)
    channel = f"group:{ROOM.name}"
    async with ROOM.watch() as changes:
        assert (await anext(changes)).joined == []
        for number in range(4):
            await broker.atrack(channel, "process", [Entry(f"ann {number}", 1)], listed)
            (joined,) = (await anext(changes)).joined
            assert joined.key == f"ann {number}"
            target = await asyncio.to_thread(site.elsewhere, slot)
            await asyncio.to_thread(site.move, slot, target)
        assert len(await ROOM.apresent()) == 4


@pytest.mark.asyncio
async def test_a_primary_that_stands_still_is_given_up(site: Cluster) -> None:
    first, replica = site.primaries[0], site.replica
    slot = slot_of(ROOM, site)
    if await asyncio.to_thread(site.owner, slot) is not first:
        await asyncio.to_thread(site.move, slot, first)
    async with reading() as reader:
        await ROOM.asend("0")
        await asyncio.to_thread(ROOM.send, "1")
        first.freeze()
        try:
            await asyncio.to_thread(wait_until, lambda: site.is_primary(replica))
            for send in (ROOM.asend, partial(asyncio.to_thread, ROOM.send)):
                # The first one may have asked who stands still.
                while True:
                    try:
                        await send("2")
                    except BrokerError:
                        continue
                    break
            await until(lambda: reader.got[-2:] == [2, 2])
        finally:
            first.thaw()
    assert reader.got[:2] == [0, 1]
    assert reader.told is None


@pytest.mark.asyncio
async def test_a_cluster_that_was_away_is_back(
    site: Cluster, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    use(site, settings, timeout=0.5)
    member, plain = FakeMember(), Group("plain")
    await groups.members.local().join(member, plain)
    await plain.asend("before")
    await until(lambda: member.got == ["before"])
    for node in (*site.primaries, site.replica):
        await asyncio.to_thread(node.kill)
    with pytest.raises(BrokerError, match="did not take a message within"):
        await plain.asend("lost")
    with pytest.raises(BrokerError, match="did not take a message within"):
        await asyncio.to_thread(plain.send, "lost")
    for node in (*site.primaries, site.replica):
        await asyncio.to_thread(node.start)
    await delivering(member, plain)
    assert "Lost the broker 'default'" in caplog.text
    assert "is back" in caplog.text


def test_a_node_without_the_option_names_it(cluster: Cluster) -> None:
    broker = RedisBroker("default", cluster.url, {})
    with pytest.raises(BrokerError, match=r'set OPTIONS\["cluster"\] to True'):  # noqa: PT012
        for number in range(100):  # some of them are in slots of others
            broker.keep(f"group:{number}", b"x", Keep(5, 60.0))
    with pytest.raises(BrokerError, match=r'set OPTIONS\["cluster"\] to True'):
        asyncio.run(broker.atops([f"group:{number}" for number in range(100)]))
    broker.close()


class TestPlainGroupsOnANodeWithoutTheOption:
    """Go on to work: the cluster passes all messages on."""

    @pytest.fixture(autouse=True)
    def _server(self, cluster: Cluster) -> None:
        self.location = cluster.url

    def make_broker(self) -> RedisBroker:
        return RedisBroker("default", self.location, {})

    _run = BrokerConformance._run
    test_a_message_arrives = (
        BrokerConformance.test_a_message_arrives_where_its_channel_is_subscribed
    )
    test_in_order = BrokerConformance.test_messages_of_one_publisher_arrive_in_order
    test_other_processes = BrokerConformance.test_other_processes_get_the_message


def test_a_server_that_is_no_cluster_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def main(broker: RedisBroker) -> None:
        ready = broker.subscriber(Recorder()).subscribe("a")
        with pytest.raises(BrokerError, match=r'leave OPTIONS\["cluster"\] out'):
            await broker.apublish("a", b"x")
        assert ready is not None
        with pytest.raises(BrokerError, match=r'leave OPTIONS\["cluster"\] out'):
            await ready
        await broker.aclose()

    with Valkey(port=None) as server:
        broker = RedisBroker("default", server.url, {"cluster": True, "timeout": 0.5})
        with pytest.raises(BrokerError, match=r'leave OPTIONS\["cluster"\] out'):
            broker.publish("a", b"x")
        asyncio.run(main(broker))
        broker.close()
    assert "No node says where 1 channels are" in caplog.text


# What the docs say that the user of a site needs on a cluster.
CLUSTER = "+spublish +ssubscribe +sunsubscribe +ping +cluster|info +cluster|slots +asking"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    rules = ["resetchannels", "&mysite:*", "-@all", *CLUSTER.split()]
    rules += [*HISTORY.split(), *PRESENCE.split()]
    user = ("--user", "mysite", "on", ">password", *rules)
    with Cluster(*user, "--requirepass", "s", "--primaryauth", "s", login={"password": "s"}) as one:
        yield one


class TestConformanceUnderAnACL(TestConformance):
    @pytest.fixture(autouse=True)
    def _server(self, guarded: Cluster) -> None:
        self.location = guarded.url.replace("redis://", "redis://mysite:password@")

    def make_broker(self) -> RedisBroker:
        return RedisBroker("default", self.location, {"cluster": True, "prefix": "mysite"})
