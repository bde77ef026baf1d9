"""A broker that acknowledges a subscription when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from django_ws_dispatch.brokers import get_broker
from django_ws_dispatch.brokers.base import BaseSubscriber, Receiver
from django_ws_dispatch.brokers.memory import MemoryBroker, MemorySubscriber
from django_ws_dispatch.exceptions import BrokerError

__all__ = ["LATE", "LateBroker", "late"]

LATE = {"default": {"BACKEND": f"{__name__}.LateBroker"}}


class LateBroker(MemoryBroker):
    """Delivers in this process, as a server would from the moment of its acknowledgement.

    Attributes:
        asked: the channels that wait for an acknowledgement, in the order in which they were asked.
        channels: those that are subscribed to.
    """

    def __init__(self, alias: str, location: object, options: Mapping[str, Any]) -> None:
        super().__init__(alias, location, options)
        self.asked: dict[str, asyncio.Future[None]] = {}
        self.channels: set[str] = set()

    def subscriber(self, receiver: Receiver) -> Any:
        return LateSubscriber(self, super().subscriber(receiver))

    def acknowledge(self, *names: str) -> None:
        """Acknowledge these groups; all that were asked for without any."""
        for channel in [f"group:{name}" for name in names] or list(self.asked):
            ready = self.asked.pop(channel)
            self.channels.add(channel)
            if not ready.done():
                ready.set_result(None)

    def fail(self, *names: str) -> None:
        """Do not, in time."""
        for channel in [f"group:{name}" for name in names] or list(self.asked):
            self.asked.pop(channel).set_exception(BrokerError(f"{channel} is late"))


class LateSubscriber(BaseSubscriber):
    def __init__(self, broker: LateBroker, inner: MemorySubscriber) -> None:
        self.broker = broker
        self.inner = inner

    def subscribe(self, channel: str) -> asyncio.Future[None] | None:
        self.inner.subscribe(channel)
        if channel in self.broker.channels:
            return None
        if channel not in self.broker.asked:
            self.broker.asked[channel] = asyncio.get_running_loop().create_future()
        return self.broker.asked[channel]

    def unsubscribe(self, channel: str) -> None:
        self.inner.unsubscribe(channel)
        self.broker.channels.discard(channel)
        self.broker.asked.pop(channel, None)


def late() -> LateBroker:
    """Return the one that the settings name."""
    broker = get_broker("default")
    assert isinstance(broker, LateBroker)
    return broker
