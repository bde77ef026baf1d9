"""Who is here: what processes say of their sockets, what a broker makes of it, and how it travels.

A *tracker* is one event loop of one process. It says how many sockets of a *key* it has, and says
so now and then; of one that is silent for too long the broker takes its sockets for gone. A key is
here as long as any tracker has one, and lingers for a while after the last one left.

What changes is published with the version before it, so that a hole is seen at once::

    p (1 byte) | 0 | version (1 byte) | JSON

    {"b": version before, "v": version, "n": how many keys, "l": [keys], "j": [[key, sockets,
    since, info], ...]}, or with "o" instead of both lists where more are here than are listed

``l`` is applied first; ``j`` is who came, or has changed. Numbers are strings, ``info`` is JSON in
a string: the broker never looks into it.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

__all__ = [
    "BATCH",
    "EXPIRY",
    "GRACE",
    "PRESENCE",
    "REFRESH",
    "SWEPT",
    "Changes",
    "Entry",
    "Here",
    "Listed",
    "Roll",
    "Tracked",
    "changes_of",
    "published",
    "version_of",
]

PRESENCE = bytes((ord("p"), 0, 1))
"""The head of changes, as they are published."""

# Seconds: a tracker that is silent for EXPIRY is gone, which others notice when they say that they
# are here, every REFRESH. After an outage all are silent: none is gone for GRACE.
REFRESH = 15.0
EXPIRY = 40.0
GRACE = 20.0
BATCH = 50
"""Keys of which a tracker speaks in one call, which no server may hold for longer than 2 ms."""
SWEPT = 100
"""Keys that one call sweeps, at most."""


class Listed(NamedTuple):
    """How a channel lists who is here."""

    most: int
    """how many keys; of more only the number is told"""
    linger: float
    """seconds for which a key stays whose last socket left"""


class Entry(NamedTuple):
    """What a tracker says of one key."""

    key: str
    sockets: int
    """that it has: 0 if none any more"""
    info: str = ""
    """JSON that others see; empty: as it is"""
    instead_of: str = ""
    """the info that it takes the place of; empty: of any"""
    lingers: bool = False
    """if that was its last one: whoever it is may come back"""


class Here(NamedTuple):
    """One key that is here."""

    key: str
    sockets: int
    """of all trackers; 0 while it lingers"""
    since: int
    """microseconds since 1970, by the broker's clock: in the order in which they came"""
    info: str
    """JSON"""


class Roll(NamedTuple):
    """Who is here."""

    version: str
    total: int
    here: list[Here]
    """longest here first; up to so many as are listed"""


class Changes(NamedTuple):
    """What has changed from one version to the next."""

    previous: str
    version: str
    total: int
    """how many keys are here after it"""
    left: list[str]
    here: list[Here] | None
    """who came, or has changed; ``None`` where more are here than are listed"""


class Tracked(NamedTuple):
    """What a tracker is answered."""

    known: bool
    """the broker has what it said before"""
    more: bool
    """there is more to sweep: call again"""
    keys: int
    """of which it has sockets of this tracker: not as many as there are, and it has missed a call,
    or has an older state"""
    changes: Changes | None
    """what this call has changed; it was published"""
    roll: Roll | None
    """after that, where it was asked for. Above the limit it lists nobody."""


def published(changes: Changes) -> bytes:
    """Return changes as they are published."""
    found: dict[str, Any] = {
        "b": changes.previous,
        "v": changes.version,
        "n": str(changes.total),
    }
    if changes.here is None:
        found["o"] = "1"
    else:
        found["l"] = changes.left
        found["j"] = [(one.key, str(one.sockets), str(one.since), one.info) for one in changes.here]
    return PRESENCE + json.dumps(found, ensure_ascii=False).encode()


def changes_of(payload: bytes) -> Changes:
    """Return what ``published()`` had, of what stands behind the head.

    Raises:
        ValueError: it did not come from there.
    """
    found = json.loads(payload)
    try:
        here = None
        if "o" not in found:
            came = found.get("j") or ()
            here = [Here(key, int(n), int(float(since)), info) for key, n, since, info in came]
        changes = Changes(found["b"], found["v"], int(found["n"]), list(found.get("l") or ()), here)
        version_of(changes.previous)
        version_of(changes.version)
    except (KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise ValueError("no changes of who is here") from exc
    return changes


def version_of(version: str) -> tuple[int, int]:
    """Return what versions are ordered by: when the memory began, and when it changed.

    Raises:
        ValueError: it is none.
    """
    epoch, _, number = version.partition(".")
    return int(epoch), int(number)
