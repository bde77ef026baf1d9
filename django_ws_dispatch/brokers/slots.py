"""A bounded number of calls at once, each of which has a time-out of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Slots"]


class Slots:
    """Places for calls of one event loop.

    To wait for a place is no reason to give up, as long as the server answers others.

    Args:
        count: how many calls there are at once.
        timeout: seconds that a call may take.
    """

    def __init__(self, count: int, timeout: float) -> None:
        self._timeout = timeout
        self._places = asyncio.Semaphore(count)
        self._answered = 0

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[float]:
        """Wait for a place, and hold it.

        Yields:
            The seconds that are left for the call.

        Raises:
            TimeoutError: the server has answered nobody meanwhile.
        """
        left = await self._take()
        try:
            yield left
        finally:
            self._places.release()

    async def _take(self) -> float:
        loop = asyncio.get_running_loop()
        while True:
            answered, start = self._answered, loop.time()
            try:
                async with asyncio.timeout(self._timeout):
                    await self._places.acquire()
            except TimeoutError:
                if self._answered == answered:
                    raise
            else:
                waited = loop.time() - start if self._answered == answered else 0.0
                return self._timeout - waited

    def answered(self) -> None:
        """Note that the server has answered."""
        self._answered += 1
