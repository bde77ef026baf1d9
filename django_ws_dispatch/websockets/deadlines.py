"""The sweep's look after one socket, a few times a second: who is absent, idle, or does not end.

An end sets the times by which the handler, and the connection, have to be gone; here they are read.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from .. import reports
from ..codes import CloseCode
from .state import ABSENT, BUSY, CLOSING, DETACHED, OPEN
from .whereabouts import place

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["CANCEL_AGAIN", "STOP_GRACE", "check"]

logger = logging.getLogger("django_ws_dispatch.connection")

# Seconds that a handler may stay after its socket is over, or with its inbox full.
BUSY_GRACE = 10.0
STOP_GRACE = 5.0
# Seconds after its client has left in which a handler may go on to read what was sent before.
READ_ON_GRACE = 60.0
# Seconds in which the server has to wake a read after this side closed.
WAKE_GRACE = 1.0
# Seconds between two cancellations: a ``finally`` may await, a handler may swallow the first.
CANCEL_AGAIN = 5.0
# Seconds that a close frame may wait behind a blocked transport.
CLOSE_GRACE = 10.0
# Seconds that a server which has given its client up may wait for it to read the rest.
GIVEN_UP_GRACE = 5.0


def check(connection: Connection, now: float, *, closely: bool = False) -> None:
    """Look after a socket.

    Args:
        connection: its.
        now: the monotonic time in seconds.
        closely: look at its transport as well, which few have a reason for each time.
    """
    reader = connection.reader
    if (closely or connection.writer.state) and connection.ready_state is OPEN:
        _check_transport(connection, now)
    if reader.state == BUSY:
        reader.state = ABSENT
    elif reader.state == ABSENT:
        reader.read_ahead()
    elif reader.state == DETACHED:
        if connection.ready_state >= CLOSING:
            _check_end(connection, now)
        elif reader.ahead is None and connection.task is not None:
            _check_inbox(connection, now)
    reader.check_idle(now)


def _check_transport(connection: Connection, now: float) -> None:
    """Abort what the server closes without end. Only the loss tells the handler, or a stop."""
    if not connection.server.is_closing:
        return
    if connection.abort_at is None:
        connection.abort_at = now + GIVEN_UP_GRACE
    elif now >= connection.abort_at:
        connection.server.abort()


def _check_inbox(connection: Connection, now: float) -> None:
    full_since = connection.reader.full_since
    if full_since is None:
        connection.reader.read_ahead()
    elif now - full_since > BUSY_GRACE:
        waiting = len(connection.reader.inbox or ())
        why = f"its handler did not read for {BUSY_GRACE:.0f} s, and {waiting} messages wait"
        reports.closed(connection.path, CloseCode.SLOW_CLIENT, why)
        connection.kick(CloseCode.SLOW_CLIENT, "overloaded")
        connection.cancel_after(0.0)


def _check_end(connection: Connection, now: float) -> None:
    task = connection.task
    if task is not None and connection.cancel_at is not None and now >= connection.cancel_at:
        _cancel(connection, task, now)
    if (
        connection.writer.task is not None
        and connection.abort_at is not None
        and now >= connection.abort_at
    ):
        connection.abort_at = None
        connection.server.abort()


def _cancel(connection: Connection, task: asyncio.Task[None], now: float) -> None:
    """Cancel the handler, and say so where that has not helped before."""
    connection.cancel_at = now + CANCEL_AGAIN
    connection.cancels += 1
    connection.tries += 1
    task.cancel()
    if connection.tries == 1:
        connection.tried_at = now
    elif not connection.tries & (connection.tries - 1):  # 2, 4, 8, ...: it may go on for days
        logger.log(
            logging.WARNING if connection.tries == 2 else logging.ERROR,
            "The handler of %s goes on %.0f s after it was cancelled: it is at %s. Let "
            "CancelledError pass: the server can not stop before it has ended.",
            connection.path,
            now - connection.tried_at,
            place(task),
            extra={"path": connection.path},
        )
