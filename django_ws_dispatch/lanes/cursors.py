"""Open cursors, and who may read on from them in a later call: who iterates over a query."""

from __future__ import annotations

import weakref
from typing import Any

__all__ = ["Cursor", "User", "is_read"]


class User:
    """Stands for a lane, which must not be kept alive by what it has used."""

    is_over = False


Cursor = tuple[User | None, weakref.ref[Any]]
"""whose it is, and Django's own cursor"""


def is_read(cursor: Cursor) -> bool:
    """Whether somebody may read on from it."""
    owner, reference = cursor
    return owner is not None and not owner.is_over and _is_open(reference())


def _is_open(cursor: Any) -> bool:
    if cursor is None:
        return False
    try:
        return not cursor.closed
    except Exception:  # sqlite3's does not tell
        return True
