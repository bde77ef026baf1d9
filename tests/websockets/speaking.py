"""Clients of ``django-ws-dispatch.v1``, on a server of events and on the class of this package."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from ..kit.fake_server import FakeServer, serving
from ..kit.waiting import until
from ..uvicorn.wire import Client
from .test_direct import on_the_class

__all__ = ["V1", "Frame", "Speaker", "both_halves", "offer", "parsed", "speaking"]

V1 = "django-ws-dispatch.v1"

both_halves = pytest.mark.parametrize("halves", ["events", "frames"])


class Frame(NamedTuple):
    """A frame of the server."""

    head: Any
    """``None`` for a message of the handler"""
    payload: str | bytes


def parsed(message: str | bytes) -> Frame:
    """Return what is in a frame."""
    feed: Any = "\n" if isinstance(message, str) else b"\n"
    head, found, payload = message.partition(feed)
    assert found, message
    return Frame(json.loads(head) if head else None, payload)


def offer(since: str | None = None, others: Sequence[str] = ()) -> list[str]:
    """Return the subprotocols that a client offers."""
    return [*others, V1] if since is None else [*others, V1, f"since.{since}"]


class Speaker:
    """A client that knows the subprotocol, whatever it speaks."""

    def __init__(self, server: FakeServer | None, client: Client | None) -> None:
        self._server, self._client = server, client

    def says(self, *messages: str | bytes) -> None:
        """Send messages as they are."""
        if self._server is not None:
            self._server.message(*messages)
        elif self._client is not None:
            self._client.sends(*messages)

    @property
    def messages(self) -> list[str | bytes]:
        """What has come, as it is."""
        if self._server is not None:
            return self._server.data
        assert self._client is not None
        return self._client.messages

    @property
    def frames(self) -> list[Frame]:
        """What has come, but for the hello."""
        return [parsed(one) for one in self.messages[1:]]

    @property
    def heads(self) -> list[Any]:
        """Of what has come, but for the hello."""
        return [frame.head for frame in self.frames]

    @property
    def payloads(self) -> list[str | bytes]:
        """Of the messages that have come, of the handler and of groups."""
        return [one.payload for one in self.frames if one.head is None or one.head[0] == "m"]

    async def sees(self, *payloads: str | bytes) -> None:
        """Wait until messages with these have come, and no others."""
        await until(lambda: len(self.payloads) >= len(payloads))
        assert self.payloads == [*payloads]

    async def has(self, head: Any) -> None:
        """Wait until a frame with this head has come."""
        await until(lambda: head in self.heads)

    @property
    def code(self) -> int | None:
        """Of the close frame that has come."""
        if self._server is not None:
            return self._server.closed[0] if self._server.closed else None
        assert self._client is not None
        return None if self._client.close is None else self._client.close.code

    async def closed(self) -> int | None:
        """Wait for the close frame, and return its code."""
        await until(lambda: self.code is not None)
        return self.code

    def block(self) -> None:
        """Take nothing any more."""
        if self._server is not None:
            self._server.block()
        elif self._client is not None:
            self._client.transport.is_taken = False

    def unblock(self) -> None:
        """Take all of it."""
        if self._server is not None:
            self._server.unblock()
        elif self._client is not None:
            self._client.transport.taken()


@asynccontextmanager
async def speaking(
    halves: str,
    handler: Callable[..., Any],
    *,
    since: str | None = None,
    others: Sequence[str] = (),
    **settings: Any,
) -> AsyncIterator[Speaker]:
    """Connect to a site with one handler, and wait for the accept.

    Args:
        halves: ``events`` for a server of events, ``frames`` for the class of this package.
        handler: of the one route.
        since: a token.
        others: more subprotocols that are offered first.
        settings: of Django, for as long as the connection lives.
    """
    offered = offer(since, others)
    if halves == "events":
        async with serving(handler, scope={"subprotocols": offered}, **settings) as server:
            await until(lambda: server.sent)
            yield Speaker(server, None)
    else:
        options: Any = {"client": {"subprotocols": offered}, **settings}
        async with on_the_class(handler, **options) as client:
            yield Speaker(None, client)
