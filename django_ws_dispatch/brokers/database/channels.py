"""Where a channel stands: when its memory began, what of it is gone, and its newest message.

The row of a channel is made by whoever first needs it, never by a sender, who would wait for
another one there. A *position* is ``epoch.ms-us``: when the memory began, and the number of the
message. What has a number up to the *floor* is gone, whether the row was deleted yet or not.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from ..history import Top, order_of
from .session import Row, Session
from .tables import CHANNELS, KEPT_FORGOTTEN, KEPT_ORDER, MESSAGES, PLAIN

__all__ = [
    "DAY",
    "KEPT",
    "MINUTE",
    "SECOND",
    "Stand",
    "begin",
    "keep_alive",
    "key_of",
    "number_of",
    "position_of",
    "stand_of",
    "stands_of",
]

SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND
# Beyond it a number fits into no column.
_MOST = 2**63 - 1

# A message of this channel that is kept. Behind it: " > floor" and the like.
KEPT = f"channel = %s AND kind > {PLAIN} AND number"

_ABOVE = "m.channel = c.channel AND m.kind >= {} AND m.number > c.floor"
_COLUMNS = (
    "c.channel, c.epoch, c.floor, c.orders, c.alive, "
    f"(SELECT max(m.number) FROM {MESSAGES} m WHERE {_ABOVE.format(PLAIN + 1)}), "
    f"(SELECT count(*) FROM {MESSAGES} m WHERE {_ABOVE.format(KEPT_ORDER)}), "
    f"(SELECT max(m.number) FROM {MESSAGES} m WHERE {_ABOVE.format(KEPT_FORGOTTEN)})"
)


class Stand(NamedTuple):
    """Where a channel stands, in numbers."""

    epoch: int
    floor: int
    top: int
    orders: int
    forgot: int
    """of the last message that says that all before it is forgotten; 0 if there is none"""
    alive: int
    now: int

    @property
    def public(self) -> Top:
        """As a broker says it."""
        return Top(position_of(self.epoch, self.top), self.orders)


def key_of(channel: str) -> str:
    """Return what a channel is called in the tables."""
    return blake2b(channel.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def position_of(epoch: int, number: int) -> str:
    """Return the position of a number."""
    return f"{epoch}.{number // 1000}-{number % 1000}"


def number_of(position: str) -> tuple[int, int] | None:
    """Return epoch and number, ``None`` if it is no position of this broker."""
    parts = order_of(position)
    if parts is None or parts[2] > 999:
        return None
    epoch, number = parts[0], parts[1] * 1000 + parts[2]
    return (epoch, number) if max(epoch, number) <= _MOST else None


def _stand(row: Row) -> Stand:
    _, epoch, floor, gone, alive, top, orders, forgot, now = row
    return Stand(epoch, floor, top or floor, gone + orders, forgot or 0, alive, int(now))


def stand_of(session: Session, key: str) -> Stand | None:
    """Return where a channel stands, ``None`` if nobody has asked before."""
    row = session.one(
        f"SELECT {_COLUMNS}, {session.now} FROM {CHANNELS} c WHERE c.channel = %s", [key]
    )
    return None if row is None else _stand(row)


def stands_of(session: Session, keys: list[str]) -> dict[str, Stand]:
    """Return where channels stand that somebody has asked for."""
    places = ", ".join(["%s"] * len(keys))
    rows = session.execute(
        f"SELECT {_COLUMNS}, {session.now} FROM {CHANNELS} c WHERE c.channel IN ({places})", keys
    )
    return {row[0]: _stand(row) for row in rows}


def begin(session: Session, key: str, ttl: int) -> Stand:
    """Return where a channel stands; its memory begins if nobody has asked before.

    Args:
        session: to the database.
        key: of the channel.
        ttl: microseconds for which messages are kept.
    """
    if (stand := stand_of(session, key)) is not None:
        return stand
    first = session.one(
        f"SELECT min(number), {session.now} FROM {MESSAGES} WHERE {KEPT} > 0", [key]
    )
    number, now = first or (None, 0)
    # Of a message that is being committed the number may be lower than the time is now.
    floor = now - MINUTE if number is None else number - 1
    row: dict[str, object] = {"channel": key, "epoch": now, "floor": floor, "orders": 0}
    row["due"] = now if number is not None else now + ttl + DAY
    row["alive"] = now + ttl + DAY
    session.insert_missing(CHANNELS, row)
    stand = stand_of(session, key)
    # A transaction may see no more than there was when it began.
    return stand or Stand(now, floor, floor, 0, 0, row["alive"], now)  # type: ignore[arg-type]


def keep_alive(session: Session, key: str, stand: Stand, ttl: int) -> None:
    """Have the position of a channel outlive whoever reads it now."""
    if stand.alive - stand.now < (ttl + DAY) // 2:
        session.execute(
            f"UPDATE {CHANNELS} SET alive = %s WHERE channel = %s AND alive < %s",
            [stand.now + ttl + DAY, key, stand.now + ttl + DAY],
        )
