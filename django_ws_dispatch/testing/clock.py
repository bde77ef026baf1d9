"""A clock that a test moves on, for what groups know for a while: who lingers, what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from ..brokers import remembered
from ..groups import members, watch

__all__ = ["Clock", "travel"]


class Clock:
    """The clock of the memory broker, as ``travel()`` hands it out."""

    def __init__(self) -> None:
        self._from = remembered.now
        self._ahead = 0.0

    def now(self) -> float:
        """Return the seconds since 1970, by this clock."""
        return self._from() + self._ahead

    def advance(self, seconds: float) -> None:
        """Move it on, in sync code: who asks next finds what is here by then.

        Raises:
            ValueError: ``seconds`` is negative.
        """
        if not seconds >= 0:
            raise ValueError(f"A clock is moved on by seconds from 0 on, not {seconds!r}.")
        self._ahead += seconds

    async def aadvance(self, seconds: float) -> None:
        """Move it on where an event loop runs: who watches a group there is told of it.

        Whoever has left before has left by the old clock. Raises are those of ``advance()``.
        """
        await members.local().sweep()
        self.advance(seconds)
        await members.local().sweep()


@contextmanager
def travel() -> Iterator[Clock]:
    """Move the clock of the memory broker on: ``with travel() as clock:``.

    ``linger`` and ``ttl`` of ``WEBSOCKET_GROUPS`` then pass without a wait, and whoever watches a
    group is told of each change at once, instead of once a second. It is about nothing else: not
    Python's clock, timeouts, or a broker with a server. Behind the block all is what it was.

    Yields:
        The ``Clock``: ``advance(seconds)``, and ``await clock.aadvance(seconds)``.
    """
    clock = Clock()
    with (
        mock.patch.object(remembered, "now", clock.now),
        mock.patch.object(watch, "TOLD_EVERY", 0.0),
    ):
        yield clock
