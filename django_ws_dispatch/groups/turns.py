"""Who of many may call a broker: a few at once, the others in turn, and whoever hurries at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Turns"]


class Turns:
    """The turns of one event loop.

    Args:
        most: how many have one at once, but for those who hurry.
    """

    def __init__(self, most: int = 1) -> None:
        self._free = most
        self._places: deque[asyncio.Future[bool]] = deque()

    @asynccontextmanager
    async def turn(self, place: asyncio.Future[bool]) -> AsyncIterator[None]:
        """Wait for a turn, or until somebody makes ``place`` ``False``: that one needs none."""
        has_turn = False
        if not place.done():
            if self._free:
                self._free -= 1
                place.set_result(True)
            else:
                self._places.append(place)
        try:
            has_turn = await place
            yield
        finally:
            if has_turn or (place.done() and not place.cancelled() and place.result()):
                self._next()

    def _next(self) -> None:
        while self._places:
            place = self._places.popleft()
            if not place.done():
                place.set_result(True)
                return
        self._free += 1
