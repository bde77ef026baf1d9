"""What a group can be asked for: what it remembers, and who is here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from django.utils.asyncio import async_unsafe

from ..brokers import BaseBroker
from . import members
from .history import History, adrive, drive, read_history
from .messages import Place
from .options import GroupOptions
from .view import Present, presents
from .watch import Change

__all__ = ["Asked"]


class Asked(ABC):
    """The half of a ``Group`` that asks its broker."""

    __slots__ = ()

    @property
    @abstractmethod
    def channel(self) -> str:
        """What it is called on the broker."""

    @property
    @abstractmethod
    def place(self) -> Place:
        """Where its members are."""

    @property
    @abstractmethod
    def options(self) -> GroupOptions | None:
        """What ``WEBSOCKET_GROUPS`` has for it."""

    @property
    @abstractmethod
    def wire_name(self) -> str:
        """What a client calls it."""

    @abstractmethod
    def _broker(self) -> BaseBroker: ...

    # What it remembers

    @async_unsafe(
        "Group.position() can not be called where an event loop runs - use aposition() there."
    )
    def position(self) -> str:
        """Return the position of the newest message. A group without one has a position too.

        Raises:
            ValueError: the group has no history.
            BrokerError: the broker did not answer in time.
            SynchronousOnlyOperation: an event loop runs in this thread.
        """
        return self._broker().top(self.channel, self._with_history().keep).position

    async def aposition(self) -> str:
        """The same as ``position()``, in a running event loop."""
        return (await self._broker().atop(self.channel, self._with_history().keep)).position

    @async_unsafe(
        "Group.history() can not be called where an event loop runs - use ahistory() there."
    )
    def history(self, since: str | None = None, limit: int | None = None) -> History:
        """Return what the group remembers: ``messages`` (each a ``Stored``), ``complete``,
        ``position``.

        Args:
            since: a position; only what was sent behind it. One that is foreign, garbled, in the
                future or too old gives no messages, and ``complete`` is ``False``.
            limit: the newest so many. ``complete`` is ``False`` if that has cut something behind
                ``since``.

        Raises:
            ValueError: the group has no history, or the limit is negative.
            TypeError: an argument is of another type.
            BrokerError: the broker did not answer in time.
            SynchronousOnlyOperation: an event loop runs in this thread.
        """
        keep = self._with_history().keep
        return drive(self._broker(), read_history(self.channel, keep, since, limit))

    async def ahistory(self, since: str | None = None, limit: int | None = None) -> History:
        """The same as ``history()``, in a running event loop."""
        keep = self._with_history().keep
        return await adrive(self._broker(), read_history(self.channel, keep, since, limit))

    @async_unsafe(
        "Group.forget() can not be called where an event loop runs - use aforget() there."
    )
    def forget(self) -> None:
        """Drop what the group remembers: earlier positions are gone, open sockets see no gap.

        Raises:
            ValueError: the group has no history.
            BrokerError: the broker did not take it in time.
            SynchronousOnlyOperation: an event loop runs in this thread.
        """
        self._broker().forget(self.channel, self._with_history().keep)

    async def aforget(self) -> None:
        """The same as ``forget()``, in a running event loop."""
        await self._broker().aforget(self.channel, self._with_history().keep)

    def _with_history(self) -> GroupOptions:
        return self._with("history", "has no history", 100)

    # Who is here

    @async_unsafe(
        "Group.present() can not be called where an event loop runs - use apresent() there."
    )
    def present(self) -> list[Present]:
        """Return who is here, each key once, longest here first.

        Of more than the setting's ``presence`` those that have been here longest.

        Raises:
            ValueError: the group does not know it.
            BrokerError: the broker did not answer in time.
            SynchronousOnlyOperation: an event loop runs in this thread.
        """
        most = self._with_presence().presence
        return presents(self._broker().snapshot(self.channel, most).here)

    async def apresent(self) -> list[Present]:
        """The same as ``present()``, in a running event loop."""
        most = self._with_presence().presence
        return presents((await self._broker().asnapshot(self.channel, most)).here)

    @async_unsafe("Group.count() can not be called where an event loop runs - use acount() there.")
    def count(self) -> int:
        """Return how many keys are here, however many are listed. Raises are those of
        ``present()``.
        """
        self._with_presence()
        return self._broker().snapshot(self.channel, 0).total

    async def acount(self) -> int:
        """The same as ``count()``, in a running event loop."""
        self._with_presence()
        return (await self._broker().asnapshot(self.channel, 0)).total

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Change]]:
        """Follow who is here in code: ``async with group.watch() as changes``.

        ``changes`` is an async iterator of ``Change``. The first one has everybody in ``joined``;
        it is followed by what changes, at most once a second. Whoever is slow gets several changes
        in one.

        Raises:
            ValueError: the group does not know who is here.
            BrokerError: on entering, the broker did not answer in time; while iterating, it has
                forgotten who was here: watch it again.
        """
        place, wanted = self.place, self._with_presence()
        present, watcher = await members.local().watch(place, wanted, self)
        try:
            yield watcher
        finally:
            present.unwatch(watcher)

    def _with_presence(self) -> GroupOptions:
        return self._with("presence", "does not know who is here", True)

    def _with(self, option: str, lack: str, example: object) -> GroupOptions:
        options = self.options
        if options is None or not getattr(options, option):
            raise ValueError(
                f"{self!r} {lack}. Write in the settings: WEBSOCKET_GROUPS = "
                f'{{"{self.wire_name}": {{"{option}": {example}}}}}, or a pattern such as "room:*".'
            )
        return options
