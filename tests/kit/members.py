"""A member of groups without a socket, a receiver of a channel, and waiting for what they get."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from django_ws_dispatch import groups
from django_ws_dispatch.groups.members import Place
from django_ws_dispatch.groups.messages import TEXT, Message

from .waiting import DEADLINE, until


def text(payload: str, size: int = 1) -> Message:
    """A group's message as it is delivered.

    Args:
        payload: what the client gets.
        size: as which it counts where it has to wait.
    """
    return Message(TEXT, {"type": "websocket.send", "text": payload}, size, None)


class FakeMember:
    """A member that keeps what it gets.

    Args:
        name: its id.
        then: called after each delivery.
        former_ids: of its page's earlier sockets.
    """

    def __init__(
        self,
        name: str = "",
        then: Callable[[], object] | None = None,
        former_ids: Collection[str] = (),
    ) -> None:
        self._name = name
        self.former_ids = former_ids
        self.noticed: list[Message] = []
        self._then = then
        self.id_was_read = False
        self.got: list[Any] = []
        self.events: list[tuple[Any, int]] = []

    @property
    def id(self) -> str:
        self.id_was_read = True
        return self._name

    def deliver(self, message: Message) -> None:
        event = message.event
        self.got.append(event["text"] if "text" in event else event["bytes"])
        self.events.append((event, message.size))
        if self._then is not None:
            self._then()

    def notice(self, message: Message) -> None:
        self.noticed.append(message)

    def kick(self, code: int, reason: str) -> None:
        self.got.append((code, reason))

    async def has(self, count: int) -> None:
        """Return once it got that many."""
        await until(lambda: len(self.got) >= count)


class FakeReceiver:
    """A receiver of a channel that keeps what is sent on it.

    Args:
        then: called with each message.
    """

    def __init__(self, then: Callable[[bytes], object] = lambda data: None) -> None:
        self._then = then
        self.got: list[Any] = []
        self.caught_up: list[float] = []

    def receive(self, message: Message) -> None:
        self.got.append(message.data)
        self._then(self.got[-1])

    def catch_up(self) -> None:
        self.caught_up.append(time.monotonic())

    async def listen(self, place: Place) -> None:
        """Return once it gets what is published."""
        ready = groups.members.local().add(self, place)
        if ready is not None:
            await asyncio.shield(ready)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario in an event loop of its own, at the end of which no task is left."""

    async def main() -> None:
        try:
            await asyncio.wait_for(scenario(), 2 * DEADLINE)
        finally:
            await groups.members.aclose()
        await asyncio.sleep(0)  # What the scenario cancelled last may end.
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
