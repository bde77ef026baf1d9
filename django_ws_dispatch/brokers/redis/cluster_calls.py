"""Commands to a cluster: ``cluster.Steps``, done on the connections that each node has."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from redis.exceptions import DataError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..base import BaseBroker
from .calls import AsyncCalls, Call, Calls, broker_error, publish
from .cluster import Ask, Cluster, Pause, Refresh, Steps
from .nodes import Node

__all__ = ["AsyncClusterCalls", "ClusterCalls"]

# Nodes that can be asked in vain for the slots before the time-out is over.
IN_VAIN = 3


class ClusterCalls:
    """Calls a cluster from sync code, in any thread."""

    def __init__(self, cluster: Cluster, broker: BaseBroker) -> None:
        self._cluster = cluster
        self._broker = broker
        self._calls: dict[Node, Calls] = {}
        self._refreshing = threading.Lock()

    def publish(self, name: bytes, message: bytes) -> None:
        """Publish; see ``call()``."""
        self.call(publish(name, message))

    def call(self, call: Call) -> Any:
        """See ``Calls.call()``; it is tried again, on whatever node, until the time is over."""
        try:
            deadline = time.monotonic() + self._broker.timeout
            return self._run(self._cluster.steps(call), deadline)
        except DataError:
            raise
        except Exception as exc:
            raise broker_error(self._broker, self._cluster, call, exc) from exc

    def _run(self, steps: Steps, deadline: float, longest: float | None = None) -> Any:
        try:
            step = next(steps)
            while True:
                try:
                    answer = self._do(step, deadline, longest)
                except Exception as exc:
                    step = steps.throw(exc)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return end.value

    def _do(self, step: Ask | Refresh | Pause, deadline: float, longest: float | None) -> Any:
        left = deadline - time.monotonic()
        if isinstance(step, Pause):
            if left < step.seconds:
                raise step.problem
            time.sleep(step.seconds)
        elif left <= 0:
            raise RedisTimeoutError("no time is left")
        elif isinstance(step, Refresh):
            self._refresh(step, deadline)
        else:
            calls = self._calls.get(step.node)
            if calls is None:
                calls = self._calls.setdefault(step.node, Calls(step.node, self._broker))
            return calls.attempt(
                step.call, deadline if longest is None else time.monotonic() + min(left, longest)
            )
        return None

    def _refresh(self, step: Refresh, deadline: float) -> None:
        # Whoever forked while it was held never gets it: then there are two who ask.
        held = self._refreshing.acquire(timeout=max(deadline - time.monotonic(), 0) / 2)
        try:
            if self._cluster.stale:
                longest = self._broker.timeout / IN_VAIN
                self._run(self._cluster.refresh(step.first, step.last), deadline, longest)
        finally:
            if held:
                self._refreshing.release()
        for node in self._calls.keys() - {*self._cluster.nodes, self._cluster}:
            if (calls := self._calls.pop(node, None)) is not None:
                calls.close()

    def close(self) -> None:
        """Close the connections that are idle."""
        for calls in list(self._calls.values()):
            calls.close()


class AsyncClusterCalls:
    """Calls a cluster in one event loop."""

    def __init__(self, cluster: Cluster, broker: BaseBroker) -> None:
        self._cluster = cluster
        self._broker = broker
        self._calls: dict[Node, AsyncCalls] = {}
        self._refreshing = asyncio.Lock()

    async def publish(self, name: bytes, message: bytes) -> None:
        """Publish; see ``call()``."""
        await self.call(publish(name, message))

    async def call(self, call: Call) -> Any:
        """See ``ClusterCalls.call()``."""
        try:
            return await self._run(self._cluster.steps(call))
        except DataError:
            raise
        except Exception as exc:
            raise broker_error(self._broker, self._cluster, call, exc) from exc

    async def _run(self, steps: Steps, longest: float | None = None) -> Any:
        # The wait for a connection does not count: the time begins with the first that there is.
        deadline: float | None = None
        step = next(steps)
        try:
            while True:
                try:
                    answer = None
                    if isinstance(step, Ask):
                        calls = self._of(step.node)
                        async with calls.slots.hold() as left:
                            now = time.monotonic()
                            deadline = deadline or now + left
                            seconds = deadline - now if longest is None else longest
                            answer = await calls.attempt(step.call, min(seconds, deadline - now))
                    else:
                        deadline = deadline or time.monotonic() + self._broker.timeout
                        await self._wait(step, deadline - time.monotonic())
                except Exception as exc:
                    step = steps.throw(exc)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return end.value

    def _of(self, node: Node) -> AsyncCalls:
        calls = self._calls.get(node)
        if calls is None:
            calls = self._calls[node] = AsyncCalls(node, self._broker)
        return calls

    async def _wait(self, step: Refresh | Pause, left: float) -> None:
        if isinstance(step, Refresh):
            async with asyncio.timeout(left), self._refreshing:
                if self._cluster.stale:  # nobody else has, meanwhile
                    await self.refresh(step.first, step.last)
        elif left < step.seconds:
            raise step.problem
        else:
            await asyncio.sleep(step.seconds)

    async def refresh(self, first: Node | None = None, last: Node | None = None) -> None:
        """Learn which node has which slot; see ``Refresh`` for the arguments.

        Raises:
            Exception: no node says it; see ``nodes.ERRORS``.
        """
        longest = self._broker.timeout / IN_VAIN
        await self._run(self._cluster.refresh(first, last), longest)
        for node in self._calls.keys() - {*self._cluster.nodes, self._cluster}:
            if (calls := self._calls.pop(node, None)) is not None:
                await calls.aclose()

    async def aclose(self) -> None:
        """Close the connections, those in use when they are done."""
        while self._calls:
            await self._calls.popitem()[1].aclose()
