"""The Redis broker on a real server, well and ill."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync

from django_ws_dispatch import groups
from django_ws_dispatch.auth.control import CONTROL, decode, publish_control, send_control
from django_ws_dispatch.brokers.redis import RedisBroker
from django_ws_dispatch.brokers.redis.presence import SNAPSHOT, TRACK
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group
from django_ws_dispatch.testing.brokers import BrokerConformance, Recorder
from django_ws_dispatch.testing.presences import PresenceConformance
from tests.kit.members import FakeMember, FakeReceiver, run
from tests.kit.ports import free_port
from tests.kit.valkey import Valkey
from tests.kit.waiting import DEADLINE, until

pytestmark = pytest.mark.live

REDIS_BROKER = "django_ws_dispatch.brokers.redis.RedisBroker"
ROOM = Group("room")


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey() as valkey:
        yield valkey


# What docs/topics/brokers.md says that the user of a site needs where groups remember.
HISTORY = (
    "~mysite:* +evalsha +eval +time +get +getex +mget +set +del +xadd +xlen +xtrim +xdel +xrange "
    "+xrevrange +pexpire"
)
# And where they know who is here.
PRESENCE = (
    "~mysite:* +evalsha +eval +time +get +set +exists +pexpire +zadd +zrem +zcard +zcount +zscore "
    "+zrangebyscore +hget +hset +hdel +hlen +hmget +hincrby +hrandfield"
)


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[Valkey]:
    rules = "ann on >p:w/ord &wsd:* -@all +publish +subscribe +unsubscribe +ping +select "
    rules += f"{HISTORY} {PRESENCE}".replace("mysite", "wsd")
    with Valkey(port=None, arguments=("--user", *rules.split())) as valkey:
        yield valkey


@pytest.fixture
def own_server() -> Iterator[Valkey]:
    """A server that the test may kill."""
    with Valkey() as valkey:
        yield valkey


@pytest.fixture
def site(server: Valkey, settings: Any) -> Valkey:
    return use(server, settings)


@pytest.fixture
def own_site(own_server: Valkey, settings: Any) -> Valkey:
    return use(own_server, settings)


def use(server: Valkey, settings: Any, **options: object) -> Valkey:
    config = {"BACKEND": REDIS_BROKER, "LOCATION": server.url, "OPTIONS": options}
    settings.WEBSOCKET_BROKERS = {"default": config}
    return server


def ask(server: Valkey, *command: str) -> Any:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return client.execute_command(*command)


async def delivering(member: FakeMember, group: Group = ROOM) -> None:
    """Return once what is sent arrives."""
    before, number = len(member.got), 0
    async with asyncio.timeout(DEADLINE):
        while len(member.got) == before:
            number += 1
            try:
                await group.asend(f"probe {number}")
            except BrokerError:
                pass
            await asyncio.sleep(0.01)


class TestConformance(BrokerConformance):
    """On a unix socket."""

    @pytest.fixture(autouse=True)
    def _server(self, server: Valkey) -> None:
        self.location: str | list[str] = server.url

    def make_broker(self) -> RedisBroker:
        return RedisBroker("default", self.location, {})


class TestConformanceOverTCPWithAnACLUserAndADatabase(TestConformance):
    @pytest.fixture(autouse=True)
    def _server(self, guarded_server: Valkey) -> None:
        self.location = f"redis://ann:p%3Aw%2Ford@127.0.0.1:{guarded_server.port}/3"


# What docs/topics/brokers.md says that the user of a site needs.
RULES = ("resetchannels", "&mysite:*", "-@all", "+publish", "+subscribe", "+unsubscribe", "+ping")
DOCS = Path(__file__).parents[2] / "docs" / "topics" / "brokers.md"


def test_the_docs_say_what_the_user_of_a_site_needs() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert f"ACL SETUSER mysite on >password {' '.join(RULES)}\n" in text
    assert f"`{HISTORY}`" in text
    assert f"`{PRESENCE}`" in text
    for more in ("+select", "+role", "+client|setinfo", "+sentinel|get-master-addr-by-name"):
        assert f"`{more}`" in text


@pytest.fixture(scope="module")
def strict_server() -> Iterator[Valkey]:
    with Valkey(port=None) as valkey:
        yield valkey


def make_user(server: Valkey, *rules: str) -> str:
    """Make the site's user one that has these rules and no others; return a URL with it."""
    ask(server, "ACL", "SETUSER", "mysite", "reset", "on", ">password", *rules)
    ask(server, "ACL", "LOG", "RESET")
    return f"redis://mysite:password@127.0.0.1:{server.port}"


class TestConformanceUnderTheACLOfTheDocs(TestConformance):
    @pytest.fixture(autouse=True)
    def _server(self, strict_server: Valkey) -> None:
        self.location = make_user(strict_server, *RULES, *HISTORY.split(), *PRESENCE.split())

    def make_broker(self) -> RedisBroker:
        return RedisBroker("default", self.location, {"prefix": "mysite"})


class TestPresenceUnderTheACLOfTheDocs(PresenceConformance):
    """Without the rights that only a history needs."""

    @pytest.fixture(autouse=True)
    def _server(self, strict_server: Valkey) -> None:
        self.location = make_user(strict_server, *RULES, *PRESENCE.split())

    def make_broker(self) -> RedisBroker:
        return RedisBroker("default", self.location, {"prefix": "mysite"})


def test_presence_needs_no_other_rights_than_the_docs_say() -> None:
    used = re.findall(r"redis\.call\('(\w+)'", SNAPSHOT.text + TRACK.text)
    rules = {*RULES, *PRESENCE.split(), "+publish"} - {"+evalsha", "+eval"}
    assert {f"+{one.lower()}" for one in used} <= rules
    assert {*PRESENCE.split()[3:]} <= {f"+{one.lower()}" for one in used}


async def use_all(broker: RedisBroker) -> dict[str, BrokerError]:
    """Do all that a broker can; return what fails. The log has the rest."""
    failed: dict[str, BrokerError] = {}
    recorder = Recorder()
    subscriber = broker.subscriber(recorder)
    for what, do in (
        ("subscribe", lambda: subscriber.subscribe("a")),
        ("publish", lambda: broker.apublish("a", b"x")),
        ("publish from a thread", lambda: asyncio.to_thread(broker.publish, "a", b"x")),
    ):
        try:
            if (ready := do()) is not None:
                await ready
        except BrokerError as exc:
            failed[what] = exc
    if not failed:
        await recorder.until(lambda: len(recorder.got) == 2)
        # A subscriber that hears nothing asks, and one that leaves a group says so.
        (inner,) = subscriber._subscribers  # type: ignore[attr-defined]
        began = inner._heard
        await until(lambda: inner._heard > began or inner._lost)
        subscriber.unsubscribe("a")
        await until(lambda: not inner.wanted.subscriptions or inner._lost)
        if (ready := subscriber.subscribe("b")) is not None:
            await ready  # its answer comes behind that to the UNSUBSCRIBE
    await broker.aclose()
    broker.close()
    return failed


def test_a_user_with_the_rules_of_the_docs_is_denied_nothing_but_its_librarys_name(
    strict_server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    url = make_user(strict_server, *RULES)
    assert not asyncio.run(use_all(RedisBroker("default", url, {"prefix": "mysite", "timeout": 1})))
    assert {one["object"] for one in ask(strict_server, "ACL", "LOG")} == {"client|setinfo"}
    url = make_user(strict_server, *RULES, "+client|setinfo")
    assert not asyncio.run(use_all(RedisBroker("default", url, {"prefix": "mysite", "timeout": 1})))
    assert ask(strict_server, "ACL", "LOG") == []
    assert not caplog.records


@pytest.mark.parametrize(
    ("missing", "failing", "named"),
    [
        ("&mysite:*", {"subscribe", "publish", "publish from a thread"}, "needs &mysite:*"),
        ("+publish", {"publish", "publish from a thread"}, "'publish'"),
        ("+subscribe", {"subscribe"}, "'subscribe'"),
        ("+unsubscribe", set(), "'unsubscribe'"),
        ("+ping", set(), "'ping'"),
    ],
)
def test_a_rule_less_is_named_where_it_is_missed(
    missing: str,
    failing: set[str],
    named: str,
    strict_server: Valkey,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = make_user(strict_server, *(rule for rule in RULES if rule != missing))
    broker = RedisBroker("default", url, {"prefix": "mysite", "timeout": 0.5})
    failed = asyncio.run(use_all(broker))
    assert failed.keys() == failing
    assert all(named in str(exc) for exc in failed.values())
    if "subscribe" in failing or not failing:
        assert named in caplog.text


def test_a_database_that_is_not_the_first_needs_a_rule_more(strict_server: Valkey) -> None:
    url = make_user(strict_server, *RULES) + "/3"
    broker = RedisBroker("default", url, {"prefix": "mysite", "timeout": 0.5})
    failed = asyncio.run(use_all(broker))
    assert failed.keys() == {"subscribe", "publish", "publish from a thread"}
    assert all("'select'" in str(exc) for exc in failed.values())
    make_user(strict_server, *RULES, "+select")
    assert not asyncio.run(use_all(RedisBroker("default", url, {"prefix": "mysite", "timeout": 1})))


class TestConformanceOnTwoServers(TestConformance):
    @pytest.fixture(autouse=True)
    def _server(self, server: Valkey, own_server: Valkey) -> None:
        self.location = [server.url, own_server.url]


def test_a_process_has_one_subscribed_connection_whatever_the_number_of_groups(
    site: Valkey,
) -> None:
    async def scenario() -> None:
        registry, members = groups.members.local(), [FakeMember() for _ in range(5)]
        await FakeReceiver().listen(CONTROL)
        for number in range(50):
            for member in members:
                await registry.join(member, Group(f"room {number}"))
        subscribed = await asyncio.to_thread(ask, site, "CLIENT", "LIST", "TYPE", "pubsub")
        assert len(subscribed.splitlines()) == 1
        assert "sub=51 psub=0" in subscribed

    run(scenario)


def test_a_message_is_one_publish_whatever_the_number_of_members(site: Valkey) -> None:
    async def scenario() -> None:
        registry, members = groups.members.local(), [FakeMember() for _ in range(100)]
        for member in members:
            await registry.join(member, ROOM)
        await asyncio.to_thread(ask, site, "CONFIG", "RESETSTAT")
        await ROOM.asend("once")
        await until(lambda: all(member.got == ["once"] for member in members))
        stats = await asyncio.to_thread(ask, site, "INFO", "COMMANDSTATS")
        assert stats["cmdstat_publish"]["calls"] == 1

    run(scenario)


def test_the_last_member_to_leave_ends_the_subscription(site: Valkey) -> None:
    async def scenario() -> None:
        registry, first, second = groups.members.local(), FakeMember(), FakeMember()
        await registry.join(first, ROOM)
        await registry.join(second, ROOM)

        def channels() -> Any:
            return ask(site, "PUBSUB", "CHANNELS")

        registry.leave(first, ROOM)
        assert await asyncio.to_thread(channels) == ["wsd:group:room"]
        registry.leave(second, ROOM)
        await until(lambda: channels() == [])

    run(scenario)


def test_the_prefix_keeps_two_sites_apart(site: Valkey, settings: Any) -> None:
    async def scenario() -> None:
        member, registry = FakeMember(), groups.members.local()
        await registry.join(member, ROOM)
        other = RedisBroker("default", site.url, {"prefix": "other"})
        await other.apublish(ROOM.channel, b"t\x00theirs")
        await other.aclose()
        await ROOM.asend("ours")
        await until(lambda: bool(member.got))
        assert member.got == ["ours"]

    run(scenario)


def test_a_member_that_rejoins_at_once_misses_nothing(site: Valkey) -> None:
    async def scenario() -> None:
        member, registry = FakeMember(), groups.members.local()
        for number in range(200):
            await registry.join(member, ROOM)
            await ROOM.asend(str(number))
            await member.has(number + 1)
            registry.leave(member, ROOM)
        assert member.got == [str(number) for number in range(200)]

    run(scenario)


def test_garbage_on_a_channel_is_ignored_with_one_log_line(
    site: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        member = FakeMember()
        await groups.members.local().join(member, ROOM)
        broker = RedisBroker("default", site.url, {})
        for garbage in (b"", b"t", b"\xff\x00", b"t\x00\xff\xfe", b"c\x00\x03", b"t\x02\xff\xff"):
            await broker.apublish(ROOM.channel, garbage)
        await broker.aclose()
        await ROOM.asend("good")
        await until(lambda: bool(member.got))
        assert member.got == ["good"]

    run(scenario)
    assert len(caplog.records) == 1
    assert "not one of ours" in caplog.text


def test_control_messages_reach_other_processes(site: Valkey) -> None:
    async def scenario() -> None:
        heard = FakeReceiver()
        await heard.listen(CONTROL)
        await publish_control(b"one")
        send_control({"user": "two"})  # In a running loop: a thread does it.
        await until(lambda: len(heard.got) == 2)
        await asyncio.to_thread(send_control, {"user": "three"})
        await until(lambda: len(heard.got) == 3)
        assert heard.got[0] == b"one"
        told = [decode(payload) for payload in heard.got[1:]]
        assert [message and message.user for message in told] == ["two", "three"]

    run(scenario)


def test_sync_code_sends_from_many_threads_and_from_two_event_loops(site: Valkey) -> None:
    async def scenario() -> None:
        member = FakeMember()
        await groups.members.local().join(member, ROOM)
        elsewhere = FakeMember()
        joined, over = threading.Event(), threading.Event()

        async def other_loop() -> None:
            await groups.members.local().join(elsewhere, ROOM)
            joined.set()
            await ROOM.asend("from the other loop")
            await until(lambda: len(elsewhere.got) == 401)
            over.set()
            await groups.members.aclose()

        other = asyncio.create_task(asyncio.to_thread(asyncio.run, other_loop()))
        await asyncio.to_thread(joined.wait, DEADLINE)

        def send(thread: int) -> None:
            for number in range(20):
                ROOM.send_json([thread, number])

        await asyncio.gather(*(asyncio.to_thread(send, thread) for thread in range(20)))
        await until(lambda: len(member.got) == 401)
        await other
        for got in (member.got, elsewhere.got):
            assert [one for one in got if one.startswith("[7,")] == [
                f"[7, {number}]" for number in range(20)
            ]

    run(scenario)


def test_a_loop_that_ends_without_a_word_leaves_nothing_open(site: Valkey) -> None:
    async def main() -> None:
        member = FakeMember()
        await groups.members.local().join(member, ROOM)
        await ROOM.asend("x")
        await until(lambda: bool(member.got))

    for _ in range(3):
        asyncio.run(main())
        gc.collect()  # An unclosed transport or a pending task would be a warning, and so an error.
    assert len(ask(site, "CLIENT", "LIST").splitlines()) == 1


def test_async_code_called_from_sync_code_leaves_nothing_open(site: Valkey) -> None:
    # As an async view under WSGI: a loop for each call.
    for _ in range(3):
        async_to_sync(ROOM.asend)("x")
        gc.collect()
    assert len(ask(site, "CLIENT", "LIST").splitlines()) == 1


def test_what_an_earlier_setting_opened_is_closed_too(site: Valkey, settings: Any) -> None:
    async def scenario() -> None:
        await groups.members.local().join(FakeMember(), ROOM)
        await ROOM.asend("x")
        use(site, settings, prefix="other")
        await groups.members.local().join(FakeMember(), ROOM)
        await ROOM.asend("x")

    run(scenario)
    gc.collect()
    assert len(ask(site, "CLIENT", "LIST").splitlines()) == 1


def test_a_forked_process_has_connections_of_its_own(site: Valkey) -> None:
    script = f"""
import os, django
from django.conf import settings
settings.configure(WEBSOCKET_BROKERS={{"default": {{
    "BACKEND": "{REDIS_BROKER}", "LOCATION": "{site.url}"}}}})
django.setup()
from django_ws_dispatch.groups import Group
Group("room").send("parent")
children = []
for child in range(4):
    if not (pid := os.fork()):
        for number in range(50):
            Group("room").send(f"child {{child}}")
        os._exit(0)
    children.append(pid)
for number in range(50):
    Group("room").send("parent")
raise SystemExit(sum(os.waitpid(pid, 0)[1] for pid in children))
"""

    async def scenario() -> None:
        member = FakeMember()
        await groups.members.local().join(member, ROOM)
        process = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", script], timeout=DEADLINE, check=False
        )
        assert process.returncode == 0
        await until(lambda: len(member.got) == 251)
        assert member.got.count("parent") == 51

    run(scenario)


# Ill


def test_a_broker_that_is_not_there_is_told_to_publishers_and_joiners(
    own_site: Valkey, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    own_site.kill()
    use(own_site, settings, timeout=0.3)

    async def scenario() -> None:
        member, registry = FakeMember(), groups.members.local()
        with pytest.raises(BrokerError, match="did not take a message"):
            await ROOM.asend("x")
        with pytest.raises(BrokerError, match="did not take a message"):
            await asyncio.to_thread(ROOM.send, "x")
        with pytest.raises(BrokerError, match="did not acknowledge"):
            await registry.join(member, ROOM)
        heard = FakeReceiver()
        with pytest.raises(BrokerError, match="did not acknowledge"):
            await heard.listen(CONTROL)
        # The control channel is still wanted, the room is not.
        await asyncio.to_thread(own_site.start)
        await until(lambda: ask(own_site, "PUBSUB", "CHANNELS") == ["wsd:control:"])
        await heard.listen(CONTROL)
        await publish_control(b"heard")
        await until(lambda: heard.got == [b"heard"])
        await registry.join(member, ROOM)
        await ROOM.asend("y")
        await until(lambda: member.got == ["y"])

    run(scenario)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_join_that_needs_no_subscription_works_while_the_broker_is_away(
    own_site: Valkey,
) -> None:
    async def scenario() -> None:
        first, second, registry = FakeMember(), FakeMember(), groups.members.local()
        await registry.join(first, ROOM)
        own_site.kill()
        await registry.join(second, ROOM)
        await asyncio.to_thread(own_site.start)
        await delivering(second)

    run(scenario)


def test_a_join_that_is_cancelled_leaves_nobody_behind(own_site: Valkey) -> None:
    async def scenario() -> None:
        leaver, stayer, registry = FakeMember(), FakeMember(), groups.members.local()
        own_site.freeze()
        joining = asyncio.create_task(registry.join(leaver, ROOM))
        staying = asyncio.create_task(registry.join(stayer, ROOM))
        await asyncio.sleep(0)
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
        own_site.thaw()
        await staying
        await ROOM.asend("x")
        await until(lambda: stayer.got == ["x"])
        assert leaver.got == []

    run(scenario)


def test_a_broker_that_is_killed_and_restarted_under_traffic_loses_no_member(
    own_site: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    restarts = 20

    async def scenario() -> None:
        registry, members = groups.members.local(), [FakeMember() for _ in range(10)]
        control = FakeReceiver()
        reconnects = control.caught_up
        await control.listen(CONTROL)
        for number, member in enumerate(members):
            await registry.join(member, ROOM)
            await registry.join(member, Group(f"own {number}"))
        over = threading.Event()
        told: list[BrokerError] = []

        async def publish() -> None:
            while not over.is_set():
                try:
                    await ROOM.asend("traffic")
                except BrokerError as exc:
                    told.append(exc)
                await asyncio.sleep(0.001)

        def publish_from_a_thread() -> None:
            while not over.wait(0.001):
                try:
                    ROOM.send("traffic")
                except BrokerError as exc:
                    told.append(exc)

        publishers = [
            asyncio.create_task(publish()),
            asyncio.create_task(asyncio.to_thread(publish_from_a_thread)),
        ]
        await delivering(members[0])
        tasks = len(asyncio.all_tasks())
        for restart in range(restarts):
            told.clear()
            own_site.kill()
            await until(lambda: told)
            reconnects.clear()
            await asyncio.to_thread(own_site.start)
            await until(lambda: reconnects)
            await delivering(members[restart % 10], Group(f"own {restart % 10}"))
        assert len(asyncio.all_tasks()) == tasks
        over.set()
        await asyncio.gather(*publishers)
        # One that is subscribed, one that publishes in the loop, one in the thread, and who asks.
        assert len(ask(own_site, "CLIENT", "LIST").splitlines()) <= 4 + 1

    caplog.set_level(logging.WARNING)
    run(scenario)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"] * restarts


def test_a_frozen_broker_is_told_to_publishers_in_time_and_blocks_nobody(
    own_site: Valkey, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    use(own_site, settings, timeout=5)

    async def scenario() -> None:
        member, registry = FakeMember(), groups.members.local()
        await registry.join(member, ROOM)
        await ROOM.asend("before")
        await asyncio.to_thread(ROOM.send, "before")
        await until(lambda: len(member.got) == 2)
        own_site.freeze()
        stalls: list[float] = []

        async def tick() -> None:
            while True:
                began = time.monotonic()
                await asyncio.sleep(0.01)
                stalls.append(time.monotonic() - began)

        ticking = asyncio.create_task(tick())
        began = time.monotonic()
        results = await asyncio.gather(
            ROOM.asend("x"),
            asyncio.to_thread(ROOM.send, "x"),
            registry.join(FakeMember(), Group("new")),
            return_exceptions=True,
        )
        assert all(isinstance(result, BrokerError) for result in results)
        assert time.monotonic() - began < 12  # each for itself 5 s, and not one after the other
        await until(lambda: bool(caplog.records))
        own_site.thaw()
        await delivering(member)
        ticking.cancel()
        assert max(stalls) < 4  # not the 5 s that a call would block

    run(scenario)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_logout_does_not_fail_because_of_the_broker(
    own_site: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    own_site.kill()
    send_control({"user": "x"})
    assert "could not be told" in caplog.text


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[str]:
    config = tmp_path / "sentinel.conf"
    with Valkey(port=None) as primary:
        config.write_text(f"sentinel monitor chats 127.0.0.1 {primary.port} 1\n")
        with Valkey(port=None, config=str(config)) as server:
            yield server.url


def test_sentinels_tell_where_the_primary_is(sentinel: str) -> None:
    class Conformance(BrokerConformance):
        def make_broker(self) -> RedisBroker:
            dead = f"redis://127.0.0.1:{free_port()}"
            return RedisBroker("default", [dead, sentinel], {"sentinel": "chats"})

    Conformance().test_a_message_arrives_where_its_channel_is_subscribed()
    Conformance().test_other_processes_get_the_message()
    unknown = RedisBroker("default", [sentinel], {"sentinel": "nobody", "timeout": 1})
    with pytest.raises(BrokerError, match="does not know the service"):
        unknown.publish("a", b"x")


def test_behind_sentinels_the_user_needs_role_and_another_one_what_it_asks_them(
    tmp_path: Path,
) -> None:
    config = tmp_path / "sentinel.conf"
    with Valkey(port=None) as primary:
        config.write_text(
            f"sentinel monitor chats 127.0.0.1 {primary.port} 1\n"
            "user watcher on >theirs -@all +sentinel|get-master-addr-by-name\n"
            "user nobody on >theirs -@all +ping\n"
        )
        with Valkey(port=None, config=str(config)) as server:

            def use(user: str) -> dict[str, BrokerError]:
                url = f"redis://{user}:theirs@127.0.0.1:{server.port}"
                connection = {"username": "mysite", "password": "password"}
                options = {"sentinel": "chats", "prefix": "mysite", "connection": connection}
                return asyncio.run(
                    use_all(RedisBroker("default", [url], {**options, "timeout": 1}))
                )

            make_user(primary, *RULES)
            failed = use("watcher")
            assert len(failed) == 3
            assert all("'role'" in str(exc) for exc in failed.values())
            make_user(primary, *RULES, "+role")
            assert not use("watcher")
            failed = use("nobody")
            assert len(failed) == 3
            assert all("sentinel|get-master-addr-by-name" in str(exc) for exc in failed.values())
