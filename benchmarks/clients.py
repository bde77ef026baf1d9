"""Clients at the speed of C (picows), so that it is the server that is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from .servers import Server

MESSAGE = b"ping" * 8
TIMEOUT = 60.0


class Client(WSListener):  # type: ignore[misc]
    """A socket that counts what it gets, and may answer each message with the next one."""

    def __init__(self) -> None:
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


async def connect(server: Server, path: str, headers: Mapping[str, str] | None = None) -> Client:
    """Open one socket as a page of the same site would."""
    origin = {"Origin": f"http://127.0.0.1:{server.port}", **(headers or {})}
    _, client = await ws_connect(
        Client, server.url(path), extra_headers=origin, websocket_handshake_timeout=TIMEOUT
    )
    made: Client = client
    return made


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
