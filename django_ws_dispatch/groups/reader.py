"""Reading a group's messages in code: ``Group.subscribe()``."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from ..exceptions import BrokerError
from .messages import Message

__all__ = ["Reader"]

logger = logging.getLogger("django_ws_dispatch.groups")


class Reader:
    """A member of ``group`` that code reads; ``capacity`` bytes of memory may wait for it."""

    id = ""  # nobody can exclude it
    former_ids = ()

    def __init__(self, group: object, capacity: int) -> None:
        self._group = group
        self._capacity = capacity
        self._waiting: deque[tuple[str | bytes, int]] = deque()
        self._bytes = 0
        self._overrun = False
        self._lost = False
        self._ended = False
        self._wakeup: asyncio.Future[None] | None = None

    def deliver(self, message: Message) -> None:
        if self._overrun or self._lost:
            return
        if self._bytes + message.size > self._capacity:
            self._overrun = True
            logger.warning(
                "A reader of %r fell behind by more than WEBSOCKET_OUTBOX_SIZE (%d bytes); "
                "it ends with BrokerError.",
                self._group,
                self._capacity,
            )
        else:
            self._waiting.append((message.data, message.size))
            self._bytes += message.size
        self._wake()

    def notice(self, message: Message) -> None:
        """What a client is told: of a loss ``lose()`` tells."""

    def kick(self, code: int, reason: str) -> None:
        """A reader has no socket that could be closed."""

    def lose(self) -> None:
        """Messages of the group are lost: it is told behind those that came before."""
        self._lost = True
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._waiting.clear()
        self._wake()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> str | bytes:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            if self._overrun:
                raise BrokerError(
                    f"Messages of {self._group!r} were lost: this reader fell behind by more than "
                    f"WEBSOCKET_OUTBOX_SIZE ({self._capacity} bytes)."
                )
            if self._lost:
                raise BrokerError(
                    f"Messages of {self._group!r} were lost: the broker does not have them any "
                    "more."
                )
            if self._wakeup is not None:
                raise RuntimeError("Two tasks can not iterate over one subscribe() at once.")
            self._wakeup = asyncio.get_running_loop().create_future()
            try:
                await self._wakeup
            finally:
                self._wakeup = None
        data, size = self._waiting.popleft()
        self._bytes -= size
        return data
