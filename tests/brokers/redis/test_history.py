"""What a real server remembers, and what it does where it lost some of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured

from django_ws_dispatch.brokers.history import RESET, Keep, kept, order_of
from django_ws_dispatch.brokers.redis import RedisBroker
from django_ws_dispatch.brokers.redis.history import DAY
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.testing.brokers import Recorder
from tests.kit.valkey import Valkey

pytestmark = pytest.mark.live

KEEP = Keep(5, 60.0)


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey() as valkey:
        yield valkey


@pytest.fixture
def raw(server: Valkey) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(server.url)
    client.config_set("maxmemory", 0)
    client.flushall()
    yield client
    client.config_set("maxmemory", 0)
    client.close()


@pytest.fixture
def broker(server: Valkey) -> Iterator[RedisBroker]:
    broker = RedisBroker("default", server.url, {})
    yield broker
    broker.close()


def order(position: str) -> tuple[int, int, int]:
    found = order_of(position)
    assert found is not None
    return found


def heard_while(broker: RedisBroker, channel: str, work: object) -> list[bytes]:
    """What is published on a channel while something is done in a thread."""

    async def main() -> list[bytes]:
        recorder = Recorder()
        ready = broker.subscriber(recorder).subscribe(channel)
        if ready is not None:
            await ready
        await asyncio.to_thread(work)  # type: ignore[arg-type]
        await broker.apublish(channel, b"end")
        await recorder.until(lambda: (channel, b"end") in recorder.got)
        await broker.aclose()
        return recorder.messages(channel)[:-1]

    return asyncio.run(main())


def test_a_prefix_has_no_brace(server: Valkey) -> None:
    with pytest.raises(ImproperlyConfigured, match="brace"):
        RedisBroker("default", server.url, {"prefix": "a{b"})


def test_what_is_kept_is_published_with_its_positions(
    broker: RedisBroker, raw: redis.Redis
) -> None:
    before = broker.top("a", KEEP).position
    positions: list[str] = []
    got = heard_while(broker, "a", lambda: positions.append(broker.keep("a", b"x\x00", KEEP)))
    assert got == [kept(before, positions[0], b"x\x00")]


@pytest.mark.parametrize("name", ["a{b}c", "%7B", "{", "}", "\ud800", "ä\x00"])
def test_names_do_not_meet(name: str, broker: RedisBroker, raw: redis.Redis) -> None:
    broker.keep(name, b"x", KEEP)
    for other in (f"{name}}}", f"{{{name}", name.replace("{", "%7B"), name.replace("%", "%25")):
        if other != name:
            assert broker.top(other, KEEP).position.endswith(".0-0")
    assert [one.message for one in broker.newest(name, KEEP, 5).entries] == [b"x"]


def test_every_key_expires(broker: RedisBroker, raw: redis.Redis) -> None:
    broker.keep("a", b"x", KEEP)
    broker.top("b", KEEP)
    broker.forget("c", KEEP)
    stream, top = broker._history.keys("a")
    assert 0 < raw.pttl(stream) <= 60_000 < raw.pttl(top) <= 60_000 + DAY
    for channel in "abc":
        assert all(raw.pttl(key) != -1 for key in broker._history.keys(channel))


def test_a_second_try_keeps_it_once(broker: RedisBroker, raw: redis.Redis) -> None:
    call = next(broker._history.keep("a", b"x", KEEP, False))
    first = broker._calls[0].call(call)
    assert call.again is not None
    got = heard_while(
        broker, "a", lambda: broker._calls[0].call(call._replace(commands=call.again))
    )
    assert got == []
    assert [one.position for one in broker.newest("a", KEEP, 5).entries] == [first]


def test_a_connection_that_broke_is_tried_again(server: Valkey, raw: redis.Redis) -> None:
    broker = RedisBroker("default", server.url, {})
    broker.keep("a", b"x", KEEP)
    raw.client_kill_filter(_type="normal", skipme=True)
    raw.script_flush()
    broker.keep("a", b"y", KEEP)
    assert [one.message for one in broker.newest("a", KEEP, 5).entries] == [b"x", b"y"]
    broker.close()


def test_a_server_that_went_back_begins_a_new_epoch(broker: RedisBroker, raw: redis.Redis) -> None:
    stream, top = broker._history.keys("a")
    positions = [broker.keep("a", b"1", KEEP), broker.keep("a", b"2", KEEP)]
    saved = raw.get(top)
    lost = broker.keep("a", b"3", KEEP)
    raw.xdel(stream, lost.partition(".")[2])
    raw.set(top, saved, px=100_000)
    assert not broker.read("a", lost, KEEP, 5).known
    assert broker.top("a", KEEP).position == positions[1]
    pages = []
    got = heard_while(
        broker, "a", lambda: pages.append(broker.read("a", lost, KEEP, 5, heard=True))
    )
    assert got == [RESET]
    assert (pages[0].known, pages[0].top) == (False, broker.top("a", KEEP))
    assert order(pages[0].top.position) > order(lost)
    assert order(broker.keep("a", b"4", KEEP)) > order(lost)
    assert not broker.read("a", lost, KEEP, 5, heard=True).known


def test_one_that_went_back_and_on_is_found_too(broker: RedisBroker, raw: redis.Redis) -> None:
    stream, _ = broker._history.keys("a")
    _, lost, last = (broker.keep("a", b"%d" % number, KEEP) for number in range(3))
    raw.xdel(stream, lost.partition(".")[2])
    # The entry behind it still says what was before it; so that it does not.
    raw.xdel(stream, last.partition(".")[2])
    broker.keep("a", b"on", KEEP)
    assert heard_while(broker, "a", lambda: broker.read("a", lost, KEEP, 5, heard=True)) == [RESET]


def test_what_was_only_dropped_is_no_reason(broker: RedisBroker, raw: redis.Redis) -> None:
    first = broker.keep("a", b"x", KEEP)
    for _ in range(9):
        broker.keep("a", b"x", KEEP)
    top = broker.top("a", KEEP)
    page = broker.read("a", first, KEEP, 5, heard=True)
    assert (page.known, page.top) == (False, top)


@pytest.mark.parametrize("how", ["flushed", "evicted"])
def test_what_was_lost_never_comes_again(how: str, broker: RedisBroker, raw: redis.Redis) -> None:
    old = broker.keep("a", b"x", KEEP)
    raw.flushall() if how == "flushed" else raw.delete(broker._history.keys("a")[1])
    page = broker.read("a", old, KEEP, 5, heard=True)
    assert not page.known
    assert order(page.top.position) > order(old)
    assert broker.newest("a", KEEP, 5).entries == []
    assert order(broker.keep("a", b"x", KEEP)) > order(old)


def test_what_the_server_does_not_keep_is_not_published(
    broker: RedisBroker, raw: redis.Redis
) -> None:
    broker.keep("a", b"x", KEEP)
    top = broker.top("a", KEEP)

    def refuse() -> None:
        raw.config_set("maxmemory", 1)
        for channel in ("a", "new"):
            with pytest.raises(BrokerError, match="did not take a message"):
                broker.keep(channel, b"y", KEEP)
        raw.config_set("maxmemory", 0)

    assert heard_while(broker, "a", refuse) == []
    assert broker.top("a", KEEP) == top


def test_async_code_does_the_same(broker: RedisBroker, raw: redis.Redis) -> None:
    async def main() -> None:
        start = (await broker.atop("a", KEEP)).position
        position = await broker.akeep("a", b"x", KEEP)
        assert [one.message for one in (await broker.aread("a", start, KEEP, 5)).entries] == [b"x"]
        assert len((await broker.anewest("a", KEEP, 5)).entries) == 1
        assert await broker.atops(["none", "a"]) == [None, (position, 0)]
        assert await broker.atops([]) == []
        await broker.aforget("a", KEEP)
        assert (await broker.atop("a", KEEP)).orders == 1
        await broker.aclose()

    asyncio.run(main())


def test_a_lower_limit_is_reached_a_part_at_a_time(broker: RedisBroker, raw: redis.Redis) -> None:
    many, few = Keep(2500, 60.0), Keep(2, 60.0)
    for _ in range(2500):
        broker.keep("a", b"x", many)
    lengths = []
    for _ in range(3):
        broker.keep("a", b"x", few)
        lengths.append(len(broker.newest("a", KEEP, 9999).entries))
    assert lengths == [1501, 502, 2]


def test_orders_are_kept_up_to_a_limit(broker: RedisBroker, raw: redis.Redis) -> None:
    for _ in range(1005):
        broker.keep("a", b"c", KEEP, order=True)
    page = broker.newest("a", KEEP, 9999)
    assert (len(page.entries), page.top.orders) == (1000, 1005)
