"""Clients at the speed of C (picows), so that it is the server that is measured."""

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    ws_connect,
)

from .servers import Server

MESSAGE = b"ping" * 8
TIMEOUT = 60.0
# What browsers offer.
OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}


class Client(WSListener):  # type: ignore[misc]
    """A socket that counts what it gets, and may answer each message with the next one.

    It inflates nothing: whether a message is compressed is one bit of its frame.
    """

    def __init__(self) -> None:
        self.compressed = 0
        self.transport: WSTransport | None = None
        self.wanted = 0
        self.answering = False
        self.done: asyncio.Future[None] | None = None
        self.times: list[float] = []
        self._sent = 0.0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self.wanted -= 1
            self.compressed += frame.rsv1
            if self.answering:
                now = time.perf_counter()
                self.times.append(now - self._sent)
                self._sent = now
                if self.wanted > 0:
                    transport.send(WSMsgType.TEXT, MESSAGE)
            if self.wanted == 0 and self.done is not None and not self.done.done():
                self.done.set_result(None)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_exception(RuntimeError("The server closed the socket."))

    def expect(self, count: int) -> asyncio.Future[None]:
        """Return a future that is done when so many more messages have come."""
        self.wanted = count
        self.done = asyncio.get_running_loop().create_future()
        return self.done

    def send(self, message: bytes = MESSAGE) -> None:
        assert self.transport is not None
        self._sent = time.perf_counter()
        self.transport.send(WSMsgType.TEXT, message)

    def send_together(self, messages: Sequence[bytes]) -> None:
        """Send several messages in one piece, so that they are there at the same time."""
        assert self.transport is not None
        self.transport.underlying_transport.write(b"".join(map(frame_of, messages)))

    async def exchange(self, count: int) -> list[float]:
        """Send a message and wait for its echo, so often; return how long each took, in seconds."""
        self.times = []
        self.answering = True
        done = self.expect(count)
        self.send()
        await asyncio.wait_for(done, TIMEOUT)
        self.answering = False
        return self.times

    async def close(self) -> None:
        assert self.transport is not None
        self.done = None
        self.transport.send_close()
        await asyncio.wait_for(self.transport.wait_disconnected(), TIMEOUT)

    def drop(self) -> None:
        """Go without a word."""
        assert self.transport is not None
        self.done = None
        self.transport.disconnect(False)


def frame_of(message: bytes) -> bytes:
    """Return a text frame of a client, with a mask that changes nothing (RFC 6455 section 5.3)."""
    size = len(message)
    head = bytes((0x80 | size,)) if size < 126 else b"\xfe" + struct.pack("!H", size)
    return b"\x81" + head + bytes(4) + message


def json_messages(count: int) -> list[bytes]:
    """Return different messages of 1 KiB, as a chat or a ticker has them."""
    chance = random.Random(1)
    words = ["".join(chance.choices("aeiournstlmdp", k=chance.randint(2, 9))) for _ in range(2_000)]
    messages = []
    for number in range(count):
        head = f'{{"id": {number}, "user": "{chance.choice(words)}", "text": "'
        text = " ".join(chance.choices(words, k=300))
        messages.append(f"{head}{text}"[:1_022].encode() + b'"}')
    return messages


async def connect(
    server: Server, path: str, headers: Mapping[str, str] | None = None, deflate: bool = False
) -> Client:
    """Open one socket as a page of the same site would.

    Raises:
        RuntimeError: ``deflate`` was offered, and not taken.
    """
    origin = {"Origin": f"http://127.0.0.1:{server.port}", **(headers or {})}
    _, client = await ws_connect(
        partial(_client, deflate),
        server.url(path),
        extra_headers={**origin, **(OFFER if deflate else {})},
        websocket_handshake_timeout=TIMEOUT,
    )
    made: Client = client
    return made


def _client(deflate: bool, request: WSUpgradeRequest, response: WSUpgradeResponse) -> Client:
    taken = "permessage-deflate" in response.headers.get("Sec-WebSocket-Extensions", "")
    if taken is not deflate:
        raise RuntimeError(f"permessage-deflate: offered {deflate}, taken {taken}.")
    return Client()


async def connect_many(server: Server, path: str, count: int, **kwargs: Any) -> list[Client]:
    """Open ``count`` sockets, 32 at a time."""
    gate = asyncio.Semaphore(32)

    async def one() -> Client:
        async with gate:
            return await connect(server, path, **kwargs)

    return await asyncio.gather(*(one() for _ in range(count)))


async def http(server: Server, head: bytes, count: int, *, keep: bool = True) -> list[bytes]:
    """Send ``head`` so often and return the status lines; on one connection where it is kept."""
    lines = []
    reader = writer = None
    for _ in range(count):
        if reader is None or writer is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT)
        lines.append(answer.partition(b"\r\n")[0])
        for line in answer.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await reader.readexactly(int(line.partition(b":")[2]))
        if not keep:
            writer.close()
            await writer.wait_closed()
            reader = writer = None
    if writer is not None:
        writer.close()
    return lines
