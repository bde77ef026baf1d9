"""What is done of what a call to a cluster asks for, and for how long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ClusterDownError, DataError, TryAgainError

from django_ws_dispatch.brokers.redis import RedisBroker, cluster_calls
from django_ws_dispatch.brokers.redis.calls import Call
from django_ws_dispatch.brokers.redis.cluster import Ask, Cluster, Pause, Refresh, Steps
from django_ws_dispatch.brokers.redis.nodes import Node
from django_ws_dispatch.exceptions import BrokerError

CALL = Call([("GET", b"a")], list, purpose="say it")


class Nodes:
    """Answer in place of all connections; what is no answer is raised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: list[Any] = []
        self.asked: list[str] = []
        monkeypatch.setattr(cluster_calls.Calls, "attempt", self._attempt)
        monkeypatch.setattr(cluster_calls.AsyncCalls, "attempt", self._aattempt)
        self.seconds: list[float] = []

    def _answer(self, node: Node) -> Any:
        self.asked.append(node.name)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _attempt(self, call: Call, deadline: float) -> Any:
        return self._answer(self._node)

    async def _aattempt(self, call: Call, seconds: float) -> Any:
        self.seconds.append(seconds)
        return self._answer(self._node)

    def use(self, node: Node) -> None:
        self._node = node


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    return Nodes(monkeypatch)


def call(how: str, steps: Any, nodes: Nodes, timeout: float | None = 5.0) -> Any:
    """Do some steps as a call does."""
    broker = RedisBroker("default", "redis://start", {"cluster": True, "timeout": timeout or 5})
    (cluster,) = broker.nodes
    assert isinstance(cluster, Cluster)
    if timeout is None:
        broker.timeout = 0.0  # all of it is over
    nodes.use(cluster)
    cluster.steps = lambda call: steps(cluster)  # type: ignore[method-assign]
    if how == "sync":
        return broker._calls[0].call(CALL)

    async def main() -> Any:
        try:
            return await broker._local().calls[0].call(CALL)
        finally:
            await broker.aclose()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    return asyncio.run(main())


HOW = pytest.mark.parametrize("how", ["sync", "async"])


@HOW
def test_a_node_is_asked_and_what_it_raises_is_thrown(how: str, nodes: Nodes) -> None:
    def steps(cluster: Cluster) -> Steps:
        try:
            yield Ask(cluster, CALL)
        except TryAgainError as exc:
            yield Pause(0, exc)
        return (yield Ask(cluster, CALL))

    nodes.answers = [TryAgainError("later"), b"x"]
    assert call(how, steps, nodes) == b"x"
    assert len(nodes.asked) == 2


@HOW
def test_where_no_time_is_left_for_a_pause_the_problem_is_told(how: str, nodes: Nodes) -> None:
    def steps(cluster: Cluster) -> Steps:
        yield Pause(6, ClusterDownError("no node has its slot"))

    with pytest.raises(BrokerError, match=r"did not say it within 5 s: no node has its slot\."):
        call(how, steps, nodes)


@HOW
def test_the_slots_are_asked_for_only_where_nobody_just_has(how: str, nodes: Nodes) -> None:
    def steps(cluster: Cluster) -> Steps:
        yield Refresh(None, None)
        yield Refresh(None, None)
        return cluster.version

    nodes.answers = [[[0, 16383, [b"one", 7001, b"id"]]]]
    assert call(how, steps, nodes) == 1
    assert len(nodes.asked) == 1


@HOW
def test_that_nobody_knows_the_slots_is_thrown(how: str, nodes: Nodes) -> None:
    def steps(cluster: Cluster) -> Steps:
        try:
            yield Refresh(None, None)
        except ClusterDownError as exc:
            return str(exc)

    nodes.answers = [ClusterDownError("cut off")]
    assert call(how, steps, nodes) == "cut off"


@HOW
def test_a_mistake_of_the_caller_is_raised_as_it_is(how: str, nodes: Nodes) -> None:
    def steps(cluster: Cluster) -> Steps:
        yield Ask(cluster, CALL)

    nodes.answers = [DataError("None")]
    with pytest.raises(DataError):
        call(how, steps, nodes)


def test_each_node_may_be_silent_for_a_part_of_the_time(nodes: Nodes) -> None:
    def steps(cluster: Cluster) -> Steps:
        yield Refresh(None, None)
        yield Ask(cluster, CALL)

    nodes.answers = [[[0, 16383, [b"one", 7001, b"id"]]], b"x"]
    call("async", steps, nodes, timeout=6)
    of_slots, of_call = nodes.seconds
    assert of_slots == 2
    assert 2 < of_call <= 6


def test_no_time_left_is_no_time_for_a_node(nodes: Nodes) -> None:
    def steps(cluster: Cluster) -> Steps:
        yield Ask(cluster, CALL)

    with pytest.raises(BrokerError, match="no time is left"):
        call("sync", steps, nodes, timeout=None)
