"""What ``websocket.join()`` hands out: whether all that was missed has come, and what was lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from django.core.serializers.json import DjangoJSONEncoder

from ..brokers.history import Page, is_before, order_of
from .kept import KeptGroup
from .messages import Message
from .replay import Send, follow, latest, prefetch
from .seats import Seat

__all__ = ["Membership", "Who", "Wishes", "who", "wishes"]

# Characters, and bytes of UTF-8.
MOST_KEY = 200
MOST_INFO = 1024


@dataclass(frozen=True, slots=True)
class Wishes:
    """What one who joins wants of what was sent before.

    Attributes:
        since: name of a group -> position; only of those that it has one of.
        newest: how many messages of a group that it has no position of, or a lost one.
        not_before: a position; nothing older is replayed.
    """

    since: Mapping[str, str]
    newest: int = 0
    not_before: str | None = None


def wishes(
    names: Sequence[str],
    since: str | Mapping[str, str | None] | None,
    newest: int,
    not_before: str | None,
) -> Wishes:
    """Check and return what ``join()`` was asked for.

    Args:
        names: of the groups, for their client.
        since, newest, not_before: as ``WebSocket.join()`` has them.

    Raises:
        TypeError, ValueError: it can not be; see ``WebSocket.join()``.
    """
    if isinstance(newest, bool) or not isinstance(newest, int):
        raise TypeError(f"newest is a number of messages, not {newest!r}.")
    if newest < 0:
        raise ValueError(f"newest is a number of messages from 0 on, not {newest}.")
    if not_before is not None:
        if not isinstance(not_before, str):
            raise TypeError(f"not_before is a position or None, not {not_before!r}.")
        if order_of(not_before) is None:
            raise ValueError(f"not_before is no position: {not_before!r:.80}.")
        if len(names) != 1:
            raise ValueError("not_before is a position of one group: join one at a time with it.")
    if since is None:
        since = {}
    elif isinstance(since, str):
        if len(names) != 1:
            raise ValueError(
                "since is a position of one group: with several it is a mapping of name to "
                "position."
            )
        since = {names[0]: since}
    elif not isinstance(since, Mapping):
        raise TypeError(
            f"since is a position, or a mapping of name to position, not {type(since).__name__}."
        )
    positions = {name: position for name, position in since.items() if position}
    for name, position in positions.items():
        if not (isinstance(name, str) and isinstance(position, str)):
            raise TypeError(f"since maps names to positions, both str, not {name!r}: {position!r}.")
    return Wishes(positions, newest, not_before)


class Beginning(NamedTuple):
    """Where a replay begins."""

    position: str
    read: asyncio.Task[Page] | None = None
    """reads what is behind it"""


class Told(Protocol):
    """A client that is told where it stands in a group."""

    async def joined(self, position: str, recovered: bool | None, /) -> None:
        """Tell it where what follows begins, and whether all came that it has asked for."""

    async def lost(self, position: str, /) -> None:
        """Tell it that messages are lost, and where what follows begins."""


class Who(NamedTuple):
    """Who joins, for those who are told who is here."""

    key: str | None
    """``None``: nobody has said it"""
    info: str
    """JSON"""


def who(key: str | None, info: Any) -> Who:
    """Check and return who ``join()`` was told it is.

    Raises:
        TypeError, ValueError: it can not be; see ``WebSocket.join()``.
    """
    if key is not None:
        if not isinstance(key, str):
            raise TypeError(f"key is a str, not {type(key).__name__}: say, str(user.pk).")
        if not 1 <= len(key) <= MOST_KEY or not _is_unicode(key):
            raise ValueError(f"key has 1 to {MOST_KEY} characters of Unicode, not {key!r:.80}.")
    return Who(key, "null" if info is None else _encode_info(info))


def _encode_info(info: Any) -> str:
    try:
        encoded = json.dumps(
            info,
            cls=DjangoJSONEncoder,
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        )
    except RecursionError as exc:
        raise ValueError("info is nested too deeply.") from exc
    if not _is_unicode(encoded):
        raise ValueError("info has a surrogate, which is no character of JSON text.")
    if (size := len(encoded.encode())) > MOST_INFO:
        raise ValueError(
            f"info has at most {MOST_INFO} bytes of JSON, not {size}: what is larger can be "
            "fetched by the key."
        )
    return encoded


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Membership:
    """One ``join()`` of a socket, while its block runs.

    Attributes:
        recovered: ``True`` if all that was asked for came, ``False`` if some of it is gone,
            ``None`` if nothing was asked for. ``newest`` asks for nothing, unless the store forgets
            them while they are replayed: that is ``False``, too.
        lost: names of the groups whose position is not known any more; of those nothing was
            replayed, but what ``newest`` asks for.
        positions: name of each group with history -> behind which live messages began.
        gaps: name of each group with history -> how often messages were lost since then.
    """

    def __init__(self, seats: Sequence[Seat] = ()) -> None:
        self._seats = seats
        self.recovered: bool | None = None
        self.lost: list[str] = []
        self.positions: dict[str, str] = {}
        self.gaps: dict[str, int] = {}
        self._untold: list[str] = []  # groups whose gap nobody has waited for
        self._waiting: list[asyncio.Future[str]] = []
        self._watched: list[tuple[KeptGroup, Callable[[], None]]] = []

    async def gap(self) -> str:
        """Wait until messages of a group are lost; return its name, and at once where some were
        since the last call, or since the join.

        It is told on memberships whose client can not be told: load the state again. It never
        returns where there is no group with history.
        """
        if self._untold:
            return self._untold.pop(0)
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        finally:
            self._waiting = [one for one in self._waiting if one is not waiter]

    async def update(self, info: Any) -> None:
        """Show others something else of this socket, in all its groups that know who is here.

        Args:
            info: any JSON of at most 1 KiB.

        Raises:
            TypeError, ValueError: it is none; or none of the groups knows who is here.
            BrokerError: a broker did not take it in time; it is told again as soon as it does.
            RuntimeError: the block of the ``join()`` is over.
        """
        encoded = _encode_info(info)
        if not self._seats:
            raise ValueError(
                "None of these groups knows who is here. Write in the settings: "
                'WEBSOCKET_GROUPS = {"room:*": {"presence": True}}.'
            )
        for told in [seat.update(encoded) for seat in self._seats]:
            await told

    async def begin(self, name: str, group: KeptGroup, wishes: Wishes) -> Beginning:
        """Find out where the replay of a group begins, and have it read from there.

        Raises:
            BrokerError: the store does not answer.
        """
        since, first = wishes.since.get(name), wishes.not_before
        if since is None:
            return Beginning(await latest(group, wishes.newest, first))
        if first is not None and is_before(since, first):
            since = first
        return Beginning(since, prefetch(group, since))

    async def follow(
        self,
        name: str,
        group: KeptGroup,
        begins: Beginning,
        wishes: Wishes,
        send: Send,
        readers: Container[str],
        told: Told | None = None,
    ) -> None:
        """Replay what is wanted of a group. ``enter()`` follows, with nothing awaited between.

        Args:
            name: of the group, for the client.
            group: it.
            begins: what ``begin()`` has found.
            wishes: what the join was asked for.
            send: sends one message, and waits where the client is slow.
            readers: ids of the socket and of those before it: what excludes one is left out.
            told: the client is, in front of what is replayed, where that begins.

        Raises:
            BrokerError: the store does not answer.
        """
        since = wishes.since.get(name)
        position, read = begins
        has_some = False
        recovered = None if since is None else True
        begun = told is None

        async def begin() -> None:
            nonlocal begun
            if told is not None and not begun:
                begun = True
                await told.joined(position, recovered)

        async def replay(message: Message) -> None:
            nonlocal has_some
            await begin()
            has_some = True
            await send(message)

        while True:
            top = await follow(group, position, replay, readers, read)
            read = None
            if top is None:
                if begun:
                    break
                position = group.position
                await begin()  # what comes meanwhile is replayed
                continue
            # It may be too old once more: what is read meanwhile may be dropped meanwhile.
            if (since is not None or has_some) and name not in self.lost:
                # What it has of the newest does not go on where live messages do.
                self.lost.append(name)
            recovered = False if name in self.lost else None
            position = top.position
            if wishes.newest:
                position = await latest(group, wishes.newest, wishes.not_before)
            if told is not None and begun:
                await told.lost(position)
        if recovered is not None and self.recovered is not False:
            self.recovered = recovered

    def entered(self, name: str, group: KeptGroup) -> None:
        """The socket is a member of a group from here on; twice is once."""
        if name in self.gaps:
            return
        self.positions[name] = group.position
        self.gaps[name] = 0

        def tell() -> None:
            self.gaps[name] += 1
            if not self._waiting and name not in self._untold:
                self._untold.append(name)
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(name)

        group.on_gap[tell] = None
        self._watched.append((group, tell))

    def end(self) -> None:
        """It is over."""
        for group, tell in self._watched:
            group.on_gap.pop(tell, None)
