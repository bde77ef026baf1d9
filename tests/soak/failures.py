"""Failures that a client asks for, and a log without them."""

from __future__ import annotations

import asyncio
import logging

__all__ = ["MEANT", "HideMeantFailures", "MeantToFail"]

MEANT = "meant"
"""what a handler that cancels itself says"""


class MeantToFail(Exception):
    """What a client asked for."""


class HideMeantFailures(logging.Filter):
    """Lets no failure through that a client asked for."""

    def filter(self, record: logging.LogRecord) -> bool:
        exc = record.exc_info[1] if record.exc_info else None
        if isinstance(exc, asyncio.CancelledError):
            # Such a cancellation goes on to the server, and uvicorn logs it.
            return exc.__context__ is None or exc.__context__.args != (MEANT,)
        return not isinstance(exc, MeantToFail)
