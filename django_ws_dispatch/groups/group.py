"""A group: a name that one sends to, from sync and async code, or reads from."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.utils.asyncio import async_unsafe

from ..brokers import BaseBroker, get_broker
from ..codes import CloseCode, check_close_code, cut_reason
from ..conf import conf
from . import members, options
from .asked import Asked
from .members import Place
from .messages import GROUP_CHANNEL, USER_CHANNEL, channel_of, encode_close, encode_data
from .namespaces import active_namespace
from .options import GroupOptions
from .reader import Reader

__all__ = ["Group", "mark_dispatching", "user_group"]

logger = logging.getLogger("django_ws_dispatch.groups")

_json = partial(json.dumps, cls=DjangoJSONEncoder)

MAX_NAME = 200

unheard = True
"""Whether the log is still to say that nobody in this process hears an in-process broker."""


def mark_dispatching() -> None:
    """Say that this process has a dispatcher, and so sockets that hear an in-process broker."""
    global unheard
    unheard = False


class Group(Asked):
    """Sockets that get the same messages, in all processes of the site.

    A group is only a name: it exists while it has members, and making the object costs nothing. It
    is the group of that name in the namespace that is active when it is used (``namespace()``).

    Args:
        name: 1 to 200 characters, any of them.
        broker: an alias of ``WEBSOCKET_BROKERS``.

    Raises:
        TypeError: the name or the alias is not a ``str``.
        ValueError: the name is empty or too long.
    """

    __slots__ = ("broker", "name")

    _kind = GROUP_CHANNEL

    def __init__(self, name: str, broker: str = "default") -> None:
        _check_name(name, broker)
        self.name = name
        self.broker = broker

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Group):
            return NotImplemented
        return self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[str, str, str]:
        return self._kind, self.name, self.broker

    @property
    def channel(self) -> str:
        """What it is called on the broker, in the namespace that is active."""
        return channel_of(self._kind, self.name, active_namespace())

    @property
    def place(self) -> Place:
        """Where its members are, in the namespace that is active."""
        return Place(self.channel, self.broker)

    @property
    def options(self) -> GroupOptions | None:
        """What ``WEBSOCKET_GROUPS`` has for it; ``None`` if it is nothing but a name."""
        return options.options_of(self.name, self.broker)

    @property
    def wire_name(self) -> str:
        """What a client, and a mapping of positions, call it."""
        return self.name

    def __repr__(self) -> str:
        broker = "" if self.broker == "default" else f", broker={self.broker!r}"
        return f"{type(self).__name__}({self.name!r}{broker})"

    @async_unsafe("Group.send() can not be called where an event loop runs - use asend() there.")
    def send(self, data: str | bytes, exclude: object = None) -> str | None:
        """Send a text or binary frame to every member, from sync code in any thread.

        Where the group has a history, it is kept before anybody has it, and kept once.

        Args:
            data: the frame.
            exclude: a WebSocket, or its ``id``, that shall not get it.

        Returns:
            Its position, ``None`` where the group has no history.

        Raises:
            TypeError: ``data`` is neither ``str`` nor ``bytes``.
            BrokerError: the broker did not take it in time, or its store refuses to write.
            SynchronousOnlyOperation: an event loop runs in this thread.
        """
        return self._publish(encode_data(data, exclude))

    async def asend(self, data: str | bytes, exclude: object = None) -> str | None:
        """Send a text or binary frame to every member.

        With the memory broker the members in the running event loop have it when this returns.
        Cancellation does not rule out that it was sent. Args, Returns and Raises are those of
        ``send()``.
        """
        return await self._apublish(encode_data(data, exclude))

    @async_unsafe(
        "Group.send_json() can not be called where an event loop runs - use asend_json() there."
    )
    def send_json(self, obj: Any, exclude: object = None) -> str | None:
        """``send()`` of ``obj`` as JSON, encoded by Django's ``DjangoJSONEncoder``."""
        return self._publish(encode_data(_json(obj), exclude))

    async def asend_json(self, obj: Any, exclude: object = None) -> str | None:
        """``asend()`` of ``obj`` as JSON, encoded by Django's ``DjangoJSONEncoder``."""
        return await self._apublish(encode_data(_json(obj), exclude))

    @async_unsafe("Group.close() can not be called where an event loop runs - use aclose() there.")
    def close(self, code: int = CloseCode.DONE, reason: str = "", exclude: object = None) -> None:
        """Close every member socket, on every node, after what was sent to it before; not those
        who ``subscribe()``.

        Args:
            code: the close code (RFC 6455 section 7.4).
            reason: is cut to the 123 bytes of UTF-8 that fit in a close frame.
            exclude: a WebSocket, or its ``id``, that stays open.

        Raises:
            ValueError: the code may not be sent.
            BrokerError: the broker did not take it in time.
            SynchronousOnlyOperation: an event loop runs in this thread.
        """
        self._publish(_closing(code, reason, exclude), order=True)

    async def aclose(
        self, code: int = CloseCode.DONE, reason: str = "", exclude: object = None
    ) -> None:
        """The same as ``close()``, in a running event loop."""
        await self._apublish(_closing(code, reason, exclude), order=True)

    def _publish(self, message: bytes, *, order: bool = False) -> str | None:
        if options.any_options and (kept := self.options) is not None and kept.history:
            return self._broker().keep(self.channel, message, kept.keep, order=order)
        self._broker().publish(self.channel, message)
        return None

    def _apublish(self, message: bytes, *, order: bool = False) -> Awaitable[str | None]:
        # No coroutine of its own: a group that remembers nothing pays for no more than this call.
        if options.any_options and (kept := self.options) is not None and kept.history:
            return self._broker().akeep(self.channel, message, kept.keep, order=order)
        return self._broker().apublish(self.channel, message)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[str | bytes]]:
        """Read the group's messages in code: ``async with group.subscribe() as messages``.

        ``messages`` is an async iterator of ``str`` or ``bytes``; it gets all that is sent once the
        block is entered, and ``WEBSOCKET_OUTBOX_SIZE`` bounds what waits for a reader that is slow.

        Raises:
            BrokerError: on entering, the broker did not answer in time; while iterating, the reader
                was so slow that messages were lost, or a group with history could not get what it
                had missed.
        """
        registry, place = members.local(), self.place
        reader = Reader(self, conf.outbox_size)
        wanted = self.options
        remembers = {place: wanted} if wanted is not None and wanted.history else {}
        kept = await registry.join(reader, place, kept=remembers)
        for group in kept.values():
            group.on_gap[reader.lose] = None
        try:
            yield reader
        finally:
            for group in kept.values():
                group.on_gap.pop(reader.lose, None)
            registry.leave(reader, place)
            reader.end()

    def _broker(self) -> BaseBroker:
        global unheard
        broker = get_broker(self.broker)
        if unheard and broker.in_process:
            unheard = False
            logger.warning(
                "%r is sent to through the memory broker %r, but this process has no "
                "WebSocketDispatcher: nobody hears it. Use a broker that reaches other processes "
                "in WEBSOCKET_BROKERS, such as django_ws_dispatch.brokers.redis.RedisBroker. Said "
                "once.",
                self,
                self.broker,
            )
        return broker


class _UserGroup(Group):
    __slots__ = ()

    _kind = USER_CHANNEL

    @property
    def options(self) -> GroupOptions | None:
        return options.options_of(self.name, self.broker, is_user=True)

    @property
    def wire_name(self) -> str:
        return "<user>"

    def __repr__(self) -> str:
        return f"<the sockets of user {self.name}>"


def user_group(user: Any) -> Group:
    """Return the group of one user's sockets.

    No ``Group(name)`` is ever the same group, whatever the name. Where primary keys are unique in a
    tenant only, it is the user of the namespace that is active.

    Args:
        user: a saved user of any user model.

    Raises:
        ValueError: it is anonymous, or was never saved.
    """
    if user is None or user.is_anonymous or user.pk is None:
        raise ValueError(
            f"user_group() takes a user who is logged in or saved, not {user!r}: "
            "check user.is_authenticated first."
        )
    return _UserGroup(str(user.pk))


def _check_name(name: object, broker: object) -> None:
    wrong = broker if isinstance(name, str) else name
    if not isinstance(name, str) or not isinstance(broker, str):
        raise TypeError(
            "Group() takes a name and the alias of a broker, both str, not "
            f'{type(wrong).__name__}. For an object use something like Group(f"room-{{room.pk}}").'
        )
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(
            f"A group's name has 1 to {MAX_NAME} characters, not {len(name)}. Hash what is longer."
        )


def _closing(code: int, reason: str, exclude: object) -> bytes:
    return encode_close(check_close_code(code), cut_reason(reason), exclude)
