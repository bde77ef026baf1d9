"""What ``WebSocket.join()`` does: subscribe, be there, accept, replay, in that order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from django.utils.crypto import salted_hmac

from .. import groups
from ..codes import invites_back
from ..groups.membership import Who, Wishes
from ..groups.options import GroupOptions
from ..groups.seats import Seat
from ..reports import FAILURE, meaning_of
from .envelope import Named
from .enveloped import EnvelopedWriter, Introduction
from .socket import Socket
from .state import CLOSING, OPEN

__all__ = ["brought", "joining", "names_of", "settled"]


def names_of(socket: Socket, joined: Sequence[groups.Group]) -> list[str]:
    """Return what groups are called where the client of a socket, or a mapping of positions, names
    them: the one of its own user is not told by its key.
    """
    return [_name_of(socket, group) for group in joined]


def _name_of(socket: Socket, group: groups.Group) -> str:
    if group.wire_name == group.name:
        return group.name
    user = socket.resolved_user
    if user is None or not user.is_authenticated or str(user.pk) == group.name:
        return group.wire_name
    return group.name


def brought(socket: Socket, names: Sequence[str]) -> Mapping[str, str] | None:
    """Return where the client of a socket is in groups that it has not been in on this socket."""
    envelope = socket.connection.envelope
    if envelope is None or not envelope.will_speak:
        return None
    positions = envelope.brought.positions
    return {
        name: positions[name]
        for name in names
        if name in positions and name not in envelope.resumed
    }


async def settled(socket: Socket, joined: Sequence[groups.Group]) -> None:
    """Wait for joins of the same groups that are under way in other tasks.

    What they replay would come twice, or in the middle of what is live.
    """
    envelope = socket.connection.envelope
    if envelope is None or not envelope.named:
        return
    places = [group.place for group in joined]
    while busy := [
        one.settled
        for place in places
        if (one := envelope.named.get(place)) is not None and one.settled is not None
    ]:
        await asyncio.wait(busy)


@asynccontextmanager
async def joining(
    socket: Socket, joined: list[groups.Group], names: Sequence[str], wishes: Wishes, who: Who
) -> AsyncIterator[groups.Membership]:
    """See ``WebSocket.join()``."""
    connection = socket.connection
    if connection.ready_state >= CLOSING:
        raise connection.disconnect()
    places = [group.place for group in joined]
    called = dict(zip(places, names, strict=True))
    options = _options(socket, joined, places, called)
    kept = {place: one for place, one in options.items() if one.history}
    later = [place for place in kept if wishes.newest or called[place] in wishes.since]
    listed = {place: one for place, one in options.items() if one.presence}
    key = who.key or (_key(socket) if listed else "")
    seats = {place: (Seat(key, who.info), one) for place, one in listed.items()}
    writer = connection.writer
    membership = groups.Membership([seat for seat, _ in seats.values()])
    registry = groups.members.local()
    of_options = [place for place in places if place in options]  # as often as it is joined
    introductions = _name(socket, of_options, called)
    try:
        held = await registry.join(writer, *places, kept=kept, later=later, seats=seats)
    except BaseException:
        for place in of_options:
            socket.unname(place)
        _settle(introductions)
        raise
    for place, (seat, _) in seats.items():
        if socket.named is not None and seat.group is not None:
            socket.named[place].audience = seat.group.audience
    for place, group in held.items():
        if place not in later:
            membership.entered(called[place], group)
    # Nothing is awaited in between: from here on the end of the handler leaves them, too.
    if socket.joined is None:
        socket.joined = []
    stays: list[groups.members.Stay] = [(place, None) for place in places]
    stays += [(None, seat) for seat, _ in seats.values()]
    socket.joined += stays
    entered = failed = cancelled = False
    try:
        await connection.ensure_accepted()
        if connection.ready_state is not OPEN:
            raise connection.disconnect()
        for place, introduction in introductions.items():
            if place not in later and introduction.is_first:
                await introduction.joined(membership.positions.get(called[place]), None)
        # All groups at once, so that it takes one round trip, and then in their order.
        begin = [membership.begin(called[place], held[place], wishes) for place in later]
        begins = [await begin[0]] if len(begin) == 1 else await asyncio.gather(*begin)
        ids = (socket.id, *writer.former_ids)
        for place, begun in zip(later, begins, strict=True):
            group, name, told = held[place], called[place], introductions.get(place)
            send = writer.replay if told is None else told.send
            if told is not None and not told.is_first:
                told = None
            await membership.follow(name, group, begun, wishes, send, ids, told)
            group.enter(writer)
            membership.entered(name, group)
        entered = True
        _settle(introductions)
        try:
            yield membership
        except (Exception, asyncio.CancelledError) as exc:
            # As a rule its handler ends with it, and that closes the socket.
            failed = invites_back((meaning_of(exc) or FAILURE).code)
            cancelled = isinstance(exc, asyncio.CancelledError)
            raise
    finally:
        _settle(introductions)
        membership.end()
        if cancelled and socket.connection.envelope is not None:
            # Or only its task was, as a time-out does, and the socket goes on.
            socket.connection.envelope.owe(introductions)
        for stay in stays:
            socket.leave(stay, failed=failed, tell=entered and not failed)


def _options(
    socket: Socket,
    joined: list[groups.Group],
    places: list[groups.members.Place],
    called: Mapping[groups.members.Place, str],
) -> dict[groups.members.Place, GroupOptions]:
    """Return those of the groups that have any.

    Raises:
        ValueError: two of them, or of those that the socket is in, have one name for the client.
    """
    found: dict[groups.members.Place, GroupOptions] = {}
    named = {one.name: place for place, one in (socket.named or {}).items()}
    for group, place in zip(joined, places, strict=True):
        if (options := group.options) is None:
            continue
        name, found[place] = called[place], options
        if named.setdefault(name, place) != place:
            raise ValueError(
                f"Two of these groups are called {name!r} where a client, or a mapping of "
                "positions, names them: join one after the other has been left."
            )
    return found


def _name(
    socket: Socket,
    places: Sequence[groups.members.Place],
    called: Mapping[groups.members.Place, str],
) -> dict[groups.members.Place, Introduction]:
    """Have the socket know the names of groups. Return how its client is told of them, if it is."""
    envelope, writer = socket.connection.envelope, socket.connection.writer
    introductions: dict[groups.members.Place, Introduction] = {}
    if not places:
        return introductions
    if socket.named is None:
        socket.named = {} if envelope is None else envelope.named
    speaks = envelope is not None and envelope.will_speak
    for place in places:
        named = socket.named.get(place)
        if named is None:
            if envelope is not None:
                envelope.pay(called[place])
            named = socket.named[place] = Named(called[place], [] if speaks else None)
        named.joins += 1
        if speaks and isinstance(writer, EnvelopedWriter) and place not in introductions:
            introductions[place] = Introduction(writer, named)
    return introductions


def _settle(introductions: Mapping[groups.members.Place, Introduction]) -> None:
    """Another join of the same groups may begin."""
    for introduction in introductions.values():
        introduction.settle()


def _key(socket: Socket) -> str:
    """Return who a socket is for the others, where the handler does not say."""
    user = socket.resolved_user
    if user is not None and user.is_authenticated and user.pk is not None:
        return str(user.pk)
    # Not its id, by which a page tells apart what comes from itself.
    return salted_hmac("django_ws_dispatch.presence", socket.id, algorithm="sha256").hexdigest()
