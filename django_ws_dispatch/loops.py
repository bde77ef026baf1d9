"""One object for each event loop, and the pauses between attempts of what goes on in one.

A process that serves has one loop; tests have many.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["PerLoop", "back_off"]

_T = TypeVar("_T")


class PerLoop(Generic[_T]):
    """The object of the running event loop, made when it is first asked for.

    Those of closed loops are dropped. Any thread may ask, each for that of its own loop.

    Args:
        make: makes one, in the loop that it is for.
    """

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._objects: dict[asyncio.AbstractEventLoop, _T] = {}

    def __call__(self) -> _T:
        """Return that of the running loop."""
        loop = asyncio.get_running_loop()
        found = self._objects.get(loop)
        if found is None:
            for other in list(self._objects):
                if other.is_closed():
                    self._objects.pop(other, None)
            found = self._objects[loop] = self._make()
        return found

    def pop(self) -> _T | None:
        """Take that of the running loop out; return it, ``None`` if there is none."""
        return self._objects.pop(asyncio.get_running_loop(), None)

    def values(self) -> list[_T]:
        """Return those of all loops."""
        return list(self._objects.values())


def back_off(pause: float, longest: float) -> Iterator[float]:
    """Yield seconds to wait, twice as many each time, for ever.

    Each is cut by up to a half, so that the processes of a site do not all come at once.
    """
    while True:
        yield pause * random.uniform(0.5, 1)
        pause = min(pause * 2, longest)
