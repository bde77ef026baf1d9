"""Waiting for what nothing tells of, with a deadline that only guards: a busy machine is slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["DEADLINE", "until", "wait_until"]

# Shorter than the longest grace of the package, a minute: what only that ends has not come.
DEADLINE = 50.0
"""seconds after which what has not come does not come, however busy the machine is"""


async def until(condition: Callable[[], object], deadline: float = DEADLINE) -> None:
    """Return once ``condition()`` is true.

    Raises:
        TimeoutError: it does not come to be.
    """
    async with asyncio.timeout(deadline):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def wait_until(condition: Callable[[], object], deadline: float = DEADLINE) -> None:
    """Do the same where no event loop runs, or is to be held up."""
    ends = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError
        time.sleep(0.005)
