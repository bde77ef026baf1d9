"""Where a page is in its groups, as it travels: the token of ``since.<token>``.

base64url without padding of a JSON object, name of a group -> position, and under ``""`` the newest
ids that the page's sockets have had. It is no secret and grants nothing: a handler joins the groups
that it wants, and only of those anything is replayed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from django.utils.asyncio import async_unsafe

from ..exceptions import BrokerError
from .group import Group

__all__ = ["NOTHING", "Brought", "asince_token", "decode", "encode", "since_token"]

logger = logging.getLogger("django_ws_dispatch.groups")

# Of the JSON that is read, and of the token that is made: a proxy takes 8 KiB for all headers.
MOST_BYTES = 4096
MOST_IDS = 8


class Brought(NamedTuple):
    """What a client brings with its handshake."""

    positions: Mapping[str, str]
    """by the names that groups have for a client"""
    ids: tuple[str, ...] = ()
    """of the sockets that its page had before, oldest first"""


NOTHING = Brought({})


def decode(token: str) -> Brought:
    """Return what a token says; one that can not be read is as good as none."""
    if len(token) > MOST_BYTES * 4 // 3 + 2:
        return NOTHING
    try:
        encoded = b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
        found = json.loads(encoded)
    except (ValueError, RecursionError):
        return NOTHING
    if not isinstance(found, dict) or len(encoded) > MOST_BYTES:
        return NOTHING
    ids = found.pop("", None)
    positions = {name: one for name, one in found.items() if isinstance(one, str) and one}
    if not isinstance(ids, list):
        ids = []
    return Brought(positions, tuple(one for one in ids if isinstance(one, str))[-MOST_IDS:])


def encode(positions: Mapping[str, str], ids: Sequence[str] = ()) -> str:
    """Return the token of positions, and of the newest ids.

    Raises:
        ValueError: it would be too long to travel.
    """
    found = {**positions, "": ids[-MOST_IDS:]} if ids else positions
    token = urlsafe_b64encode(json.dumps(found, separators=(",", ":")).encode())
    if len(token) > MOST_BYTES:
        raise ValueError(
            f"{len(positions)} groups make a token of {len(token)} characters, and a handshake "
            f"carries at most {MOST_BYTES}: take one for fewer groups."
        )
    return token.rstrip(b"=").decode()


@async_unsafe("since_token() can not be called where an event loop runs - use asince_token().")
def since_token(*groups: str | Group) -> str:
    """Return where groups stand now, for the client of the page that is being made.

    A page whose view takes the token first, and reads the database then, misses nothing that was
    sent after its transaction committed. It may see one message twice, so messages carry an id.

    Args:
        groups: names, or ``Group`` objects, that have a history. A ``user_group()`` is taken for
            that of the page's own user.

    Returns:
        A token for ``connect(url, {since: ...})``; ``""`` where the broker is away, so that the
        page is served all the same. One line of the log says so.

    Raises:
        ValueError: one of them has no history; two have one name for a client; the token would be
            longer than 4 KiB.
        SynchronousOnlyOperation: an event loop runs in this thread.
    """
    wanted = _wanted(groups)
    try:
        return encode({name: group.position() for name, group in wanted.items()})
    except BrokerError as exc:
        return _none(exc)


async def asince_token(*groups: str | Group) -> str:
    """The same as ``since_token()``, in a running event loop.

    Args:
        groups: names, or ``Group`` objects, that have a history.
    """
    wanted = _wanted(groups)
    try:
        found = await asyncio.gather(*(group.aposition() for group in wanted.values()))
    except BrokerError as exc:
        return _none(exc)
    return encode(dict(zip(wanted, found, strict=True)))


def _wanted(groups: Iterable[str | Group]) -> dict[str, Group]:
    found: dict[str, Group] = {}
    for one in groups:
        group = one if isinstance(one, Group) else Group(one)
        if found.setdefault(group.wire_name, group) != group:
            raise ValueError(f"Two of these groups are called {group.wire_name!r} for a client.")
    return found


def _none(exc: BrokerError) -> str:
    logger.warning("A page is served without a token, and may miss messages: %s", exc)
    return ""
