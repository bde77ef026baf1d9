"""Who is here, as a list."""

from __future__ import annotations

from ..presence import Here, Roll
from .channels import key_of
from .session import Session
from .tables import HERE, ROOMS, TRACKERS

__all__ = ["roll_of", "snapshot", "text_of"]


def snapshot(session: Session, channel: str, most: int) -> Roll:
    """See ``BaseBroker.snapshot()``."""
    key = key_of(channel)
    room = session.one(
        f"SELECT epoch, version, grace, {session.now} FROM {ROOMS} WHERE channel = %s", [key]
    )
    if room is None:
        return Roll("0.0", 0, [])
    epoch, version, grace, now = room
    return roll_of(session, key, f"{epoch}.{version}", most, now, above=True, grace=grace > now)


def roll_of(
    session: Session, key: str, version: str, most: int, now: int, *, above: bool, grace: bool
) -> Roll:
    """Return who is here: the first ``most`` of them, or nobody if not ``above`` and more are."""
    where, parameters = "channel = %s", [key]
    if not grace:
        sql = f"SELECT 1 FROM {TRACKERS} WHERE channel = %s AND expires > %s LIMIT 1"
        # Where nobody has said anything for long only who lingers is here.
        spoken = "lingers IS NULL OR " if session.one(sql, [key, now]) else ""
        where += f" AND ({spoken}lingers > %s)"
        parameters = [key, now]  # type: ignore[list-item]
    ((total,),) = session.execute(f"SELECT count(*) FROM {HERE} WHERE {where}", parameters)
    rows = []
    if most and (above or total <= most):
        rows = session.execute(
            f"SELECT who, sockets, since, info FROM {HERE} WHERE {where} ORDER BY since LIMIT %s",
            [*parameters, most],
        )
    here = [Here(text_of(one), sockets, since, text_of(info)) for one, sockets, since, info in rows]
    return Roll(version, total, here)


def text_of(value: bytes | memoryview) -> str:
    """Return the text of a binary column."""
    return bytes(value).decode(errors="surrogatepass")
