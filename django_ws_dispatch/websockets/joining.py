"""What ``WebSocket.join()`` does: subscribe, be there, accept, replay, in that order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from django.utils.crypto import salted_hmac

from .. import groups
from ..codes import invites_back
from ..groups.membership import Who, Wishes
from ..groups.options import GroupOptions
from ..groups.seats import Seat
from ..reports import FAILURE, meaning_of
from .socket import Socket
from .state import CLOSING, OPEN

__all__ = ["joining"]


@asynccontextmanager
async def joining(
    socket: Socket, joined: list[groups.Group], wishes: Wishes, who: Who
) -> AsyncIterator[groups.Membership]:
    """See ``WebSocket.join()``."""
    connection = socket.connection
    if connection.ready_state >= CLOSING:
        raise connection.disconnect()
    places = [group.place for group in joined]
    names = {place: group.wire_name for place, group in zip(places, joined, strict=True)}
    options = _options(joined, places)
    kept = {place: one for place, one in options.items() if one.history}
    later = [place for place in kept if wishes.newest or names[place] in wishes.since]
    listed = {place: one for place, one in options.items() if one.presence}
    key = who.key or (_key(socket) if listed else "")
    seats = {place: (Seat(key, who.info), one) for place, one in listed.items()}
    writer = connection.writer
    membership = groups.Membership([seat for seat, _ in seats.values()])
    registry = groups.members.local()
    held = await registry.join(writer, *places, kept=kept, later=later, seats=seats)
    for place, group in held.items():
        if place not in later:
            membership.entered(names[place], group)
    # Nothing is awaited in between: from here on the end of the handler leaves them, too.
    if socket.joined is None:
        socket.joined = []
    stays: list[groups.members.Stay] = [(place, None) for place in places]
    stays += [(None, seat) for seat, _ in seats.values()]
    socket.joined += stays
    failed = False
    try:
        await connection.ensure_accepted()
        if connection.ready_state is not OPEN:
            raise connection.disconnect()
        # All groups at once, so that it takes one round trip, and then in their order.
        begin = [membership.begin(names[place], held[place], wishes) for place in later]
        begins = [await begin[0]] if len(begin) == 1 else await asyncio.gather(*begin)
        for place, begun in zip(later, begins, strict=True):
            group = held[place]
            await membership.follow(names[place], group, begun, wishes, writer.replay, socket.id)
            group.enter(writer)
            membership.entered(names[place], group)
        try:
            yield membership
        except (Exception, asyncio.CancelledError) as exc:
            # As a rule its handler ends with it, and that closes the socket.
            failed = invites_back((meaning_of(exc) or FAILURE).code)
            raise
    finally:
        membership.end()
        for stay in stays:
            socket.leave(stay, failed=failed)


def _options(
    joined: list[groups.Group], places: list[groups.members.Place]
) -> dict[groups.members.Place, GroupOptions]:
    """Return those of the groups that have any.

    Raises:
        ValueError: two of them have one name for the client.
    """
    found: dict[groups.members.Place, GroupOptions] = {}
    named: dict[str, groups.members.Place] = {}
    for group, place in zip(joined, places, strict=True):
        if (options := group.options) is None:
            continue
        found[place] = options
        if named.setdefault(group.wire_name, place) != place:
            raise ValueError(
                f"Two of these groups are called {group.wire_name!r} where a client, or a mapping "
                "of positions, names them: join one after the other."
            )
    return found


def _key(socket: Socket) -> str:
    """Return who a socket is for the others, where the handler does not say."""
    user = socket.resolved_user
    if user is not None and user.is_authenticated and user.pk is not None:
        return str(user.pk)
    # Not its id, by which a page tells apart what comes from itself.
    return salted_hmac("django_ws_dispatch.presence", socket.id, algorithm="sha256").hexdigest()
