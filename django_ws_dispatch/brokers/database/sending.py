"""How a message is sent: as a row, in the transaction of its sender."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from django.db import Error, transaction

from .messages import Arrived, by_id, insert, position_of_row, written_as
from .numbering import number_all, number_here
from .session import Session
from .tables import PLAIN

__all__ = ["Outgoing", "Sender", "Sending"]

# Seconds between two looks at whether somebody has numbered a message.
PAUSE = 0.005
# Messages of a process after which it deletes some of what is over: perhaps nobody listens.
TENDED_EVERY = 500


class Outgoing(NamedTuple):
    """What is to be sent."""

    channel: str
    message: bytes
    kind: int = PLAIN
    keep: int = 0
    ttl: int = 0
    """microseconds"""


class Sender:
    """Sends the messages of one broker.

    Args:
        using: an alias of ``DATABASES``.
        timeout: seconds for which a sender waits for the position of its message.
        deliver: takes what only this process can see.
        alone: whether that is all.
        tend: deletes some of what is over.
    """

    def __init__(
        self,
        using: str,
        timeout: float,
        deliver: Callable[[list[Arrived]], None],
        alone: Callable[[], bool],
        tend: Callable[[], None],
    ) -> None:
        self.using = using
        self.timeout = timeout
        self.deliver = deliver
        self.alone = alone
        self._tend = tend
        self._unnumbered = threading.local()
        self._sent = 0

    def send(self, session: Session, sending: Sending) -> str | None:
        """Send a message; called again after an attempt that failed.

        Returns:
            Its position, ``None`` if it has none: it is not kept, or in a transaction.
        """
        if session.in_transaction:
            row_id = insert(session, *sending.outgoing, sending.nonce)
            self._unnumbered.rows = True
            if session.wrapper.in_atomic_block:
                committed = partial(self._committed, row_id)
                transaction.on_commit(committed, using=self.using, robust=True)
            return None
        written = sending.again and written_as(session, sending.nonce)
        sending.again = True
        row_id = written or insert(session, *sending.outgoing, sending.nonce)
        if session.vendor == "mysql":
            number_all(session)
        self._note_sent()
        if self.alone():
            self.deliver(by_id(session, row_id))
        return self._position(session, row_id) if sending.outgoing.kind != PLAIN else None

    def _position(self, session: Session, row_id: int) -> str | None:
        deadline = time.monotonic() + self.timeout
        while (position := position_of_row(session, row_id)) is None:
            if time.monotonic() > deadline:
                return None
            time.sleep(PAUSE)
            number_all(session)
        return position

    def _committed(self, row_id: int) -> None:
        """The transaction is over; or so says a test whose own never is."""
        session = Session(self.using)
        if session.wrapper.in_atomic_block:
            number_here(session, row_id)
            self.deliver(by_id(session, row_id))
            return
        if getattr(self._unnumbered, "rows", False) and session.vendor == "mysql":
            self._unnumbered.rows = False
            try:
                number_all(session)
            except Error:
                pass  # it is sent: whoever reads numbers it
        self._note_sent()
        if self.alone():
            self.deliver(by_id(session, row_id))

    def _note_sent(self) -> None:
        self._sent += 1
        if self._sent % TENDED_EVERY == 0 and not self.alone():
            self._tend()


class Sending:
    """One message, however many attempts it takes."""

    def __init__(self, outgoing: Outgoing) -> None:
        self.outgoing = outgoing
        self.nonce = os.urandom(8).hex()
        self.again = False
