"""The server starts and stops: everybody is told, everything runs to its end."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.kit.server import DEADLINE, OURS, Server

from .classes import on_ours
from .handlers import MUCH

# Seconds within which a server has ended that nobody holds up. What it gives up takes 5 s, or 10 s;
# what it would wait for takes a minute, or an hour.
WITHIN = 45.0

pytestmark = [pytest.mark.live, pytest.mark.asyncio, pytest.mark.usefixtures("ws")]


async def close_code(socket):
    async with asyncio.timeout(DEADLINE):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as exc:
            return exc.rcvd.code if exc.rcvd is not None else 1006


@pytest.mark.parametrize("prefix", ["", "raw-"], ids=["websocket", "raw"])
async def test_sigterm_with_200_sockets_half_of_them_asleep_tells_all_and_exits(prefix):
    with Server() as server:
        paths = [f"/ws/{prefix}sleeper/", f"/ws/{prefix}echo/"] * 100
        sockets = await asyncio.gather(
            *(
                connect(server.url + path, ping_interval=None, open_timeout=DEADLINE)
                for path in paths
            )
        )
        await asyncio.to_thread(server.wait_for_notes, "sleeps", 100)
        begins = time.monotonic()
        server.terminate()
        assert await asyncio.gather(*map(close_code, sockets)) == [1012] * 200
        await asyncio.to_thread(server.wait)
        assert time.monotonic() - begins < WITHIN
        assert server.notes.count("woken") == 100
        assert server.notes.count(f"{prefix.replace('-', '_')}echo 1012") == 100


@pytest.mark.parametrize("path", ["stubborn", "pusher", "raw-pusher", "feed", "waits", "member"])
async def test_no_kind_of_handler_keeps_the_server_from_stopping(path):
    with Server() as server:
        async with connect(f"{server.url}/ws/{path}/", ping_interval=None) as socket:
            if path not in ("stubborn", "waits"):
                await socket.recv()
            server.terminate()
            assert await close_code(socket) == 1012
            await asyncio.to_thread(server.wait, WITHIN)


async def test_a_handshake_that_is_not_answered_does_not_keep_the_server_from_stopping():
    with Server() as server:
        opening = asyncio.create_task(connect(f"{server.url}/ws/undecided/").__aenter__())
        await asyncio.to_thread(server.wait_for_notes, "sleeps")
        server.terminate()
        with pytest.raises((InvalidStatus, OSError, EOFError, ConnectionClosed)):
            await opening
        await asyncio.to_thread(server.wait, WITHIN)
        assert server.notes[-1] == "woken"


@asynccontextmanager
async def handshake(server, path):
    """Ask for a socket, and read nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.write(
        f"GET /ws/{path}/ HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("path", ["gusher", "member"])
async def test_a_client_that_does_not_read_does_not_keep_the_server_from_stopping(path):
    with Server() as server:
        async with handshake(server, path) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()
            if path == "member":
                async with connect(f"{server.url}/ws/member/", max_size=None) as other:
                    await other.recv()
                    await other.send("flood 100")
                    for _ in range(100):
                        await other.recv()
            begins = time.monotonic()
            server.terminate()
            await asyncio.to_thread(server.wait)
            assert time.monotonic() - begins < WITHIN


@pytest.mark.parametrize("path", ["gusher", "denies-at-length"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_second_ctrl_c_waits_for_no_client_that_does_not_read(path, loop):
    pytest.importorskip(loop)
    with Server("--loop", loop) as server:
        async with handshake(server, path) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()
            server.interrupt()
            await asyncio.to_thread(server.wait_for_log, "Waiting for connections to close")
            server.interrupt()
            # Those that it has waited for since the first one would have had 10 s.
            await asyncio.to_thread(server.wait, 8)
        if path == "gusher":
            assert server.notes == ["gusher ended"]
        # uvicorn has one for whatever it cancels.
        server.expected += ["Exception in ASGI application", "Traceback (most recent call last)"]


@pytest.mark.parametrize(
    "ws",
    [OURS, "websockets-sansio", "wsproto"],
    ids=["ours", "websockets-sansio", "wsproto"],
    indirect=True,
)
async def test_a_denial_that_nobody_reads_does_not_keep_the_server_from_stopping():
    with Server() as server:
        async with handshake(server, "denies-at-length") as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()
            server.terminate()
            await asyncio.to_thread(server.wait, WITHIN)


async def test_a_denial_that_is_read_slowly_arrives_as_a_whole():
    with Server() as server:
        async with handshake(server, "denies-at-length") as (reader, _):
            await reader.readuntil(b"\r\n\r\n")
            begins, read = time.monotonic(), 0
            # Longer than who reads nothing has.
            while time.monotonic() - begins < 12:
                read += len(await reader.read(65536))
                await asyncio.sleep(0.1)
            read += len(await reader.read())
            assert read == MUCH


@on_ours
async def test_a_handler_that_swallows_every_cancellation_is_named_in_the_log():
    with Server() as server:
        async with connect(f"{server.url}/ws/deaf/") as socket:
            server.terminate()
            assert await close_code(socket) == 1012
        await asyncio.to_thread(server.wait_for_log, "The handler of /ws/deaf/ goes on")
        (line,) = [line for line in server.lines if "/ws/deaf/ goes on" in line]
        assert line.startswith("WARNING django_ws_dispatch.connection: ")
        assert re.search(r"it is at \S*/tests/live/handlers\.py:\d+\.", line)
        server.kill()


@on_ours
async def test_the_lifespan_is_entered_at_the_start_and_left_at_the_stop():
    with Server(environment={"WEBSOCKET_LIFESPAN": '"tests.live.handlers.lifespan"'}) as server:
        assert server.notes == ["started"]
        server.terminate()
        server.wait()
        assert server.notes == ["started", "stopped"]


@on_ours
async def test_a_lifespan_that_fails_stops_the_start():
    server = Server(environment={"WEBSOCKET_LIFESPAN": '"tests.live.handlers.broken_lifespan"'})
    server.start()
    try:
        assert server.wait() != 0
        assert "no database today" in server.log
        assert "Uvicorn running" not in server.log
    finally:
        server.kill()


@on_ours
async def test_a_wrong_setting_stops_the_start_and_is_named():
    server = Server(environment={"WEBSOCKET_HANDLERS": '{"ws/": "tests.handlers.missing"}'})
    server.start()
    try:
        assert server.wait() != 0
        assert "WEBSOCKET_HANDLERS" in server.log
        assert "tests.handlers.missing" in server.log
    finally:
        server.kill()
