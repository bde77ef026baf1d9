"""What is sent to groups, for a test to look at."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from ..brokers import BaseBroker
from ..brokers.history import Keep
from ..exceptions import BrokerError
from ..groups import Group
from ..groups.messages import CLOSE, NAMESPACE, decode

__all__ = ["assert_sent"]

_lock = threading.Lock()
_records: list[list[tuple[Group, str, str | bytes]]] = []


class _Recorder:
    """Stands before a broker: notes what it took."""

    def __init__(self, group: Group, broker: BaseBroker) -> None:
        self._group = group
        self._broker = broker

    def publish(self, channel: str, message: bytes) -> None:
        with self._noted(channel, message):
            self._broker.publish(channel, message)

    async def apublish(self, channel: str, message: bytes) -> None:
        with self._noted(channel, message):
            await self._broker.apublish(channel, message)

    def keep(self, channel: str, message: bytes, keep: Keep, *, order: bool = False) -> str | None:
        with self._noted(channel, message):
            return self._broker.keep(channel, message, keep, order=order)

    async def akeep(
        self, channel: str, message: bytes, keep: Keep, *, order: bool = False
    ) -> str | None:
        with self._noted(channel, message):
            return await self._broker.akeep(channel, message, keep, order=order)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    @contextmanager
    def _noted(self, channel: str, message: bytes) -> Iterator[None]:
        # Before it is sent: a member may have it before its publisher goes on.
        decoded = decode(message)
        if decoded.kind == CLOSE:
            yield
            return
        note = (self._group, channel, decoded.data)
        with _lock:
            records = list(_records)
            for record in records:
                record.append(note)
        try:
            yield
        except BrokerError:
            with _lock:
                for record in records:
                    record[:] = [one for one in record if one is not note]
            raise


_broker_of = Group._broker


def _recorder_of(self: Group) -> BaseBroker:
    return cast(BaseBroker, _Recorder(self, _broker_of(self)))


@contextmanager
def assert_sent(group: str | Group, count: int = 1) -> Iterator[list[str | bytes]]:
    """Check how many messages this process sends to a group: ``with assert_sent("lobby"):``.

    They are sent all the same, through the broker that is configured, and counted whichever thread
    sends them; one that the broker does not take (``BrokerError``) does not count. What a handler
    or an ``on_commit()`` callback sends counts only where it has happened by the end of the block:
    wait there for what shows it, say a ``receive()``. Orders to close are not counted.

    Args:
        group: a ``Group``, or the name of one on the default broker, in the namespace that is
            active in the test.
        count: how many; 0 for none.

    Yields:
        The messages, ``str`` or ``bytes``. It is filled when the block is left.

    Raises:
        AssertionError: it was another number. The message lists what was sent.
        TypeError: ``group`` is neither.
    """
    wanted = group if isinstance(group, Group) else Group(group)
    place = wanted.place
    record: list[tuple[Group, str, str | bytes]] = []
    messages: list[str | bytes] = []
    with _lock:
        _records.append(record)
        Group._broker = _recorder_of  # type: ignore[method-assign]
    try:
        yield messages
    finally:
        with _lock:
            # By identity: two records with the same messages are equal.
            _records[:] = [one for one in _records if one is not record]
            if not _records:
                Group._broker = _broker_of  # type: ignore[method-assign]
        messages += [
            data for sent_to, channel, data in record if (channel, sent_to.broker) == place
        ]
    if len(messages) == count:
        return
    text = f"{wanted!r} was sent {_counted(len(messages))} where {_counted(count)} was expected."
    text += "".join(f"\n  {data!r}" for data in messages)
    others = [
        f"\n  {sent_to!r}{_shown(channel)}: {data!r}"
        for sent_to, channel, data in record
        if (channel, sent_to.broker) != place
    ]
    if others:
        text += "\nTo other groups:" + "".join(others)
    raise AssertionError(text)


def _shown(channel: str) -> str:
    """Return in which namespace a channel is."""
    if not channel.startswith(NAMESPACE):
        return ""
    length, _, rest = channel.removeprefix(NAMESPACE).partition(":")
    return f" in {rest[: int(length)]!r}"


def _counted(number: int) -> str:
    return "1 message" if number == 1 else f"{number or 'no'} messages"
