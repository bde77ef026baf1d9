"""What a database remembers of a channel: the rows that are kept, as those of one see them.

A row knows nothing of the one before it: that is the row before it, since numbers go up in the
order in which rows come to be there. So a sender neither reads nor locks anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from ..history import RESET, Entry, Keep, Page, Top
from .channels import (
    KEPT,
    SECOND,
    Stand,
    begin,
    keep_alive,
    key_of,
    number_of,
    position_of,
    stand_of,
    stands_of,
)
from .messages import insert
from .session import Row, Session
from .tables import CHANNELS, KEPT_MESSAGE, MESSAGES

__all__ = ["newest", "read", "top", "tops", "ttl_of"]

# Channels that one statement asks for.
PIECE = 200


def ttl_of(keep: Keep) -> int:
    """Return for how long messages are kept, in microseconds."""
    return max(math.ceil(keep.ttl * SECOND), 1)


def top(session: Session, channel: str, keep: Keep) -> Top:
    """See ``BaseBroker.top()``."""
    key, ttl = key_of(channel), ttl_of(keep)
    stand = begin(session, key, ttl)
    keep_alive(session, key, stand, ttl)
    return stand.public


def tops(session: Session, channels: Sequence[str]) -> list[Top | None]:
    """See ``BaseBroker.atops()``."""
    keys = [key_of(channel) for channel in channels]
    found: dict[str, Stand] = {}
    for start in range(0, len(keys), PIECE):
        found |= stands_of(session, keys[start : start + PIECE])
    return [found[key].public if key in found else None for key in keys]


def read(session: Session, channel: str, since: str, keep: Keep, count: int, heard: bool) -> Page:
    """See ``BaseBroker.read()``."""
    key, ttl, place = key_of(channel), ttl_of(keep), number_of(since)
    if place is None:
        return Page([], begin(session, key, ttl).public, False)
    epoch, number = place
    # First the rows, then where it stands: what is deleted in between shows there.
    rows = session.execute(
        f"SELECT number, kind, message FROM {MESSAGES} WHERE {KEPT} >= %s ORDER BY number LIMIT %s",
        [key, number, count + 1],
    )
    stand = begin(session, key, ttl)
    keep_alive(session, key, stand, ttl)
    if epoch != stand.epoch:
        return Page([], stand.public, False)
    if number == stand.top:
        return Page([], stand.public, True)
    is_there = bool(rows) and rows[0][0] == number and number > stand.floor
    behind = rows[1:] if is_there else rows[:count]
    if not (is_there or number == stand.floor):
        if heard and number > stand.floor:
            stand = _rewind(session, channel, key, number, stand)
        return Page([], stand.public, False)
    known = (
        stand.top + ttl > stand.now
        # What came after a longer silence found nothing before it.
        and all(later - earlier <= ttl for (earlier, *_), (later, *_) in pairwise(behind))
        and _is_within(session, key, number, behind, len(rows) > count, keep)
        and _is_not_forgotten(number, behind, stand, heard)
    )
    if not known:
        return Page([], stand.public, False)
    entries, previous = [], since
    for other, _, message in behind:
        position = position_of(epoch, other)
        entries.append(Entry(position, previous, bytes(message)))
        previous = position
    return Page(entries, stand.public, True)


def _is_within(
    session: Session, key: str, number: int, behind: list[Row], more: bool, keep: Keep
) -> bool:
    """Return whether no more messages came behind a number than are kept."""
    count = sum(kind == KEPT_MESSAGE for _, kind, _ in behind)
    if more and count <= keep.messages:
        found = session.one(
            f"SELECT count(*) FROM (SELECT 1 FROM {MESSAGES} WHERE {KEPT} > %s "
            f"AND kind = {KEPT_MESSAGE} LIMIT %s) AS behind",
            [key, number, keep.messages + 1],
        )
        count = found[0] if found else 0
    return bool(count <= keep.messages)


def _is_not_forgotten(number: int, behind: list[Row], stand: Stand, heard: bool) -> bool:
    if number >= stand.forgot:
        return True
    # To who has heard all before it, it is one more order.
    return heard and bool(behind) and behind[0][0] == stand.forgot


def newest(session: Session, channel: str, keep: Keep, count: int, before: str | None) -> Page:
    """See ``BaseBroker.newest()``."""
    key, ttl = key_of(channel), ttl_of(keep)
    stand = begin(session, key, ttl)
    keep_alive(session, key, stand, ttl)
    left, end = keep.messages, stand.top + 1
    if before is not None:
        place = number_of(before)
        if place is None or place[0] != stand.epoch:
            return Page([], stand.public, True)
        end = place[1]
        found = session.one(
            f"SELECT count(*) FROM (SELECT 1 FROM {MESSAGES} WHERE {KEPT} >= %s "
            f"AND kind = {KEPT_MESSAGE} LIMIT %s) AS behind",
            [key, end, keep.messages + 1],
        )
        left -= found[0] if found else 0
    start = max(stand.floor, stand.forgot - 1)
    if stand.top + ttl <= stand.now or left <= 0:
        return Page([], stand.public, True)
    rows = session.execute(
        f"SELECT number, kind, message FROM {MESSAGES} WHERE {KEPT} > %s AND number < %s "
        "ORDER BY number DESC LIMIT %s",
        [key, start, end, count + 1],
    )
    entries: list[Entry] = []
    # The last one stands there for what is before it.
    for at, (number, kind, message) in enumerate(rows[:count]):
        left -= kind == KEPT_MESSAGE
        if left < 0:
            break
        earlier = rows[at + 1][0] if at + 1 < len(rows) else _before(session, key, number, stand)
        position, previous = (position_of(stand.epoch, one) for one in (number, earlier))
        entries.append(Entry(position, previous, bytes(message)))
        if number - earlier > ttl:
            break
    return Page(entries[::-1], stand.public, True)


def _before(session: Session, key: str, number: int, stand: Stand) -> int:
    found = session.one(f"SELECT max(number) FROM {MESSAGES} WHERE {KEPT} < %s", [key, number])
    return max((found and found[0]) or 0, stand.floor)


def _rewind(session: Session, channel: str, key: str, number: int, stand: Stand) -> Stand:
    """Begin a new epoch, if the database has not what a process has heard, and never deleted it."""
    with session.transaction():
        found = session.one(
            f"SELECT epoch, floor FROM {CHANNELS} WHERE channel = %s {session.for_update}", [key]
        )
        missing = session.one(f"SELECT 1 FROM {MESSAGES} WHERE {KEPT} = %s", [key, number]) is None
        if found == (stand.epoch, stand.floor) and missing:
            epoch = max(stand.now, stand.epoch + 1)
            session.execute(
                f"UPDATE {CHANNELS} SET epoch = %s, floor = %s, orders = 0, due = %s "
                "WHERE channel = %s",
                [epoch, stand.top, stand.now, key],
            )
            insert(session, channel, RESET)
    return stand_of(session, key) or stand
