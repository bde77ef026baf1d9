"""A message as a row: how it is written, and how those are read that came behind a number."""

from __future__ import annotations

import os
from typing import NamedTuple

from ..history import kept
from .channels import begin, key_of, position_of
from .numbering import NEXT_NUMBER
from .session import Session
from .tables import CHANNELS, MESSAGES, PLAIN

__all__ = ["Arrived", "behind", "by_id", "insert", "newest_number", "position_of_row", "written_as"]

# Rows among which a first attempt may have written one.
RECENT = 10_000


class Arrived(NamedTuple):
    """A message that came to be there."""

    number: int
    channel: str
    """its key"""
    message: bytes
    """as it is published"""


def insert(
    session: Session,
    channel: str,
    message: bytes,
    kind: int = PLAIN,
    keep: int = 0,
    ttl: int = 0,
    nonce: str = "",
) -> int:
    """Write a message; it is sent when the transaction commits.

    Args:
        session: to the database.
        channel: its name.
        message: any bytes.
        kind: one of ``tables``.
        keep: how many messages of its channel are kept.
        ttl: microseconds for which they are.
        nonce: what ``written_as()`` finds it by.

    Returns:
        The id of its row.
    """
    columns = "(number, channel, kind, keep, ttl, nonce, message)"
    places = f"%s, %s, %s, %s, %s, {session.binary}"
    if session.vendor == "sqlite" and not session.is_in_test:
        values = f"SELECT max({session.now}, {NEXT_NUMBER}), {places}"
    else:
        values = f"VALUES (NULL, {places})"
    parameters = [key_of(channel), kind, keep, ttl, nonce or os.urandom(8).hex(), message]
    sql = f"INSERT INTO {MESSAGES} {columns} {values}"
    with session.cursor() as cursor:
        if session.vendor == "postgresql":
            cursor.execute(f"{sql} RETURNING id", parameters)
            return int(cursor.fetchone()[0])
        cursor.execute(sql, parameters)
        return int(cursor.lastrowid)


def written_as(session: Session, nonce: str) -> int | None:
    """Return the id of a recent message, ``None`` if it is not there."""
    row = session.one(
        f"SELECT id FROM (SELECT id, nonce FROM {MESSAGES} ORDER BY id DESC LIMIT {RECENT}) "
        "AS recent WHERE nonce = %s",
        [nonce],
    )
    return None if row is None else int(row[0])


_COLUMNS = (
    "m.number, m.channel, m.kind, m.message, c.epoch, c.floor, "
    f"CASE WHEN m.kind > {PLAIN} THEN (SELECT max(p.number) FROM {MESSAGES} p "
    f"WHERE p.channel = m.channel AND p.kind > {PLAIN} AND p.number < m.number) END"
)
_FROM = f"FROM {MESSAGES} m LEFT JOIN {CHANNELS} c ON c.channel = m.channel"


def behind(session: Session, number: int, count: int) -> list[Arrived]:
    """Return up to ``count`` messages of all channels behind a number, in their order."""
    return _read(session, "m.number > %s ORDER BY m.number LIMIT %s", [number, count])


def by_id(session: Session, row_id: int) -> list[Arrived]:
    """Return one message that has a number, as a list."""
    return _read(session, "m.id = %s AND m.number IS NOT NULL", [row_id])


def _read(session: Session, condition: str, parameters: list[int]) -> list[Arrived]:
    found = []
    stands: dict[str, tuple[int, int]] = {}
    for number, key, kind, message, epoch, floor, previous in session.execute(
        f"SELECT {_COLUMNS} {_FROM} WHERE {condition}", parameters
    ):
        message = bytes(message)
        if kind != PLAIN:
            if epoch is None:
                if key not in stands:
                    stand = begin(session, key, 0)
                    stands[key] = stand.epoch, stand.floor
                epoch, floor = stands[key]
            if number <= floor:
                # The channel went back in time: whoever needs it is told in another way.
                found.append(Arrived(number, "", b""))
                continue
            before = position_of(epoch, max(previous or 0, floor))
            message = kept(before, position_of(epoch, number), message)
        found.append(Arrived(number, key, message))
    return found


def position_of_row(session: Session, row_id: int) -> str | None:
    """Return the position of a message, ``None`` if it has no number yet."""
    row = session.one(
        f"SELECT m.number, c.epoch, m.channel, m.ttl {_FROM} WHERE m.id = %s", [row_id]
    )
    if row is None or row[0] is None:
        return None
    number, epoch, key, ttl = row
    return position_of(begin(session, key, ttl).epoch if epoch is None else epoch, number)


def newest_number(session: Session) -> int:
    """Return the number of the newest message, 0 if there is none."""
    row = session.one(f"SELECT max(number) FROM {MESSAGES}")
    return (row and row[0]) or 0
