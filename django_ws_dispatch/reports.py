"""What came from a client, as it may stand in a log: escaped, and not all of it."""

from __future__ import annotations

from .typing import Scope

__all__ = ["quoted", "shown", "shown_path"]

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


def _cut(text: str) -> tuple[str, str]:
    escaped = ascii(text[:MOST])[1:-1]
    return escaped[:MOST], "..." * (len(text) > MOST or len(escaped) > MOST)
