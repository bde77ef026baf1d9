"""The groups of the soak, and which of them remember."""

from __future__ import annotations

from typing import Any

__all__ = [
    "BACK",
    "GROUPS",
    "HERE",
    "HISTORY",
    "KEPT",
    "LINGER",
    "SHORT_SIZES",
    "SIZES",
    "STORE",
    "find",
    "remembers",
]

STORE = "store"
"""the broker that is killed: of the groups that remember, and of some that know who is here"""

GROUPS = [f"room-{number}" for number in range(40)]

# The one remembers more than is sent while a client is away, the other may have less.
HISTORY = {"kept": 5_000, "short": 30}
KEPT = [*(f"kept-{number}" for number in range(8)), *(f"short-{number}" for number in range(4))]

# Who is in them is known.
HERE = [f"here-{number}" for number in range(5)]
BACK = [f"back-{number}" for number in range(2)]
LINGER = 2

SIZES = [0, 1, 20, 20, 20, 125, 126, 1000, 5000, 70_000]
# What is kept is in memory, and on disk: only some of it is long.
SHORT_SIZES = [*SIZES[:-1] * 4, SIZES[-1]]


def remembers(name: str) -> int:
    """Return how many messages a group keeps."""
    return HISTORY.get(name.partition("-")[0], 0)


def find(name: str) -> Any:
    """Return the ``Group``."""
    # The settings read this module.
    from django_ws_dispatch.groups import Group

    return Group(name, broker=STORE) if remembers(name) or name in BACK else Group(name)
