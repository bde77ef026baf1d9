"""What is asked of the nodes of a cluster, and what their answers lead to. Nothing connects."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    DataError,
    MovedError,
    OutOfMemoryError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from django_ws_dispatch.brokers.history import Keep
from django_ws_dispatch.brokers.redis import RedisBroker
from django_ws_dispatch.brokers.redis.calls import Call, Script, publish
from django_ws_dispatch.brokers.redis.cluster import Ask, Cluster, Pause, Refresh
from django_ws_dispatch.brokers.redis.history import KEEP
from django_ws_dispatch.brokers.redis.nodes import Node

pytestmark = pytest.mark.usefixtures("no_connections")

OK = b"cluster_enabled:1\r\ncluster_state:ok\r\n"
HALF = 8192
LOW, HIGH = b"{b}", b"{a}"  # of the first half of the slots, and of the second
SCRIPT = Script("return redis.call('PUBLISH', ARGV[1], '')")


def make_cluster(location: str = "redis://start:7000", **options: object) -> Cluster:
    broker = RedisBroker("default", location, {"cluster": True, **options})
    (cluster,) = broker.nodes
    assert isinstance(cluster, Cluster)
    return cluster


def learn(cluster: Cluster, *rows: Any, first: Node | None = None) -> None:
    """Have it ask for the slots, and answer."""
    steps = cluster.refresh(first, None)
    asked = next(steps)
    assert isinstance(asked, Ask)
    with pytest.raises(StopIteration):
        steps.send(asked.call.decode([OK, [list(row) for row in rows]]))


ROWS = (
    (0, HALF - 1, [b"one", 7001, b"id"], [b"replica", 7003, b"id"]),
    (HALF, 16383, [b"two", 7002, b"id"]),
)


@pytest.fixture
def cluster() -> Cluster:
    cluster = make_cluster()
    learn(cluster, *ROWS)
    return cluster


def name_of(step: Any) -> str:
    assert isinstance(step, Ask)
    return step.node.name


def get(*keys: bytes) -> Call:
    return Call([("GET", key) for key in keys], list)


def test_the_halves_are_halves() -> None:
    assert key_slot(LOW) < HALF <= key_slot(HIGH)


@pytest.mark.parametrize(
    ("location", "options", "message"),
    [
        ("redis://a", {"cluster": 1}, "cluster.*True or False, not 1"),
        ("redis://a", {"cluster": "yes"}, "cluster.*True or False, not 'yes'"),
        (["redis://a", "redis://b"], {"cluster": True}, "LOCATION is the URL of any one node"),
        (["redis://a"], {"cluster": True}, "LOCATION is the URL of any one node"),
        ("redis://a", {"cluster": True, "sentinel": "x"}, "exclude each other"),
        ("unix:///run/x", {"cluster": True}, "reached by TCP"),
        ("http://a", {"cluster": True}, "LOCATION.*none of redis"),
    ],
)
def test_what_does_not_go_with_a_cluster_is_named(
    location: object, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        RedisBroker("default", location, options)


def test_a_cluster_that_is_none_is_a_server() -> None:
    (node,) = RedisBroker("default", "redis://a", {"cluster": False}).nodes
    assert not isinstance(node, Cluster)


@pytest.mark.parametrize("channel", ["room", "{a}", "a}b{c", "%", "", "{}", "\udc80"])
def test_a_channel_and_its_keys_have_one_slot(channel: str) -> None:
    broker = RedisBroker("default", "redis://a", {"cluster": True})
    names = {broker._name(channel), *broker._history.keys(channel)}
    assert len({key_slot(name) for name in names}) == 1


def test_channels_that_look_alike_are_told_apart() -> None:
    broker = RedisBroker("default", "redis://a", {"cluster": True})
    channels = ["", "%", "%25", "{}", "{", "%7B", "a", "{a}"]
    assert len({broker._name(channel) for channel in channels}) == len(channels)


def test_the_slots_are_asked_for_at_first(cluster: Cluster) -> None:
    steps = make_cluster().steps(get(LOW))
    assert next(steps) == Refresh(None, None)


def test_the_node_of_the_slot_is_asked(cluster: Cluster) -> None:
    assert name_of(next(cluster.steps(get(LOW)))) == "redis://one:7001"
    assert name_of(next(cluster.steps(get(HIGH)))) == "redis://two:7002"
    assert {node.name for node in cluster.nodes} == {"redis://one:7001", "redis://two:7002"}


def test_a_node_has_what_the_url_and_the_options_say() -> None:
    cluster = make_cluster("rediss://ann:secret@start:7000", connection={"ssl_ca_certs": "ca"})
    node = cluster.at("::1", 7001)
    assert node.name == "rediss://[::1]:7001"
    assert node.channels == "wsd:*"
    made = node._arguments(node._location.arguments, None, 1.0)
    said = {key: made[key] for key in ("host", "port", "username", "password", "ssl_ca_certs")}
    assert said == {
        "host": "::1",
        "port": 7001,
        "username": "ann",
        "password": "secret",
        "ssl_ca_certs": "ca",
    }


@pytest.mark.parametrize("nobody", [None, b"", b"?"])
def test_a_node_that_knows_no_name_of_itself_is_where_it_was_asked(nobody: bytes | None) -> None:
    cluster = make_cluster()
    learn(cluster, (0, 16383, [nobody, 7005, b"id"]))
    assert name_of(next(cluster.steps(get(LOW)))) == "redis://start:7005"


def test_a_message_goes_to_a_shard_also_from_a_script(cluster: Cluster) -> None:
    (command,) = next(cluster.steps(publish(LOW, b"x"))).call.commands  # type: ignore[union-attr]
    assert command == ("SPUBLISH", LOW, b"x")
    call = Call([(SCRIPT, 1, LOW, 0)], list, [(SCRIPT, 1, LOW, 1)])
    asked = next(cluster.steps(call))
    assert isinstance(asked, Ask)
    assert asked.call.commands[0][0].text == "return redis.call('SPUBLISH', ARGV[1], '')"
    assert asked.call.again is not None
    assert asked.call.again[0][0] is asked.call.commands[0][0]
    assert "'PUBLISH'" not in KEEP.sharded.text


def test_who_refuses_is_asked_who_has_it(cluster: Cluster) -> None:
    steps = cluster.steps(get(LOW))
    asked = next(steps)
    pause = steps.throw(MovedError("3300 two:7002"))
    assert isinstance(pause, Pause)
    assert isinstance(pause.problem, MovedError)
    refresh = steps.send(None)
    assert refresh == Refresh(asked.node, None)  # type: ignore[union-attr]
    learn(cluster, (0, 16383, [b"two", 7002, b"id"]), first=refresh.first)
    assert name_of(steps.send(None)) == "redis://two:7002"
    with pytest.raises(StopIteration) as end:
        steps.send([b"x"])
    assert end.value.value == [b"x"]


def test_a_slot_on_its_way_is_asked_for_where_it_goes(cluster: Cluster) -> None:
    steps = cluster.steps(Call([(SCRIPT, 1, LOW)], lambda answers: answers[0]))
    next(steps)
    asked = steps.throw(AskError("3300 two:7002"))
    assert name_of(asked) == "redis://two:7002"
    assert isinstance(asked, Ask)
    assert [command[0] for command in asked.call.commands] == ["ASKING", SCRIPT.sharded]
    assert asked.call.decode([b"OK", b"x"]) == b"x"
    # The keys may be on both: a moment later the first node is asked again.
    assert isinstance(steps.throw(TryAgainError("later")), Pause)
    assert name_of(steps.send(None)) == "redis://one:7001"
    assert not cluster.stale


def test_what_may_have_been_carried_out_is_sent_as_a_retry_until_the_end(cluster: Cluster) -> None:
    steps = cluster.steps(Call([(SCRIPT, 1, LOW, 0)], list, [(SCRIPT, 1, LOW, 1)]))
    lost = next(steps)
    assert isinstance(lost, Ask)
    assert isinstance(steps.throw(RedisConnectionError("gone")), Pause)
    assert steps.send(None) == Refresh(None, lost.node)
    learn(cluster, (0, 16383, [b"replica", 7003, b"id"]))
    asked = steps.send(None)
    assert name_of(asked) == "redis://replica:7003"
    assert asked.call.commands[0][-1] == 1  # type: ignore[union-attr]
    assert isinstance(steps.throw(ClusterDownError("not yet")), Pause)
    assert isinstance(steps.send(None), Refresh)
    learn(cluster, *ROWS)
    assert steps.send(None).call.commands[0][-1] == 1  # type: ignore[union-attr]


def test_a_script_whose_keys_leave_meanwhile_is_a_retry(cluster: Cluster) -> None:
    steps = cluster.steps(Call([(SCRIPT, 1, LOW, 0)], list, [(SCRIPT, 1, LOW, 1)]))
    next(steps)
    said = "Script attempted to access a non local key in a cluster node"
    assert isinstance(steps.throw(ResponseError(said)), Pause)
    assert isinstance(steps.send(None), Refresh)
    learn(cluster, *ROWS)
    assert steps.send(None).call.commands[0][-1] == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("exc", [OutOfMemoryError("OOM"), ResponseError("ERR"), DataError("None")])
def test_what_is_no_better_in_a_moment_is_raised(cluster: Cluster, exc: Exception) -> None:
    steps = cluster.steps(get(LOW))
    next(steps)
    with pytest.raises(type(exc)):
        steps.throw(exc)
    steps = cluster.steps(get(LOW, LOW))
    next(steps)
    with pytest.raises(type(exc)):
        steps.throw(exc)


def test_commands_of_several_slots_go_to_their_nodes(cluster: Cluster) -> None:
    steps = cluster.steps(Call([("MGET", LOW, HIGH, LOW)], lambda answers: answers[0]))
    first = next(steps)
    assert name_of(first) == "redis://one:7001"
    assert first.call.commands == [("GET", LOW), ("GET", LOW)]  # type: ignore[union-attr]
    second = steps.send([b"1", b"3"])
    assert name_of(second) == "redis://two:7002"
    with pytest.raises(StopIteration) as end:
        steps.send([b"2"])
    assert end.value.value == [b"1", b"2", b"3"]


def test_commands_of_a_slot_on_its_way_are_asked_each_for_itself(cluster: Cluster) -> None:
    steps = cluster.steps(get(LOW, LOW))
    next(steps)
    assert steps.throw(AskError("3300 two:7002")).call.commands == [("GET", LOW)]  # type: ignore[union-attr]
    asked = steps.throw(AskError("3300 two:7002"))
    assert asked.call.commands == [("ASKING",), ("GET", LOW)]  # type: ignore[union-attr]
    assert name_of(steps.send([b"moved"])) == "redis://one:7001"
    with pytest.raises(StopIteration) as end:
        steps.send([b"not yet"])
    assert end.value.value == [b"moved", b"not yet"]


def test_a_slot_that_nobody_has_is_waited_for(cluster: Cluster) -> None:
    learn(cluster, (HALF, 16383, [b"two", 7002, b"id"]))
    steps = cluster.steps(get(LOW))
    assert isinstance(next(steps), Refresh)
    pause = steps.send(None)
    assert isinstance(pause, Pause)
    assert "no node has its slot" in str(pause.problem)


def test_nodes_are_asked_until_one_says_that_all_is_well(cluster: Cluster) -> None:
    steps = cluster.refresh(cluster.at("two", 7002), cluster.at("one", 7001))
    asked = [next(steps)]
    with pytest.raises(ClusterDownError):
        asked[0].call.decode([b"cluster_state:fail", []])  # type: ignore[union-attr]
    problem = ClusterDownError("cluster_state is not ok")
    asked += [steps.throw(problem) for _ in range(3)]
    with pytest.raises(ClusterDownError, match="cluster_state"):
        steps.throw(problem)
    names = [name_of(step) for step in asked]
    assert names[0] == "redis://two:7002"
    assert names[-1] == "redis://one:7001"
    assert {*names[1:-1]} == {"redis://replica:7003", "redis://start:7000"}


def test_what_was_learned_meanwhile_is_trusted(cluster: Cluster) -> None:
    before = cluster.version
    learn(cluster, (0, 16383, [b"two", 7002, b"id"]))
    cluster.distrust(before)
    assert not cluster.stale
    cluster.distrust(cluster.version)
    assert cluster.stale


def test_a_plain_server_on_a_cluster_and_a_cluster_on_a_plain_server_name_the_option() -> None:
    (plain,) = RedisBroker("default", "redis://a", {}).nodes
    for problem in (
        MovedError("3300 b:7001"),
        ResponseError("SELECT is not allowed in cluster mode"),
    ):
        assert 'set OPTIONS["cluster"] to True' in plain.why(problem)
        assert "OPTIONS" not in make_cluster().why(problem)
    disabled = ResponseError("This instance has cluster support disabled")
    assert 'leave OPTIONS["cluster"] out' in make_cluster().why(disabled)
    old = ResponseError("unknown command 'SPUBLISH', with args beginning with: 'a'")
    assert "needs Redis 7" in make_cluster().at("a", 1).why(old)


def test_the_calls_of_a_history_are_of_one_slot() -> None:
    broker = RedisBroker("default", "redis://a", {"cluster": True})
    (cluster,) = broker.nodes
    assert isinstance(cluster, Cluster)
    learn(cluster, *ROWS)
    keep = broker._history.keep("a", b"x", Keep(5, 60.0), False)
    asked = next(cluster.steps(next(keep)))
    assert isinstance(asked, Ask)
    script, count, stream, top, channel, *_ = asked.call.commands[0]
    assert count == 2
    assert {key_slot(stream), key_slot(top)} == {key_slot(channel)}
    assert "SPUBLISH" in script.text
