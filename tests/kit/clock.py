"""The clock of what the process itself remembers, as a test sets it."""

from __future__ import annotations

__all__ = ["Clock"]


class Clock:
    """Stands still at ``moment``, in seconds since 1970."""

    def __init__(self) -> None:
        self.moment = 1_000_000.0

    def __call__(self) -> float:
        return self.moment
