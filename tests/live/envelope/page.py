"""A client of ``django-ws-dispatch.v1`` that was written from its description alone."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.kit.server import DEADLINE, Server
from tests.live.faults.clients import opened

__all__ = ["V1", "Page", "ask", "split", "token_of", "visiting"]

V1 = "django-ws-dispatch.v1"

Frame = tuple[Any, str | bytes]
"""a head, ``None`` for the empty one, and a payload"""


def split(message: str | bytes) -> Frame:
    """Return the head and the payload of a frame."""
    if isinstance(message, str):
        start, feed, payload = message.partition("\n")
        assert feed == "\n", message
        return (json.loads(start) if start else None), payload
    begin, line, data = message.partition(b"\n")
    assert line == b"\n", message
    return (json.loads(begin) if begin else None), data


def token_of(value: Any) -> str:
    """Return what travels behind ``since.``"""
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def ask(
    server: Server, path: str, data: str | bytes | None = None, socket_id: str | None = None
) -> str:
    """Get a page, or post to it."""
    body = data.encode() if isinstance(data, str) else data
    request = Request(server.http_url + path, data=body)
    kind = "application/octet-stream" if isinstance(data, bytes) else "text/plain"
    request.add_header("Content-Type", kind)
    if socket_id is not None:
        request.add_header("X-Socket-ID", socket_id)

    def get() -> str:
        with build_opener(ProxyHandler({})).open(request, timeout=DEADLINE) as response:
            return response.read().decode()  # type: ignore[no-any-return]

    return await asyncio.to_thread(get)


class Page:
    """What a page knows across the sockets that it has had.

    Attributes:
        positions: name of a group -> where the page is in it.
        here: name of a group -> the keys of who is here, ``None`` where they are too many.
        ids: of its sockets, the newest last.
        hello: what the first frame of the newest has said.
        messages: all that it has dispatched of groups.
        frames: all that came on the newest socket.
    """

    def __init__(self, positions: Mapping[str, str] | None = None) -> None:
        self.positions: dict[str, str | None] = dict(positions or {})
        self.here: dict[str, set[str] | None] = {}
        self.ids: list[str] = []
        self.hello: Any = None
        self.messages: list[str | bytes] = []
        self.frames: list[Frame] = []
        self.socket: ClientConnection

    @property
    def since(self) -> str:
        """Where it is, as it travels."""
        positions = {name: one for name, one in self.positions.items() if one}
        return token_of({**positions, "": self.ids[-8:]})

    async def frame(self) -> Frame:
        """Return the next frame."""
        async with asyncio.timeout(DEADLINE):
            message = await self.socket.recv()
        head, payload = split(message)
        self.frames.append((head, payload))
        match head:
            case ["hello", id, hello]:
                self.ids.append(id)
                self.hello = hello
            case ["m", name, position]:
                self.positions[name] = position
                self.messages.append(payload)
            case ["j", name, position, _]:
                self.positions[name] = position
                if payload:
                    self._hear(name, json.loads(payload))
            case ["g", name, position]:
                self.positions[name] = position
            case ["l", name]:
                self.positions.pop(name)
            case ["p", name]:
                self._hear(name, json.loads(payload))
        return head, payload

    def _hear(self, name: str, told: Any) -> None:
        if "present" in told:
            self.here[name] = {one["key"] for one in told["present"]}
        elif "joined" in told:
            before = self.here[name]
            assert before is not None
            left = {one["key"] for one in told["left"]}
            self.here[name] = before - left | {one["key"] for one in told["joined"]}
        else:
            self.here[name] = None
        here = self.here[name]
        assert here is None or len(here) == told["count"]

    async def until(self, kind: str | None, name: str | None = None) -> Frame:
        """Read on to a frame of a kind, ``None`` for a message of the handler."""
        while True:
            head, payload = await self.frame()
            if kind is None:
                if head is None:
                    return head, payload
            elif head is not None and head[0] == kind and name in (None, head[1]):
                return head, payload

    async def message(self) -> str | bytes:
        """Return the next message of the handler."""
        return (await self.until(None))[1]

    async def has(self, count: int) -> None:
        """Read on until it has dispatched so many messages of groups."""
        while len(self.messages) < count:
            await self.frame()

    async def sees(self, name: str, *keys: str) -> None:
        """Read on until it knows that these are here, and nobody else."""
        while self.here.get(name) != {*keys}:
            await self.frame()

    async def send(self, message: str | bytes) -> None:
        """Send the handler a message."""
        await self.socket.send("\n" + message if isinstance(message, str) else b"\n" + message)

    async def ping(self, number: int) -> None:
        await self.socket.send(f'["ping",{number}]\n')

    async def closed(self) -> int:
        """Read on to the end of the socket; return the code, 1006 where no close frame came."""
        try:
            while True:
                await self.frame()
        except ConnectionClosed as exc:
            return 1006 if exc.rcvd is None else exc.rcvd.code

    @asynccontextmanager
    async def visit(
        self, server: Server, path: str, *, token: str | None = None, **options: Any
    ) -> AsyncIterator[Page]:
        """Open a socket, as the first one or as the next one.

        Args:
            token: instead of what the page knows.
        """
        since = self.since if token is None and (self.positions or self.ids) else token
        offers = [V1] if not since else [V1, f"since.{since}"]
        subprotocols = [Subprotocol(one) for one in offers]
        self.frames = []
        async with opened(server.url + path, subprotocols=subprotocols, **options) as self.socket:
            assert self.socket.subprotocol == V1
            assert (await self.frame())[0][0] == "hello"
            yield self


@asynccontextmanager
async def visiting(server: Server, path: str, **options: Any) -> AsyncIterator[Page]:
    """Open the first socket of a page."""
    async with Page().visit(server, path, **options) as page:
        yield page
