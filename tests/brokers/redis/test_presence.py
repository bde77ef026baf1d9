"""Who is here by what a real server knows: who is silent, who lingers, and what the server lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from django_ws_dispatch.brokers.presence import (
    BATCH,
    EXPIRY,
    GRACE,
    PRESENCE,
    SWEPT,
    Changes,
    Entry,
    Listed,
    Roll,
    Tracked,
    changes_of,
    version_of,
)
from django_ws_dispatch.brokers.presences import Presences
from django_ws_dispatch.brokers.redis import RedisBroker, presence
from django_ws_dispatch.exceptions import BrokerError
from tests.kit.valkey import Valkey
from tests.kit.waiting import wait_until

from .test_history import heard_while

pytestmark = pytest.mark.live

LISTED = Listed(10, 300.0)

# All that the scripts may use, as it is counted: what they read is bounded by what they ask for.
COMMANDS = {
    *("evalsha", "eval", "time", "get", "set", "exists", "pexpire", "publish"),
    *("zadd", "zrem", "zcard", "zcount", "zscore", "zrange", "zrangebyscore"),
    *("hget", "hset", "hdel", "hlen", "hmget", "hincrby", "hrandfield"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey(inspected=False) as valkey:
        yield valkey


@pytest.fixture
def raw(server: Valkey) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(server.url, decode_responses=True)
    client.config_set("maxmemory", 0)
    client.flushall()
    yield client
    client.config_set("maxmemory", 0)
    client.close()


class Site:
    """Speaks for several processes, from sync code."""

    def __init__(self, broker: RedisBroker, raw: redis.Redis) -> None:
        self.broker = broker
        self.raw = raw

    def say(self, tracker: str, *entries: Entry, name: str = "a", **options: Any) -> Tracked:
        found: dict[str, Any] = {
            "listed": LISTED,
            "roll": False,
            "away": False,
            "ends": False,
            "replaces": "",
        }
        found |= options
        found.setdefault("replaced", bool(found["replaces"]))
        steps = self.broker._presence.track(name, tracker, entries, **found)
        return self.broker._run(name, steps)

    def look(self, most: int = 10) -> Roll:
        return self.broker.snapshot("a", most)

    def keys(self) -> list[str]:
        return [one.key for one in self.look().here]

    def silence(self, *trackers: str) -> None:
        """They have said nothing for too long."""
        for tracker in trackers:
            assert self.raw.zadd("wsd:{a}:pp", {tracker: 1}, xx=True, ch=True)

    def end_linger(self, *keys: str) -> None:
        """They linger no more."""
        for key in keys:
            assert self.raw.zadd("wsd:{a}:pl", {key: 1}, xx=True, ch=True)

    def heard(self, work: Any) -> list[Changes]:
        """Return what is told while something is done."""
        messages = heard_while(self.broker, "a", work)
        assert all(one.startswith(PRESENCE) for one in messages)
        return [changes_of(one[len(PRESENCE) :]) for one in messages]

    def passes(self, milliseconds: float) -> None:
        """Return once so much has passed by the server's clock."""
        seconds, micros = self.raw.time()
        wait_until(lambda: _ms(self.raw.time()) > _ms((seconds, micros)) + milliseconds)


def _ms(time: tuple[int, int]) -> float:
    return time[0] * 1000 + time[1] / 1000


@pytest.fixture
def site(server: Valkey, raw: redis.Redis) -> Iterator[Site]:
    broker = RedisBroker("default", server.url, {})
    yield Site(broker, raw)
    broker.close()


def left(tracked: Tracked) -> list[str]:
    return tracked.changes.left if tracked.changes is not None else []


# Keys


def test_every_key_has_an_expiry_and_the_channel_in_its_name(site: Site, raw: redis.Redis) -> None:
    site.say("two", Entry("ann", 1), away=True)
    site.say("one", Entry("ann", 1, "1"), Entry("bob", 1))
    site.say("one", Entry("bob", 0, lingers=True))
    names = {"ph", "pn", "pi", "pl", "pp", "pv", "pg", "pe:one", "pe:two"}
    assert set(raw.scan_iter()) == {f"wsd:{{a}}:{name}" for name in names}
    kept = presence.KEPT + 1000 * LISTED.linger
    for key in raw.scan_iter():
        most = 1000 * GRACE if key.endswith(":pg") else kept
        assert 0 < raw.pttl(key) <= most
    # Longer than anybody is taken for being here without a word.
    assert presence.KEPT > 10 * 1000 * (EXPIRY + GRACE)


@pytest.mark.parametrize("name", ["a", "{a}", "a}b{c", "{}", "}{", "50%", "%7Ba%7D", "ä", "\ud800"])
def test_all_keys_of_a_channel_are_in_one_slot(name: str, site: Site, server: Valkey) -> None:
    site.say("two", Entry("bob", 1), name=name, away=True)
    site.say("one", Entry("ann", 1, "1"), Entry("bob", 1), name=name)
    site.say("two", Entry("bob", 0), name=name, away=True)
    site.say("one", Entry("bob", 0, lingers=True), name=name)
    with redis.Redis.from_url(server.url) as client:
        keys = [*client.scan_iter()]
    assert len(keys) == 8
    assert len({key_slot(key) for key in keys}) == 1
    tag = keys[0][keys[0].index(b"{") + 1 : keys[0].index(b"}")]
    for one, code in ((b"%", b"%25"), (b"{", b"%7B"), (b"}", b"%7D")):
        tag = tag if one == b"%" else tag.replace(code, one)
    assert tag.replace(b"%25", b"%") == name.encode(errors="surrogatepass")


def test_what_is_over_leaves_nothing_but_the_version(site: Site, raw: redis.Redis) -> None:
    site.say("one", Entry("ann", 1, "1"), Entry("bob", 1))
    site.say("one", Entry("ann", 0), Entry("bob", 0, lingers=True), ends=True)
    site.end_linger("bob")
    assert left(site.say("two")) == ["bob"]
    site.say("two", ends=True)
    assert set(raw.scan_iter()) == {"wsd:{a}:pv"}


def test_a_call_is_one_script_that_asks_for_no_more_than_it_needs(
    site: Site, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "SWEPT", 2)
    few = Listed(2, 300.0)
    site.say("one")
    site.look()
    raw.config_resetstat()
    calls = 0
    for number in range(5):
        for who in ("one", "dead"):
            site.say(who, Entry(f"{who} {number}", 1, "1"), listed=few, roll=True)
            calls += 1
    site.say("one", Entry("one 0", 0, lingers=True), Entry("one 1", 0, lingers=True), away=True)
    site.say("one", Entry("one 0", 1), Entry("one 2", 0), roll=True)
    site.raw.delete("wsd:{a}:pg")
    site.silence("dead")
    site.end_linger("one 1")
    calls += 2
    more = True
    while more:
        more = site.say("one").more
        calls += 1
    site.look()
    site.silence("one")
    site.look()
    stats = raw.info("commandstats")
    used = {name.removeprefix("cmdstat_") for name in stats}
    # What this test itself has asked for, apart from ZADD.
    assert used - {"config|resetstat", "del", "info", "client|setinfo", "select"} <= COMMANDS
    assert stats["cmdstat_evalsha"]["calls"] == calls + 2
    assert "cmdstat_eval" not in stats


# Who is silent


def test_who_says_nothing_for_too_long_is_gone_by_the_servers_clock(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as short:
        short.setattr(presence, "EXPIRY", 0.02)
        site.say("dead", Entry("ann", 1, "1"), Entry("bob", 2))
    site.say("one", Entry("bob", 1))
    site.passes(20)
    told = site.heard(lambda: site.say("one"))
    assert len(told) == 1
    assert (told[0].left, told[0].total) == (["ann"], 1)
    assert [one[:2] for one in told[0].here or ()] == [("bob", 1)]
    assert [one[:2] for one in site.look().here] == [("bob", 1)]


def test_who_speaks_in_time_is_not(site: Site) -> None:
    site.say("one", Entry("ann", 1))
    before = site.raw.zscore("wsd:{a}:pp", "one")
    site.passes(2)
    site.say("one")
    after = site.raw.zscore("wsd:{a}:pp", "one")
    assert before is not None
    assert after is not None
    assert after > before
    assert not site.say("two").more
    assert site.keys() == ["ann"]


def test_it_is_swept_in_steps(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "SWEPT", 3)
    gone = [f"key {number}" for number in range(8)]
    site.say("dead", *(Entry(key, 1) for key in gone))
    site.say("idle")  # has nobody: somebody only looks
    site.say("one", Entry("ann", 1))
    site.silence("dead", "idle")
    answers = [site.say("one")]
    while answers[-1].more:
        answers.append(site.say("one", listed=LISTED))
    steps = [left(one) for one in answers if left(one)]
    assert [len(one) for one in steps] == [3, 3, 2]
    assert sorted(key for step in steps for key in step) == gone
    totals = [one.changes.total for one in answers if one.changes is not None]
    assert totals == [6, 3, 1]
    assert site.raw.zrange("wsd:{a}:pp", 0, -1) == ["one"]
    assert not site.raw.exists("wsd:{a}:pe:dead")


def test_those_who_linger_no_more_are_swept_in_steps(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "SWEPT", 2)
    keys = [f"key {number}" for number in range(5)]
    site.say("one", *(Entry(key, 1) for key in keys))
    site.say("one", *(Entry(key, 0, lingers=True) for key in keys))
    site.end_linger(*keys)
    assert site.look()[1:] == (0, [])
    answers = [site.say("two") for _ in range(3)]
    assert [one.more for one in answers] == [True, True, False]
    assert [len(left(one)) for one in answers] == [2, 2, 1]
    assert sorted(key for one in answers for key in left(one)) == keys


def test_exactly_one_tells(site: Site, server: Valkey) -> None:
    site.say("dead", *(Entry(f"key {number}", 1) for number in range(9)))
    for number in range(8):
        site.say(f"{number}", Entry("ann", 1))
    site.silence("dead")

    def all_beat() -> None:
        barrier = threading.Barrier(8)

        def beat(tracker: str) -> None:
            other = Site(RedisBroker("default", server.url, {}), site.raw)
            barrier.wait()
            for _ in range(3):
                other.say(tracker)
            other.broker.close()

        threads = [threading.Thread(target=beat, args=(f"{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    told = site.heard(all_beat)
    assert len(told) == 1
    assert sorted(told[0].left) == [f"key {number}" for number in range(9)]
    assert site.keys() == ["ann"]


def test_who_was_swept_is_not_known_and_enters_anew(site: Site) -> None:
    came = site.say("dead", Entry("ann", 1, "1"), roll=True).roll
    site.say("one")
    site.silence("dead")
    assert left(site.say("one")) == ["ann"]
    assert not site.say("dead").known
    back = site.say("dead", Entry("ann", 1, "1"), roll=True)
    assert back.known
    assert came is not None
    assert back.roll is not None
    assert back.roll.here[0].since > came.here[0].since


def test_a_process_that_was_away_alone_is_no_outage(site: Site) -> None:
    site.say("dead", Entry("ann", 1))
    site.say("one", Entry("bob", 1))
    site.silence("dead")
    assert left(site.say("flaps", away=True)) == ["ann"]


def test_one_that_is_replaced_is_swept_at_once_and_in_steps(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "SWEPT", 2)
    site.say("old", *(Entry(f"key {number}", 1) for number in range(5)))
    site.say("dead", Entry("ann", 1))
    site.silence("dead", "old")
    answers = [site.say("new", Entry("key 0", 1), away=True, replaces="old")]
    while answers[-1].more:
        answers.append(site.say("new"))
    gone = sorted(key for one in answers for key in left(one))
    assert gone == [f"key {number}" for number in range(1, 5)]
    assert max(len(left(one)) for one in answers) <= 2
    # It is no outage that the other one is silent, but there was one.
    assert site.keys() == ["key 0", "ann"]
    assert not site.say("old").known


def test_who_lingers_is_not_swept_with_the_tracker(site: Site) -> None:
    site.say("dead", Entry("ann", 1, "1"), Entry("bob", 1))
    site.say("dead", Entry("ann", 0, lingers=True))
    site.say("one")
    site.silence("dead")
    assert left(site.say("one")) == ["bob"]
    assert [one[:2] for one in site.look().here] == [("ann", 0)]


# Grace


def test_after_an_outage_nobody_is_gone_for_a_while(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.say("dead", Entry("ann", 1))
    site.say("one", Entry("bob", 1), Entry("eve", 1))
    site.say("one", Entry("eve", 0, lingers=True))
    site.silence("dead", "one")
    site.end_linger("eve")
    monkeypatch.setattr(presence, "GRACE", 0.05)
    first = site.say("two", away=True, roll=True)
    assert (first.known, first.more, first.changes) == (False, False, None)
    wait_until(lambda: not site.raw.exists("wsd:{a}:pg"))
    # By now everybody but the dead one has spoken, which one does in time.
    swept: list[str] = []
    more = True
    while more:
        answer = site.say("two")
        more = answer.more
        swept += left(answer)
    assert sorted(swept) == ["ann", "bob", "eve"]


def test_who_comes_back_in_the_grace_has_not_left(site: Site) -> None:
    here = site.say("one", Entry("ann", 1, "1"), roll=True).roll
    site.say("two", Entry("bob", 1))
    site.silence("one", "two")
    assert site.raw.pttl("wsd:{a}:pv") > 0
    told = site.heard(lambda: (site.say("two", away=True), site.say("one", away=True)))
    assert told == []
    assert 0 < site.raw.pttl("wsd:{a}:pg") <= 1000 * GRACE
    site.raw.delete("wsd:{a}:pg")
    assert site.say("two").changes is None
    assert here is not None
    assert site.look().here[0] == here.here[0]


def test_in_the_grace_all_are_shown(site: Site) -> None:
    site.say("one", Entry("ann", 1), Entry("bob", 1))
    site.say("one", Entry("bob", 0, lingers=True))
    site.silence("one")
    site.end_linger("bob")
    assert site.keys() == []
    tracked = site.say("two", away=True, roll=True)
    assert [one.key for one in tracked.roll.here] == ["ann", "bob"] if tracked.roll else False
    assert site.keys() == ["ann", "bob"]
    assert site.look().total == 2


def test_who_was_silent_too_long_itself_takes_nobody_for_gone(site: Site) -> None:
    # As where a machine with all of a site's processes was paused.
    site.say("one", Entry("ann", 1))
    site.say("two", Entry("bob", 1))
    site.silence("one", "two")
    tracked = site.say("one")
    assert (tracked.known, tracked.more, tracked.changes) == (True, False, None)
    assert site.keys() == ["ann", "bob"]
    assert 0 < site.raw.pttl("wsd:{a}:pg") <= 1000 * GRACE
    # The other one comes too.
    assert site.say("two").known
    site.raw.delete("wsd:{a}:pg")
    assert site.say("one").changes is None
    assert site.keys() == ["ann", "bob"]


def test_who_comes_and_goes_in_the_grace_is_told(site: Site) -> None:
    site.say("one", Entry("ann", 1), away=True)
    assert left(site.say("one", Entry("ann", 0), away=True)) == ["ann"]
    assert site.say("one", Entry("bob", 1)).changes is not None
    assert site.keys() == ["bob"]


# What is shown


def test_where_all_are_silent_only_who_lingers_is_shown(site: Site) -> None:
    for key in ("ann", "bob", "eve", "joe"):
        site.say("one", Entry(key, 1, f'"{key}"'))
    for key in ("eve", "joe", "bob"):
        site.say("one", Entry(key, 0, lingers=True), ends=False)
        site.passes(1)
    site.end_linger("joe")
    version = site.look().version
    site.silence("one")
    roll = site.look()
    assert (roll.version, roll.total) == (version, 2)
    assert [(one.key, one.sockets, one.info) for one in roll.here] == [
        ("bob", 0, '"bob"'),
        ("eve", 0, '"eve"'),
    ]
    assert site.look(0)[1:] == (2, [])
    assert len(site.look(1).here) == 1


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 5, 6, 9])
def test_a_list_is_read_page_by_page(
    most: int, site: Site, server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "PAGE", 2)
    them = [f"key {number}" for number in range(7)]
    for key in them:
        site.say("one", Entry(key, 1, f'"{key}"'))
    site.say("one", Entry("key 2", 0, lingers=True), Entry("key 3", 0, lingers=True))
    assert [one.key for one in site.look(most).here] == them[:most]
    site.end_linger("key 2", "key 3")
    here = [key for key in them if key not in ("key 2", "key 3")]
    found = site.look(most)
    assert [(one.key, one.info) for one in found.here] == [(one, f'"{one}"') for one in here[:most]]
    assert found.total == 5
    roll = site.say("two", roll=True, listed=Listed(most, 300.0)).roll
    assert roll is not None
    assert [one.key for one in roll.here] == (here if most >= 5 else [])
    assert (roll.total, roll.version) == (5, site.look(most).version)


def test_a_look_changes_nothing(site: Site, raw: redis.Redis) -> None:
    site.say("one", Entry("ann", 1), Entry("bob", 1))
    site.say("one", Entry("ann", 0, lingers=True))
    site.end_linger("ann")
    site.silence("one")
    before = set(raw.scan_iter())
    assert site.heard(lambda: (site.look(), site.look(0))) == []
    assert set(raw.scan_iter()) == before
    assert raw.zcard("wsd:{a}:ph") == 2


def test_who_lingers_no_more_takes_nobodys_place_in_a_list(site: Site) -> None:
    keys = [f"key {number}" for number in range(6)]
    for key in keys:
        site.say("one", Entry(key, 1))
    site.say("one", *(Entry(key, 0, lingers=True) for key in keys[:3]))
    site.end_linger(*keys[:3])
    roll = site.look(2)
    assert (roll.total, [one.key for one in roll.here]) == (3, keys[3:5])


def test_ten_thousand_cost_no_list(site: Site) -> None:
    listed = Listed(200, 300.0)
    for start in range(0, 10_000, BATCH):
        entries = [Entry(f"key {start + one:05}", 1, f'"{"x" * 90}"') for one in range(BATCH)]
        site.say("dead" if start < 1_000 else "one", *entries, listed=listed)
    messages = heard_while(
        site.broker, "a", lambda: site.say("one", Entry("ann", 1, "1"), listed=listed)
    )
    assert len(messages) == 1
    assert len(messages[0]) < 200
    assert changes_of(messages[0][len(PRESENCE) :])[2:] == (10_001, [], None)
    tracked = site.say("one", listed=listed, roll=True)
    assert tracked.roll is not None
    assert tracked.roll[1:] == (10_001, [])
    roll = site.look(200)
    assert (roll.total, [one.key for one in roll.here]) == (
        10_001,
        [f"key {number:05}" for number in range(200)],
    )
    site.silence("dead")
    totals = []
    more = True
    while more:
        answer = site.say("one", listed=listed)
        more = answer.more
        if answer.changes is not None:
            assert answer.changes[3:] == ([], None)
            totals.append(answer.changes.total)
    assert totals[-1] == 9_001
    assert len(totals) >= 1_000 // SWEPT


def test_any_info_comes_through_the_scripts(site: Site) -> None:
    long = "\u00fc" * 511
    infos = ['"\u00fc\u2028\U0001f600"', '"\\"\\\\\\u0000/"', f'"{long}"', "[{}, []]"]
    for info in infos:
        told = site.heard(lambda info=info: site.say("one", Entry("k'\"\\", 1, info)))
        assert [one[::3] for one in told[0].here or ()] == [("k'\"\\", info)]
        assert [one[::3] for one in site.look().here] == [("k'\"\\", info)]
    many = [Entry(f"key {number}", 1, f'"{number} {"x" * 1000}"') for number in range(BATCH)]
    listed = Listed(1000, 300.0)
    told = site.heard(lambda: site.say("one", *many, listed=listed))
    assert {one.key: one.info for one in told[0].here or ()} == {one.key: one.info for one in many}


# What the server lost


def test_where_the_version_is_lost_another_epoch_begins(site: Site, raw: redis.Redis) -> None:
    changes = site.say("one", Entry("ann", 1)).changes
    assert changes is not None
    for lost in (lambda: raw.delete("wsd:{a}:pv"), lambda: raw.set("wsd:{a}:pv", "garbage")):
        lost()
        assert site.keys() == ["ann"]
        tracked = site.say("one", Entry("bob", 1), roll=True)
        assert tracked.known
        assert tracked.changes is not None
        epoch, number = version_of(tracked.changes.version)
        assert epoch > version_of(changes.version)[0]
        assert number > 0
        assert tracked.changes.previous == f"{epoch}.0"
        assert tracked.roll is not None
        assert tracked.roll[:2] == (tracked.changes.version, 2)
        changes = tracked.changes
        site.say("one", Entry("bob", 0))


def test_a_server_that_forgot_all_begins_another_epoch(site: Site, raw: redis.Redis) -> None:
    old = site.say("one", Entry("ann", 1, "1"), roll=True)
    raw.flushall()
    assert site.look() == ("0.0", 0, [])
    tracked = site.say("one", roll=True)
    assert (tracked.known, tracked.changes) == (False, None)
    assert tracked.roll is not None
    assert tracked.roll[1:] == (0, [])
    assert old.roll is not None
    assert version_of(tracked.roll.version)[0] > version_of(old.roll.version)[0]
    assert site.say("one", Entry("ann", 1, "1")).known
    assert site.keys() == ["ann"]


def test_how_many_keys_a_tracker_has_tells_that_some_were_lost(
    site: Site, raw: redis.Redis
) -> None:
    assert site.say("one", Entry("ann", 1), Entry("bob", 2)).keys == 2
    assert site.say("two", Entry("ann", 1)).keys == 1
    raw.delete("wsd:{a}:pe:one")
    tracked = site.say("one")
    assert (tracked.known, tracked.keys) == (True, 0)
    assert site.say("two").keys == 1


def test_numbers_go_on_where_only_people_left(site: Site) -> None:
    versions = []
    for _ in range(3):
        for count in (1, 0):
            changes = site.say("one", Entry("ann", count), ends=not count).changes
            assert changes is not None
            versions.append(version_of(changes.version))
    assert versions == sorted(set(versions))
    assert len({epoch for epoch, _ in versions}) == 1


def test_a_server_that_went_back_says_no_version_twice(site: Site, server: Valkey) -> None:
    first = site.say("one", Entry("ann", 1)).changes
    with redis.Redis.from_url(server.url) as client:  # what it dumps is no text
        saved = {key: client.dump(key) for key in client.scan_iter()}
        lost = [site.say("one", Entry("bob", count)).changes for count in (1, 2, 3)]
        client.flushall()
        for key, value in saved.items():
            client.restore(key, 10_000, value)
    assert site.keys() == ["ann"]
    told = [site.say("one", Entry(key, 1)).changes for key in ("joe", "jim", "jon")]
    assert first is not None
    assert told[0] is not None
    assert told[0].previous == first.version
    newest = max(version_of(one.version) for one in lost if one is not None)
    assert all(version_of(one.version) > newest for one in told if one is not None)


def test_a_server_that_refuses_to_write_has_taken_nothing(site: Site, raw: redis.Redis) -> None:
    site.say("one", Entry("ann", 1, "1"))
    before = site.look()

    def refuse() -> None:
        raw.config_set("maxmemory", 1)
        for entry in (Entry("ann", 2), Entry("bob", 1), Entry("ann", 0)):
            with pytest.raises(BrokerError, match="did not take who is here"):
                site.say("one", entry)
        assert site.look() == before
        raw.config_set("maxmemory", 0)

    assert site.heard(refuse) == []
    assert site.look() == before
    assert left(site.say("one", Entry("ann", 0))) == ["ann"]


def test_a_call_that_is_made_again_changes_nothing(site: Site, raw: redis.Redis) -> None:
    for entries in (
        [Entry("ann", 1, "1"), Entry("bob", 2)],
        [Entry("ann", 0, lingers=True), Entry("bob", 1, "2")],
        [Entry("ann", 0, lingers=True), Entry("bob", 0)],
    ):
        assert site.say("one", *entries).changes is not None
        # The connection broke before the answer came.
        raw.client_kill_filter(_type="normal", skipme=True)
        raw.script_flush()
        before = site.look()
        assert site.heard(lambda entries=entries: site.say("one", *entries)) == []
        assert site.look() == before


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_said_a_server_and_a_process_make_the_same_of_it(seed: int, site: Site) -> None:
    chance, memory = random.Random(seed), Presences()
    listed = Listed(chance.choice([2, 5, 50]), chance.choice([0, 300.0]))
    held: dict[str, set[str]] = {one: set() for one in "ABC"}
    for _ in range(50):
        tracker = chance.choice("ABC")
        replaces = chance.choice([one for one in ("A", "B", "C", "", "", "") if one != tracker])
        entries = [
            Entry(
                key,
                chance.choice([0, 0, 1, 2]),
                chance.choice(["", "1", "2"]),
                chance.choice(["", "1", "2"]),
                chance.random() < 0.5,
            )
            for key in chance.sample("abcdef", chance.randint(0, 3))
        ]
        held[tracker] -= {one.key for one in entries if not one.sockets}
        held[tracker] |= {one.key for one in entries if one.sockets}
        options: dict[str, Any] = {"listed": listed, "roll": chance.random() < 0.5}
        options["replaces"] = replaces
        options["replaced"] = bool(replaces) and chance.random() < 0.5
        options["ends"] = not held[tracker] and chance.random() < 0.3
        if options["replaced"]:
            held[replaces] = set()
        elif replaces:
            held[replaces] -= {one.key for one in entries}
        answers = [
            site.say(tracker, *entries, **options),
            memory.track("a", tracker, bool, entries, **options),
        ]
        first, second = map(timeless, answers)
        assert first == second
        first, second = (timeless(one) for one in (site.look(50), memory.snapshot("a", 50)))
        assert first == second


def timeless(found: Tracked | Roll) -> object:
    """What is the same whenever it happened, and in whatever order it is listed."""
    if isinstance(found, Roll):
        return found.total, [(key, sockets, info) for key, sockets, _, info in found.here]
    changes = found.changes
    return (
        *(found.known, found.more, found.keys),
        changes and (changes.total, sorted(changes.left)),
        changes and changes.here and sorted(one._replace(since=0) for one in changes.here),
        found.roll and timeless(found.roll),
    )
