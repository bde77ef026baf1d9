"""The numbers of messages: in which order they are there for everybody.

On PostgreSQL a constraint trigger gives them out where a transaction commits, one transaction at a
time; on SQLite the one writer has the next one. Both are the order of the commits. MySQL and
MariaDB have nothing of that kind: a row is without a number at first, and whoever finds it after
the commit, its sender as a rule, numbers all that are there, by their ids. What was committed
before another one began to send has the lower id.
"""

from __future__ import annotations

from django.db import DatabaseError

from .session import Session, is_conflict
from .tables import COUNTERS, EXAMINED, MESSAGES, NUMBERED

__all__ = ["NEXT_NUMBER", "number_all", "number_here", "unnumbered"]

# Rows that are numbered in one transaction.
PIECE = 500

NEXT_NUMBER = (
    f"coalesce((SELECT max(number) FROM {MESSAGES}), 0) + 1, "
    f"coalesce((SELECT value FROM {COUNTERS} WHERE id = {EXAMINED}), 0) + 1"
)
"""SQL: above what is there, and above what was deleted. With the time it is for max()."""


def number_all(session: Session) -> bool:
    """Number what is committed and has no number yet (MySQL).

    Returns:
        ``False`` if somebody else is at it, who may not have seen all of it.
    """
    try:
        while (count := _number_some(session)) == PIECE:
            pass
    except DatabaseError as exc:
        if is_conflict(exc):
            return False
        raise
    return count is not None


def _number_some(session: Session) -> int | None:
    with session.transaction():
        select = f"SELECT value, {session.now} FROM {COUNTERS} WHERE id = {NUMBERED}"
        found = session.one(f"{select} {session.for_update_if_free}")
        if found is None:
            if session.one(select) is not None:
                return None
            session.insert_missing(COUNTERS, {"id": NUMBERED, "value": 0})
            found = session.one(f"{select} {session.for_update}")
        last, now = found or (0, 0)
        rows = session.execute(
            f"SELECT id FROM {MESSAGES} WHERE number IS NULL ORDER BY id LIMIT {PIECE}"
        )
        for (row_id,) in rows:
            # One at a time: where it names many ids, it waits for rows that others insert.
            last = max(last + 1, now)
            session.execute(f"UPDATE {MESSAGES} SET number = %s WHERE id = %s", [last, row_id])
        if rows:
            session.execute(f"UPDATE {COUNTERS} SET value = %s WHERE id = {NUMBERED}", [last])
    return len(rows)


def unnumbered(session: Session) -> bool:
    """Return whether something committed has no number yet."""
    return session.one(f"SELECT 1 FROM {MESSAGES} WHERE number IS NULL LIMIT 1") is not None


def number_here(session: Session, row_id: int) -> None:
    """Number a row of a transaction that never commits: that of a test."""
    greatest = "max" if session.vendor == "sqlite" else "greatest"
    found = session.one(f"SELECT {greatest}({session.now}, {NEXT_NUMBER})")
    session.execute(
        f"UPDATE {MESSAGES} SET number = %s WHERE id = %s AND number IS NULL",
        [found and found[0], row_id],
    )
