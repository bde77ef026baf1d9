"""What one who joins a group with history has missed: from a position on, until it is level.

Sockets of one process that come back together share what is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container
from functools import partial

from ..brokers.history import Page, Top, is_before
from .history import Pager, decode_entry
from .kept import KeptGroup
from .messages import BYTES, FORGOT, TEXT, Message

__all__ = ["Send", "follow", "latest", "prefetch"]

Send = Callable[[Message], Awaitable[None]]


async def latest(group: KeptGroup, count: int, not_before: str | None) -> str:
    """Return the position behind which the ``count`` newest messages are, as far as kept."""
    keep, before, found = group.options.keep, None, 0
    position = group.position
    pager = Pager()
    while found < count:
        page = await group.broker.anewest(group.name, keep, pager.count, before)
        messages = [decode_entry(entry) for entry in page.entries]
        if before is None:
            position = messages[-1].position or "" if messages else page.top.position
            group.share(messages)
        for message in reversed(messages):
            if not_before is not None and not is_before(not_before, message.position or ""):
                return position
            if message.kind == FORGOT or found == count:
                return position
            found += message.kind in (TEXT, BYTES)
            position, before = message.previous or "", message.position
        if pager.is_over(page):
            break
    return position


def prefetch(group: KeptGroup, position: str) -> asyncio.Task[Page] | None:
    """Have the first page behind a position read, where it has to be."""
    if (
        position in ("", group.position)
        or group.tail.behind(position) is not None
        or _is_read(group, position) is not None
    ):
        return None
    return _start_read(group, position, Pager().count)


async def follow(
    group: KeptGroup,
    position: str,
    send: Send,
    readers: Container[str],
    first: asyncio.Task[Page] | None = None,
) -> Top | None:
    """Send one who joins what is behind a position, until it is level with the members.

    Nothing may be awaited between this and ``enter()``.

    Args:
        position: what it has; anything that a client may bring.
        send: sends one message, and waits where the client is slow.
        readers: its ids: what excludes one of them is left out.
        first: what ``prefetch()`` has returned.

    Returns:
        ``None``, or where the store stands: the position is not known there any more.
    """
    pager = Pager()
    while True:
        await group.level()
        if position == group.position:
            return None
        messages = group.tail.behind(position)
        if messages is None and first is None and (other := _is_read(group, position)) is not None:
            await asyncio.wait([other])
            other.result()  # where the store does not answer, none would get an answer
            continue
        if messages is None:
            task, first = first or _start_read(group, position, pager.count), None
            await asyncio.wait([task])
            page = task.result()
            if not page.known:
                return page.top
            messages = [decode_entry(entry) for entry in page.entries]
            pager.is_over(page)
            group.share(messages)
            if not messages:
                group.sync()  # this process is behind its client
        for message in messages:
            if message.kind in (TEXT, BYTES) and (
                message.exclude is None or message.exclude not in readers
            ):
                await send(message)
            position = message.position or ""


def _is_read(group: KeptGroup, position: str) -> asyncio.Task[Page] | None:
    """Return what reads from another position, and may read what is behind this one, too."""
    if position in group.reads or group.tail.is_full:
        return None
    return next(iter(group.reads.values()), None)


def _start_read(group: KeptGroup, position: str, count: int) -> asyncio.Task[Page]:
    """Have a page read, once for all that want the same one now."""
    task = group.reads.get(position)
    if task is None:
        task = group.make_task(group.broker.aread(group.name, position, group.options.keep, count))
        group.reads[position] = task
        task.add_done_callback(partial(_has_read, group, position))
    return task


def _has_read(group: KeptGroup, position: str, task: asyncio.Task[Page]) -> None:
    group.reads.pop(position, None)
    if not task.cancelled():
        task.exception()  # whoever wanted it may be gone
