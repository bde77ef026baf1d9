"""Who is here by what a database knows.

One transaction for each time a tracker speaks, which has the row of the room for itself: so exactly
one tells of what changes, and in one order. Times are numbers, microseconds by the database's
clock. A version has the time in it, so that it never comes again where the database went back to
an older state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from ..presence import (
    EXPIRY,
    GRACE,
    REFRESH,
    SWEPT,
    Changes,
    Entry,
    Here,
    Listed,
    Tracked,
    published,
)
from .channels import SECOND, key_of
from .messages import insert
from .rolls import roll_of, text_of
from .session import Session
from .tables import HERE, ROOMS, TRACKED, TRACKERS

__all__ = ["Said", "track"]

# Microseconds that a room outlives whoever speaks of it: a sweep may take its time.
KEPT = 3600 * SECOND


class Said(NamedTuple):
    """What a tracker says: the arguments of ``BaseBroker.atrack()``."""

    channel: str
    tracker: str
    entries: Sequence[Entry]
    listed: Listed
    roll: bool
    away: bool
    ends: bool
    replaces: str
    replaced: bool


class _Key:
    """A key as its row has it, or will have."""

    def __init__(self, key: str, since: int, sockets: int = 0, info: str = "null") -> None:
        self.key = key
        self.since = since
        self.sockets = sockets
        self.info = info
        self.lingers: int | None = None
        self.is_new = False

    @property
    def here(self) -> Here:
        return Here(self.key, max(self.sockets, 0), self.since, self.info)


def track(session: Session, said: Said) -> Tracked:
    """See ``BaseBroker.atrack()``."""
    with session.transaction():
        return _Room(session, said).track()


class _Room:
    """One channel, for as long as the transaction lasts in which a tracker speaks of it."""

    def __init__(self, session: Session, said: Said) -> None:
        self.session = session
        self.said = said
        self.key = key_of(said.channel)
        columns = f"SELECT epoch, version, grace, {session.now} FROM {ROOMS} WHERE channel = %s"
        locked = f"{columns} {session.for_update}"
        found = session.one(locked, [self.key])
        if found is None:
            ((now,),) = session.execute(f"SELECT {session.now}")
            row = {"channel": self.key, "epoch": now, "version": 0, "grace": 0, "due": now + KEPT}
            session.insert_missing(ROOMS, row)
            found = session.one(locked, [self.key])
        self.epoch, self.version, self.grace, self.now = map(int, found or (0, 0, 0, 0))
        self.keys: dict[str, _Key] = {}
        self.left: list[str] = []
        self.changed: dict[str, _Key] = {}

    def track(self) -> Tracked:
        session, said, now = self.session, self.said, self.now
        before = self.version
        expires = self._expires(said.tracker)
        if said.away or (expires is not None and expires <= now):
            # Where others were heard meanwhile the broker was away for this one only.
            heard = now + int((EXPIRY - REFRESH) * SECOND)
            if not self._has_tracker("expires > %s", heard):
                self.grace = now + int(GRACE * SECOND)
        self._take(said.entries)
        self._renew(expires is not None)
        if said.replaced:
            session.execute(
                f"UPDATE {TRACKERS} SET expires = 0 WHERE channel = %s AND tracker = %s",
                [self.key, said.replaces],
            )
        more = self._sweep()
        changes = self._tell(before)
        session.execute(
            f"UPDATE {ROOMS} SET version = %s, grace = %s, due = %s WHERE channel = %s",
            [self.version, self.grace, now + KEPT + int(said.listed.linger * SECOND), self.key],
        )
        ((count,),) = session.execute(
            f"SELECT count(*) FROM {TRACKED} WHERE channel = %s AND tracker = %s",
            [self.key, said.tracker],
        )
        roll = None
        if said.roll:
            version, grace = f"{self.epoch}.{self.version}", self.grace > now
            roll = roll_of(
                session, self.key, version, said.listed.most, now, above=False, grace=grace
            )
        return Tracked(expires is not None, more, count, changes, roll)

    # Trackers

    def _expires(self, tracker: str) -> int | None:
        row = self.session.one(
            f"SELECT expires FROM {TRACKERS} WHERE channel = %s AND tracker = %s",
            [self.key, tracker],
        )
        return None if row is None else int(row[0])

    def _has_tracker(self, condition: str, moment: int) -> bool:
        sql = f"SELECT 1 FROM {TRACKERS} WHERE channel = %s AND {condition} LIMIT 1"
        return self.session.one(sql, [self.key, moment]) is not None

    def _renew(self, known: bool) -> None:
        session, row = self.session, [self.key, self.said.tracker]
        if not self.said.ends:
            moment = self.now + int(EXPIRY * SECOND)
            if known:
                sql = f"UPDATE {TRACKERS} SET expires = %s WHERE channel = %s AND tracker = %s"
            else:
                sql = f"INSERT INTO {TRACKERS} (expires, channel, tracker) VALUES (%s, %s, %s)"
            session.execute(sql, [moment, *row])
        elif known:
            session.execute(
                f"DELETE FROM {TRACKERS} WHERE channel = %s AND tracker = %s AND NOT EXISTS "
                f"(SELECT 1 FROM {TRACKED} t WHERE t.channel = %s AND t.tracker = %s)",
                [*row, *row],
            )

    def _sockets(self, tracker: str, hashes: Sequence[str]) -> dict[str, int]:
        places = ", ".join(["%s"] * len(hashes))
        rows = self.session.execute(
            f"SELECT key_hash, sockets FROM {TRACKED} WHERE channel = %s AND tracker = %s "
            f"AND key_hash IN ({places})",
            [self.key, tracker, *hashes],
        )
        return dict(rows)

    def _set_sockets(self, tracker: str, key_hash: str, sockets: int, had: int) -> None:
        row = [self.key, tracker, key_hash]
        if not sockets:
            where = "WHERE channel = %s AND tracker = %s AND key_hash = %s"
            self.session.execute(f"DELETE FROM {TRACKED} {where}", row)
        elif had:
            self.session.execute(
                f"UPDATE {TRACKED} SET sockets = %s "
                "WHERE channel = %s AND tracker = %s AND key_hash = %s",
                [sockets, *row],
            )
        else:
            self.session.execute(
                f"INSERT INTO {TRACKED} (sockets, channel, tracker, key_hash) "
                "VALUES (%s, %s, %s, %s)",
                [sockets, *row],
            )

    # Keys

    def _load(self, condition: str, parameters: Iterable[object]) -> list[str]:
        """Read keys; return their hashes."""
        found = []
        for key_hash, key, since, sockets, info, lingers in self.session.execute(
            f"SELECT key_hash, who, since, sockets, info, lingers FROM {HERE} "
            f"WHERE channel = %s AND {condition}",
            [self.key, *parameters],
        ):
            found.append(key_hash)
            if key_hash not in self.keys:
                one = self.keys[key_hash] = _Key(text_of(key), since, sockets, text_of(info))
                one.lingers = lingers
        return found

    def _take(self, entries: Sequence[Entry]) -> None:
        """Take what the tracker says of its sockets."""
        if not entries:
            return
        said, now = self.said, self.now
        linger = int(said.listed.linger * SECOND)
        hashes = [_hash(entry.key) for entry in entries]
        self._load(f"key_hash IN ({', '.join(['%s'] * len(hashes))})", hashes)
        mine = self._sockets(said.tracker, hashes)
        theirs = self._sockets(said.replaces, hashes) if said.replaces else {}
        for at, (key_hash, entry) in enumerate(zip(hashes, entries, strict=True)):
            own = mine.get(key_hash, 0)
            taken = theirs.pop(key_hash, 0)
            if taken:
                self._set_sockets(said.replaces, key_hash, 0, taken)
            had = own + taken
            if entry.sockets != own:
                self._set_sockets(said.tracker, key_hash, entry.sockets, own)
            mine[key_hash] = entry.sockets
            one = self.keys.get(key_hash)
            rest = (one.sockets if one else 0) + entry.sockets - had
            if rest > 0:
                if one is None:
                    one = self.keys[key_hash] = _Key(entry.key, now + at)
                    one.is_new = True
                    self.changed[key_hash] = one
                if entry.sockets != had:
                    self.changed[key_hash] = one
                one.sockets, one.lingers = rest, None
                if entry.info and entry.info != one.info and entry.instead_of in ("", one.info):
                    one.info = entry.info
                    self.changed[key_hash] = one
            elif had and one is not None:
                one.sockets = 0
                if entry.lingers and linger:
                    one.lingers = now + linger
                    self.changed[key_hash] = one
                else:
                    self._remove(key_hash)

    def _remove(self, key_hash: str) -> None:
        one = self.keys.pop(key_hash)
        self.changed.pop(key_hash, None)
        self.left.append(one.key)
        if not one.is_new:
            self.session.execute(
                f"DELETE FROM {HERE} WHERE channel = %s AND key_hash = %s", [self.key, key_hash]
            )

    def _sweep(self) -> bool:
        """Take out who is gone, a bounded number; return whether there are more."""
        now, grace = self.now, self.grace > self.now
        more, room = False, SWEPT
        expired = 0 if grace else now
        row = self.session.one(
            f"SELECT tracker FROM {TRACKERS} WHERE channel = %s AND expires <= %s "
            "ORDER BY expires LIMIT 1",
            [self.key, expired],
        )
        if row is not None:
            (tracker,) = row
            rows = self.session.execute(
                f"SELECT key_hash, sockets FROM {TRACKED} WHERE channel = %s AND tracker = %s "
                "LIMIT %s",
                [self.key, tracker, SWEPT],
            )
            room -= len(rows)
            if rows:
                hashes = [key_hash for key_hash, _ in rows]
                self._load(f"key_hash IN ({', '.join(['%s'] * len(hashes))})", hashes)
            for key_hash, sockets in rows:
                self._set_sockets(tracker, key_hash, 0, sockets)
                if (one := self.keys.get(key_hash)) is not None:
                    one.sockets -= sockets
                    if one.sockets > 0:
                        self.changed[key_hash] = one
                    else:
                        self._remove(key_hash)
            if len(rows) < SWEPT:
                self.session.execute(
                    f"DELETE FROM {TRACKERS} WHERE channel = %s AND tracker = %s",
                    [self.key, tracker],
                )
            more = self._has_tracker("expires <= %s", expired)
        if not grace:
            self._write()
            due = self._load("lingers <= %s ORDER BY lingers LIMIT %s", [now, room])
            more = more or len(due) == room
            for key_hash in due:
                self._remove(key_hash)
        return more

    def _write(self) -> None:
        """Write what has changed of the keys."""
        for key_hash, one in self.changed.items():
            values = [one.sockets, one.info.encode(errors="surrogatepass"), one.lingers]
            binary = self.session.binary
            if one.is_new:
                key = one.key.encode(errors="surrogatepass")
                self.session.execute(
                    f"INSERT INTO {HERE} (sockets, info, lingers, channel, key_hash, "
                    "who, since) "
                    f"VALUES (%s, {binary}, %s, %s, %s, {binary}, %s)",
                    [*values, self.key, key_hash, key, one.since],
                )
                one.is_new = False
            else:
                self.session.execute(
                    f"UPDATE {HERE} SET sockets = %s, info = {binary}, lingers = %s "
                    "WHERE channel = %s AND key_hash = %s",
                    [*values, self.key, key_hash],
                )

    def _tell(self, before: int) -> Changes | None:
        """Publish what has changed."""
        self._write()
        if not self.left and not self.changed:
            return None
        self.version = max(self.now, before + 1)
        ((count,),) = self.session.execute(
            f"SELECT count(*) FROM {HERE} WHERE channel = %s", [self.key]
        )
        previous, version = f"{self.epoch}.{before}", f"{self.epoch}.{self.version}"
        if count > self.said.listed.most:
            changes = Changes(previous, version, count, [], None)
        else:
            here = [one.here for one in self.changed.values()]
            changes = Changes(previous, version, count, self.left, here)
        insert(self.session, self.said.channel, published(changes))
        return changes


def _hash(key: str) -> str:
    return blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
