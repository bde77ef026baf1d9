"""Each "no" to a client is told of here: one log line, and later one count.

What came from a client stands in a log escaped, and not all of it.
"""

from __future__ import annotations

import logging

from .typing import Scope

__all__ = ["closed", "quoted", "shown", "shown_path"]

connection_logger = logging.getLogger("django_ws_dispatch.connection")

# Characters of one thing that a client said.
MOST = 200


def shown(text: str) -> str:
    """Return ``text`` on one line of ASCII, 200 characters at most, and ``...`` for the rest."""
    return "".join(_cut(text))


def quoted(text: str) -> str:
    """Return what ``shown()`` does, between quotes."""
    escaped, rest = _cut(text)
    return f"'{escaped}'{rest}"


def shown_path(scope: Scope) -> str:
    """Return the path as the server gave it."""
    path: str = scope.get("path", "")
    return shown(path)


def closed(path: str, code: int, why: str) -> None:
    """Tell that an open socket was closed by this side.

    Args:
        path: as ``shown_path()`` returns it.
        code: of the close frame.
        why: for people, without a full stop.
    """
    extra = {"path": path, "status_code": int(code)}
    connection_logger.warning("Closed %s with %d: %s.", path, code, why, extra=extra)


def _cut(text: str) -> tuple[str, str]:
    escaped = ascii(text[:MOST])[1:-1]
    return escaped[:MOST], "..." * (len(text) > MOST or len(escaped) > MOST)
