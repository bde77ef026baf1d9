"""Whose sockets of one event loop are in a group that knows who is here, and what is news."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ..brokers.presence import BATCH, Entry

if TYPE_CHECKING:
    from .watch import Audience

__all__ = ["News", "Seat", "Seats", "fail", "finish"]


class _Group(Protocol):
    @property
    def audience(self) -> Audience: ...
    def update(self, seat: Seat, info: str, /) -> asyncio.Future[None]: ...
    def leave(self, seat: Seat, /, *, lingers: bool) -> None: ...


@dataclass(eq=False, slots=True)
class Seat:
    """One socket in a group that knows who is here.

    Attributes:
        key: who it is.
        info: JSON that the others see.
        group: while it is there.
    """

    key: str
    info: str
    group: _Group | None = None

    def update(self, info: str) -> asyncio.Future[None]:
        """Show the others something else. The future is done once the broker has it.

        Raises:
            RuntimeError: it has left.
        """
        if self.group is None:
            raise RuntimeError("The block of this join() is over.")
        return self.group.update(self, info)

    def leave(self, *, lingers: bool) -> None:
        """Be here no more; twice is once.

        Args:
            lingers: whoever it is may come back: a page that is loaded again, or reconnects.
        """
        if self.group is not None:
            self.group.leave(self, lingers=lingers)


@dataclass(slots=True)
class News:
    """What the broker is to hear of a key."""

    info: bool = False  # that of its newest socket
    instead_of: str = ""
    lingers: bool = False
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class Seats:
    """The sockets of each key, in the order in which they told their info; the newest counts."""

    def __init__(self) -> None:
        self._seats: dict[str, list[Seat]] = {}
        self.news: dict[str, News] = {}

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._seats)

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits until the broker has the news."""
        return any(news.waiting for news in self.news.values())

    def enter(self, seat: Seat) -> asyncio.Future[None]:
        """Add one. The future is done once the broker has it, or has a ``BrokerError``."""
        self._seats.setdefault(seat.key, []).append(seat)
        return self._await(self._say(seat.key, info=True))

    def update(self, seat: Seat, info: str) -> asyncio.Future[None]:
        """Take other info of one, which is the newest with it."""
        seats = self._seats[seat.key]
        seats.remove(seat)
        seats.append(seat)
        seat.info = info
        return self._await(self._say(seat.key, info=True))

    def leave(self, seat: Seat, *, lingers: bool) -> None:
        """Remove one."""
        seats = self._seats[seat.key]
        was_newest = seats[-1] is seat
        seats.remove(seat)
        if not seats:
            del self._seats[seat.key]
        if seats and was_newest and seats[-1].info != seat.info:
            # What another process has told since then stays.
            self._say(seat.key, info=True, instead_of=seat.info)
        else:
            self._say(seat.key, lingers=lingers)

    def _say(
        self, key: str, *, info: bool = False, instead_of: str = "", lingers: bool = False
    ) -> News:
        news = self.news.get(key)
        if news is None:
            news = self.news[key] = News(info, instead_of)
        elif info:
            # The broker has what the first of several that left has told.
            if not news.info or not instead_of:
                news.instead_of = instead_of
            news.info = True
        news.lingers = lingers
        return news

    @staticmethod
    def _await(news: News) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        news.waiting.append(done)
        return done

    def say_again(self, but: Mapping[str, News]) -> None:
        """The broker has none of them, but for those."""
        for key in self._seats.keys() - but.keys():
            self._say(key, info=True)

    def take_news(self) -> dict[str, News]:
        """Return the news of one call: of keys, in the order in which they came."""
        return {key: self.news.pop(key) for key in list(self.news)[:BATCH]}

    def entry(self, key: str, news: News) -> Entry:
        """Return what is said of a key, as it is now."""
        seats = self._seats.get(key, ())
        info = seats[-1].info if seats and news.info else ""
        return Entry(key, len(seats), info, news.instead_of, news.lingers)

    def take_back(self, told: Mapping[str, News], exc: BaseException) -> None:
        """The broker has not taken these news: who waits is told, and it is said again later."""
        for key, news in told.items():
            fail(news.waiting, exc)
            later = self.news.get(key)
            if later is None:
                self.news[key] = News(news.info, news.instead_of, news.lingers)
            elif news.info:
                later.info, later.instead_of = True, ""


def finish(waiting: Iterable[asyncio.Future[None]]) -> None:
    """Tell those who wait that it is done."""
    for one in waiting:
        if not one.done():
            one.set_result(None)


def fail(waiting: Iterable[asyncio.Future[None]], exc: BaseException) -> None:
    """Hand an exception to those who wait."""
    for one in waiting:
        if one.done():
            continue
        if isinstance(exc, asyncio.CancelledError):
            one.cancel()
        else:
            one.set_exception(exc)
            one.exception()  # whoever waited may be gone
