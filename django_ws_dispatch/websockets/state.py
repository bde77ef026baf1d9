"""The three automata of a socket. No other module names a state of its own.

The conversation, which a page knows from its own ``WebSocket``::

    CONNECTING --accept()--> OPEN --close(), kick()--> CLOSING --disconnect, the end--> CLOSED
        |                     '-----disconnect, a send that fails----------------------^  ^
        '---------------------------deny(), disconnect------------------------------------'
        '--kick()--> CLOSING, until it is denied

Reading, which begins ``DETACHED``::

    BUSY      --read-->            READING    the read is the server's receive()
    BUSY      --sweep-->           ABSENT     it may be away for long
    ABSENT    --read-->            READING
    ABSENT    --sweep-->           DETACHED   a task reads ahead into the inbox
    READING   --message-->         BUSY
    READING   --the end-->         DETACHED
    DETACHED  --read, no task-->   READING
    DETACHED  --read, a task-->    WAITING    for what the task reads
    WAITING   --message, the end-> DETACHED

Writing, which begins ``SHUT``: who has the server's ``send()``::

    SHUT      --accept()-->              SENDING
    FREE      --send of the handler-->   SENDING   it awaits the server's send()
    SENDING   --done, nothing waits-->   FREE
    SENDING   --done, messages wait-->   QUEUED    the writer's task sends what is in the outbox
    FREE      --delivery suspends-->     QUEUED
    QUEUED    --outbox empty-->          FREE
    any       --the end-->               SHUT      QUEUED first sends what was before the close
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["WebSocketState"]


class WebSocketState(IntEnum):
    """The states of a socket, with the numbers of the browser's ``readyState``."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


# Where every message passes: to look a member up in its class costs as much as a call.
CONNECTING, OPEN, CLOSING, CLOSED = WebSocketState

# Reading, in an order: up to ABSENT the next read may go straight to the server.
BUSY: Final = 0  # the handler does something else
ABSENT: Final = 1  # and did when the sweep last looked
READING: Final = 2  # it waits in the server's receive()
WAITING: Final = 3  # it waits for what a task reads ahead
DETACHED: Final = 4  # not accepted yet, read ahead for, or over

# Writing. FREE is false: a sender asks no more than that.
FREE: Final = 0
SENDING: Final = 1  # the handler has it
QUEUED: Final = 2  # the writer's task has it
SHUT: Final = 3  # nobody may: not accepted yet, or over
