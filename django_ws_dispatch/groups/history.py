"""What a group remembers, as code reads it: ``Group.history()``."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from ..brokers import BaseBroker
from ..brokers.history import Entry, Keep, Page, is_before
from .messages import BYTES, FORGOT, TEXT, Message, decode

__all__ = [
    "History",
    "Pager",
    "Stored",
    "adrive",
    "decode_entry",
    "drive",
    "lacks",
    "read_history",
]

# What is read at once.
MOST_ENTRIES = 200
MOST_BYTES = 256 * 1024
FIRST_ENTRIES = 50


class Stored(NamedTuple):
    """A message that a group remembers."""

    position: str
    data: str | bytes
    sent_at: datetime
    """aware, by the clock of the store"""


@dataclass(frozen=True, slots=True)
class History:
    """What a group remembers.

    Attributes:
        messages: oldest first.
        complete: nothing is missing behind the position that it was asked for.
        position: of the newest message of the group.
    """

    messages: list[Stored]
    complete: bool
    position: str


class Pager:
    """How many entries to read at once, so that they come to no more than ``MOST_BYTES``."""

    def __init__(self) -> None:
        self.count = FIRST_ENTRIES

    def is_over(self, page: Page) -> bool:
        """Take note of a page; return whether it was the last."""
        read, size = len(page.entries), sum(len(entry.message) for entry in page.entries)
        over = read < self.count
        if read:
            self.count = max(1, min(MOST_ENTRIES, MOST_BYTES * read // max(size, 1)))
        return over


def decode_entry(entry: Entry) -> Message:
    """Return an entry as the message that came, or would have, live."""
    try:
        message = decode(entry.message)
    except ValueError:  # nothing of ours: it has a place, and no more
        message = Message(FORGOT, {}, 0, None)
    message.position, message.previous = entry.position, entry.previous
    return message


def lacks(page: Page, last: str, heard: str) -> bool:
    """Return whether a page behind ``last`` shows that the store has not what was heard before."""
    if not is_before(last, heard):
        return False
    if is_before(page.top.position, heard):
        return True
    return (
        bool(page.entries)
        and not is_before(page.entries[-1].position, heard)
        and all(entry.position != heard for entry in page.entries)
    )


# What is read, step by step: the name of a broker's method, and its arguments.
Steps = Generator[tuple[str, tuple[Any, ...]], Any, History]


def read_history(channel: str, keep: Keep, since: str | None, limit: int | None) -> Steps:
    """Read the history of a channel.

    Raises:
        TypeError: ``since`` is no ``str``, or ``limit`` no ``int``.
        ValueError: ``limit`` is below 0.
    """
    if since is not None and not isinstance(since, str):
        raise TypeError(f"since is a position, a str, or None, not {type(since).__name__}.")
    if limit is not None:
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"limit is a number of messages or None, not {limit!r}.")
        if limit < 0:
            raise ValueError(f"limit is a number of messages from 0 on, not {limit}.")
    if since is None:
        return (yield from _newest(channel, keep, limit))
    pager, messages, position = Pager(), [], since
    while True:
        page: Page = yield "read", (channel, position, keep, pager.count)
        if not page.known:
            # Trimmed while it was read, perhaps: what came before is not the whole.
            return History([], False, page.top.position)
        messages += _messages(page.entries)
        if page.entries:
            position = page.entries[-1].position
        if pager.is_over(page):
            break
    complete = limit is None or len(messages) <= limit
    if not complete:
        messages = messages[len(messages) - (limit or 0) :]
    return History(messages, complete, position if page.entries else page.top.position)


def _newest(channel: str, keep: Keep, limit: int | None) -> Steps:
    most = keep.messages if limit is None else min(limit, keep.messages)
    pager, pages, count = Pager(), list[list[Stored]](), 0
    position = before = None
    while True:
        page: Page = yield "newest", (channel, keep, pager.count, before)
        found = _messages(page.entries)
        if position is None:
            position = page.entries[-1].position if page.entries else page.top.position
        pages.append(found)
        count += len(found)
        if count >= most or pager.is_over(page):
            break
        before = page.entries[0].position
    messages = [stored for found in reversed(pages) for stored in found]
    return History(messages[len(messages) - min(most, len(messages)) :], True, position)


def _messages(entries: list[Entry]) -> list[Stored]:
    found = []
    for entry in entries:
        message = decode_entry(entry)
        if message.kind in (TEXT, BYTES):
            found.append(Stored(entry.position, message.data, entry.sent_at))
    return found


def drive(broker: BaseBroker, steps: Steps) -> History:
    """Take the steps in sync code."""
    answer = None
    while True:
        try:
            name, arguments = steps.send(answer)
        except StopIteration as stop:
            history: History = stop.value
            return history
        answer = getattr(broker, name)(*arguments)


async def adrive(broker: BaseBroker, steps: Steps) -> History:
    """Take the steps in an event loop."""
    answer = None
    while True:
        try:
            name, arguments = steps.send(answer)
        except StopIteration as stop:
            history: History = stop.value
            return history
        answer = await getattr(broker, f"a{name}")(*arguments)
