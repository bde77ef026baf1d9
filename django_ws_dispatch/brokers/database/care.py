"""What is over is deleted, a little at a time, by one process at a time.

Each message is *examined* once, a minute after it was sent: a process that was away for no longer
has not missed it. One that is not kept goes then; of one that is, its channel is looked at, now and
again when its last message gets too old. Channels that nobody has asked for go, too.
"""

from __future__ import annotations

from django.db import DatabaseError

from .channels import DAY, KEPT, MINUTE, begin
from .session import Session, is_conflict
from .tables import (
    CHANNELS,
    COUNTERS,
    EXAMINED,
    HERE,
    KEPT_FORGOTTEN,
    KEPT_MESSAGE,
    KEPT_ORDER,
    MESSAGES,
    PLAIN,
    ROOMS,
    TRACKED,
    TRACKERS,
)

__all__ = ["examined", "tend"]

# Messages that one transaction examines, or deletes of a channel, and channels that it looks at.
PIECE = 500
CHANNELS_AT_ONCE = 20
# Orders that a channel keeps.
MOST_ORDERS = 1000


def examined(session: Session) -> int:
    """Return up to which number messages were examined, and may be gone."""
    row = session.one(f"SELECT value FROM {COUNTERS} WHERE id = {EXAMINED}")
    return 0 if row is None else int(row[0])


def tend(session: Session) -> bool:
    """Delete some of what is over.

    Returns:
        Whether there is more: call it again.
    """
    try:
        with session.transaction():
            return _tend(session)
    except DatabaseError as exc:
        if is_conflict(exc):
            return False
        raise


def _tend(session: Session) -> bool:
    select = f"SELECT value, {session.now} FROM {COUNTERS} WHERE id = {EXAMINED}"
    found = session.one(f"{select} {session.for_update_if_free}")
    if found is None:
        if session.one(select) is None:
            session.insert_missing(COUNTERS, {"id": EXAMINED, "value": 0})
            return True
        return False  # somebody else is at it
    last, now = int(found[0]), int(found[1])
    rows = session.execute(
        f"SELECT number, channel, kind FROM {MESSAGES} WHERE number > %s AND number <= %s "
        f"ORDER BY number LIMIT {PIECE}",
        [last, now - MINUTE],
    )
    if rows:
        end = rows[-1][0]
        session.execute(
            f"DELETE FROM {MESSAGES} WHERE number > %s AND number <= %s AND kind = {PLAIN}",
            [last, end],
        )
        for key in sorted({key for _, key, kind in rows if kind != PLAIN}):
            begin(session, key, 0)
            session.execute(
                f"UPDATE {CHANNELS} SET due = %s WHERE channel = %s AND due > %s", [now, key, now]
            )
        session.execute(f"UPDATE {COUNTERS} SET value = %s WHERE id = {EXAMINED}", [end])
    due = session.execute(
        f"SELECT channel FROM {CHANNELS} WHERE due <= %s ORDER BY due LIMIT {CHANNELS_AT_ONCE}",
        [now],
    )
    for (key,) in due:
        _look_at(session, key, now)
    empty = _empty_room(session, now)
    return len(rows) == PIECE or len(due) == CHANNELS_AT_ONCE or empty


def _look_at(session: Session, key: str, now: int) -> None:
    """Delete what is over of a channel, and say when to look again."""
    found = session.one(
        f"SELECT floor, alive FROM {CHANNELS} WHERE channel = %s {session.for_update}", [key]
    )
    if found is None:
        return
    floor, alive = found
    last = session.one(
        f"SELECT number, keep, ttl FROM {MESSAGES} WHERE {KEPT} > 0 ORDER BY number DESC LIMIT 1",
        [key],
    )
    if last is None:
        if alive <= now:
            session.execute(f"DELETE FROM {CHANNELS} WHERE channel = %s", [key])
        else:
            session.execute(f"UPDATE {CHANNELS} SET due = %s WHERE channel = %s", [alive, key])
        return
    number, _, ttl = last
    end = min(_end_of_what_is_over(session, key, floor, last, now), now - MINUTE)
    row = session.one(
        f"SELECT max(number), count(*) FROM (SELECT number FROM {MESSAGES} WHERE {KEPT} <= %s "
        f"ORDER BY number LIMIT {PIECE}) AS piece",
        [key, end],
    )
    gone, count = row or (None, 0)
    if gone is not None:
        orders = session.one(
            f"SELECT count(*) FROM {MESSAGES} WHERE {KEPT} > %s AND number <= %s "
            f"AND kind >= {KEPT_ORDER}",
            [key, floor, gone],
        )
        session.execute(f"DELETE FROM {MESSAGES} WHERE {KEPT} <= %s", [key, gone])
        session.execute(
            f"UPDATE {CHANNELS} SET floor = %s, orders = orders + %s WHERE channel = %s",
            [max(gone, floor), orders[0] if orders else 0, key],
        )
    due = now if count == PIECE else max(number + ttl, now) + MINUTE
    session.execute(
        f"UPDATE {CHANNELS} SET due = %s, alive = %s WHERE channel = %s",
        [due, max(alive, number + ttl + DAY), key],
    )


def _end_of_what_is_over(
    session: Session, key: str, floor: int, last: tuple[int, int, int], now: int
) -> int:
    number, keep, ttl = last
    if number + ttl <= now:
        return number

    def newest(kinds: str, skipped: int) -> int:
        row = session.one(
            f"SELECT number FROM {MESSAGES} WHERE {KEPT} > 0 AND {kinds} "
            "ORDER BY number DESC LIMIT 1 OFFSET %s",
            [key, skipped],
        )
        return 0 if row is None else int(row[0])

    return max(
        floor,
        newest(f"kind = {KEPT_MESSAGE}", keep),
        newest(f"kind >= {KEPT_ORDER}", MOST_ORDERS),
        newest(f"kind = {KEPT_FORGOTTEN}", 0) - 1,
    )


def _empty_room(session: Session, now: int) -> bool:
    """Delete what is left of one room of which nobody says anything any more."""
    row = session.one(f"SELECT channel FROM {ROOMS} WHERE due <= %s ORDER BY due LIMIT 1", [now])
    if row is None:
        return False
    for table in (TRACKED, TRACKERS, HERE, ROOMS):
        session.execute(f"DELETE FROM {table} WHERE channel = %s", [row[0]])
    return True
