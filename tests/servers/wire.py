"""A WebSocket client that is no more than a TCP connection: what came is what is returned.

Unlike a library it sends what a test wants, right or wrong, and is cheap enough for thousands.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.kit.waiting import DEADLINE

__all__ = ["End", "Wire", "end_of", "frame", "opened"]

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
CLOSE = 8


class End(NamedTuple):
    """How a connection ended, as the client saw it.

    Attributes:
        status: of the response to the handshake; 0 if the connection was dropped.
        code: of the close frame; 1005 for one without, 1006 for none.
        reason: of the close frame.
        headers: of the response, as they came.
        body: of a denial.
    """

    status: int
    code: int | None = None
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        """The values of a header."""
        return [value for key, value in self.headers if key == name]


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = True) -> bytes:
    """A frame of a client (RFC 6455 section 5.2)."""
    head = bytearray([opcode | (0x80 if fin else 0)])
    flag = 0x80 if mask else 0
    size = len(payload)
    if size < 126:
        head.append(flag | size)
    elif size < 65536:
        head.append(flag | 126)
        head += size.to_bytes(2)
    else:
        head.append(flag | 127)
        head += size.to_bytes(8)
    if not mask:
        return bytes(head) + payload
    key = os.urandom(4)
    pad = (key * (size // 4 + 1))[:size]
    body = (int.from_bytes(payload) ^ int.from_bytes(pad)).to_bytes(size) if size else b""
    return bytes(head) + key + body


class Wire:
    """One connection, after the request was sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.status = 0
        self.headers: tuple[tuple[str, str], ...] = ()

    async def handshake(self) -> int:
        """Read the response's head; return its status, 0 where none came."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = tuple(
            (name.lower(), value.strip())
            for name, _, value in (line.partition(":") for line in lines[1:] if line)
        )
        return self.status

    async def frame(self) -> tuple[int, bytes]:
        """Return the opcode and the payload of the next frame; raises at the end of the stream."""
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8))
        return first & 0x0F, await self.reader.readexactly(size)

    async def text(self) -> str:
        """Return the next message."""
        opcode, payload = await self.frame()
        assert opcode == 1, (opcode, payload)
        return payload.decode()

    async def closed(self) -> tuple[int, str]:
        """Read to the close frame; answer it and wait for the end of the stream."""
        try:
            while True:
                opcode, payload = await self.frame()
                if opcode == CLOSE:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            return 1006, ""
        try:
            self.writer.write(frame(CLOSE, payload[:2]))
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass
        return (int.from_bytes(payload[:2]) if payload else 1005), payload[2:].decode()

    async def end(self) -> End:
        """Wait for the end, whatever it is."""
        if not self.status and not await self.handshake():
            return End(0)
        if self.status == 101:
            code, reason = await self.closed()
            return End(101, code, reason, self.headers)
        return End(self.status, None, "", self.headers, await self._body())

    async def _body(self) -> bytes:
        """Read the body of a denial: granian keeps the connection."""
        for name, value in self.headers:
            if name == "content-length":
                return await self.reader.readexactly(int(value))
        return await self.reader.read()


@asynccontextmanager
async def opened(
    port: int, path: str, headers: Mapping[str, str] | None = None, *, deadline: float = DEADLINE
):
    """Send the request of a handshake to 127.0.0.1."""
    async with asyncio.timeout(deadline):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = {
            "Host": "127.0.0.1",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": KEY,
            **(headers or {}),
        }
        request = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"GET {path} HTTP/1.1\r\n{request}\r\n".encode("latin-1"))
        try:
            yield Wire(reader, writer)
        finally:
            writer.transport.abort()


async def end_of(port: int, path: str, headers: Mapping[str, str] | None = None) -> End:
    """Connect, send nothing, and wait for the end."""
    async with opened(port, path, headers) as wire:
        return await wire.end()
