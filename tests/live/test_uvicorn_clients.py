"""Clients that vanish, talk nonsense, stop reading or never stop talking."""

from __future__ import annotations

import asyncio
import os
import signal
import socket as sockets
import struct
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.kit.server import DEADLINE, Server

from .classes import LOST

pytestmark = [pytest.mark.live, pytest.mark.asyncio, pytest.mark.usefixtures("ws")]

# A browser that crashes: connects, says so, and reads or not.
CLIENT = """
import asyncio, sys
from websockets.asyncio.client import connect

async def main(url, reads):
    async with connect(url, ping_interval=None, max_size=None) as socket:
        print("open", flush=True)
        while reads:
            await socket.recv()
        await asyncio.Event().wait()

asyncio.run(main(sys.argv[1], sys.argv[2] == "reads"))
"""


@pytest.fixture(scope="module")
def process(ws):
    # A second is what takes 20 s by default.
    with Server("--ws-ping-interval", "1", "--ws-ping-timeout", "1") as server:
        yield server


@pytest.fixture
def server(process):
    yield process
    process.check()


@asynccontextmanager
async def client_process(url, habit="reads"):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, url, habit, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), DEADLINE) == b"open\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()


@asynccontextmanager
async def raw_client(server, path):
    """A TCP connection on which the handshake is done."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        yield reader, writer
    finally:
        writer.transport.abort()


def masked(opcode, payload, *, fin=True):
    """A frame of a client's, shorter than 126 bytes."""
    mask = b"abcd"
    body = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([opcode | fin << 7, len(payload) | 0x80]) + mask + body


async def noted(server, note, count=1):
    await asyncio.to_thread(server.wait_for_notes, note, count)


async def nobody_is_left(server):
    """Wait until every socket but the asking one is gone from the process."""
    async with asyncio.timeout(DEADLINE):
        while True:
            async with connect(f"{server.url}/ws/count/") as socket:
                if await socket.recv() == "0":
                    return
            await asyncio.sleep(0.02)


# Gone without a word


@pytest.mark.parametrize(
    ("path", "note"),
    [
        ("echo", "echo {}"),
        ("raw-echo", "raw_echo {}"),
        ("sleeper", "woken"),
        ("raw-sleeper", "woken"),
        ("pusher", "pusher ended"),
        ("raw-pusher", "pusher ended"),
        ("gusher", "gusher ended"),
        ("feed", "generator closed"),
        ("waits", "waits {}"),
        ("member", "member {}"),
    ],
)
@pytest.mark.parametrize("habit", ["reads", "does not read"])
async def test_kill_9_of_a_client_ends_its_handler(server, ws, path, note, habit):
    note = note.format(LOST[ws])
    before = server.notes.count(note)
    async with client_process(f"{server.url}/ws/{path}/", habit) as client:
        client.kill()
        await noted(server, note, before + 1)
    await nobody_is_left(server)


async def test_a_reset_ends_the_handler(server):
    before = server.notes.count("pusher ended")
    async with raw_client(server, "/ws/pusher/") as (reader, writer):
        await reader.read(10)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, linger)
        writer.transport.abort()
        await noted(server, "pusher ended", before + 1)
    await nobody_is_left(server)


async def test_a_half_open_connection_ends_the_handler(server):
    before = server.notes.count("woken")
    async with raw_client(server, "/ws/sleeper/") as (reader, _):
        # It never answers a ping.
        async with asyncio.timeout(DEADLINE):
            while await reader.read(4096):
                pass
        await noted(server, "woken", before + 1)
    await nobody_is_left(server)


async def test_a_client_that_only_shuts_its_writing_half_ends_the_handler(server, ws):
    note = f"echo {LOST[ws]}"
    before = server.notes.count(note)
    async with raw_client(server, "/ws/echo/") as (reader, writer):
        writer.write_eof()
        async with asyncio.timeout(DEADLINE):
            while await reader.read(4096):
                pass
        await noted(server, note, before + 1)


async def test_a_thousand_connects_and_drops_leave_nothing_behind(server):
    async def drop():
        async with raw_client(server, "/ws/member/"):
            pass

    for _ in range(20):
        await asyncio.gather(*(drop() for _ in range(50)))
    await nobody_is_left(server)


# Nonsense


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n" * 20, 1002),
        (b"\x81\x02hi", 1002),  # not masked
        (b"\xf1\x80abcd", 1002),  # reserved bits
        (masked(0x3, b""), 1002),  # no such opcode
        (masked(0x0, b"x"), 1002),  # continues nothing
        (masked(0x9, b"x", fin=False), 1002),  # a ping in fragments
        (masked(0x8, b"\x03"), 1002),  # half a close code
        (masked(0x8, struct.pack("!H", 1006)), 1002),
        (masked(0x1, b"\xff"), 1007),  # no UTF-8
    ],
    ids=[
        "garbage",
        "unmasked",
        "reserved bits",
        "opcode",
        "continuation",
        "ping in fragments",
        "half a code",
        "code 1006",
        "no UTF-8",
    ],
)
@pytest.mark.parametrize("path", ["echo", "raw-echo", "sleeper"])
async def test_nonsense_after_the_handshake_is_the_clients_error_only(server, data, code, path):
    if code == 1007:
        server.expected += ["Invalid UTF-8", "Traceback", "UnicodeDecodeError"]  # uvicorn's own
    async with raw_client(server, f"/ws/{path}/") as (reader, writer):
        writer.write(data)
        async with asyncio.timeout(DEADLINE):
            answer = await reader.read()
        assert answer[:1] == b"\x88"
        assert struct.unpack("!H", answer[2:4])[0] == code
    await nobody_is_left(server)


async def test_fragments_with_a_ping_between_are_one_message(server):
    async with raw_client(server, "/ws/echo/") as (reader, writer):
        writer.write(masked(0x1, b"fr", fin=False))
        writer.write(masked(0x9, b"?"))
        writer.write(masked(0x0, b"ag"))
        assert await reader.readexactly(3) == b"\x8a\x01?"
        assert await reader.readexactly(6) == b"\x81\x04frag"


@pytest.mark.parametrize("size", [1, 4, 7, 11, 16])
async def test_messages_that_arrive_in_pieces_are_each_read_once(server, size):
    messages = [b"%d" % number * number for number in range(1, 9)]
    stream = b"".join(masked(0x1, message) for message in messages)
    async with raw_client(server, "/ws/echo/") as (reader, writer):
        for start in range(0, len(stream), size):
            writer.write(stream[start : start + size])
            await asyncio.sleep(0.005)
        got = []
        for _ in messages:
            first, length = await asyncio.wait_for(reader.readexactly(2), DEADLINE)
            assert first == 0x81
            got.append(await reader.readexactly(length))
        assert got == messages
    await nobody_is_left(server)


async def test_a_message_that_never_ends_is_the_clients_error_only(server):
    async with raw_client(server, "/ws/echo/") as (_, writer):
        writer.write(masked(0x1, b"x", fin=False))
        writer.write(masked(0x0, b"x", fin=False) * 1000)
        await writer.drain()
    await nobody_is_left(server)


# Those who talk, those who do not read


@pytest.mark.parametrize("path", ["feed", "pusher", "raw-pusher"])
async def test_a_handler_that_only_pushes_lives_with_a_client_that_talks(server, path):
    async with connect(f"{server.url}/ws/{path}/", ping_interval=None) as socket:
        ends = asyncio.get_running_loop().time() + 5  # two pings and their time-outs, twice over
        while asyncio.get_running_loop().time() < ends:
            await socket.send("talk " * 100)
            await asyncio.wait_for(socket.recv(), DEADLINE)
    await nobody_is_left(server)


async def test_a_client_that_does_not_read_gets_1013_and_the_others_get_everything(process):
    server = process
    async with (
        raw_client(server, "/ws/member/") as (reader, writer),
        connect(f"{server.url}/ws/member/", max_size=None) as good,
    ):
        writer.transport.pause_reading()
        assert await good.recv() == "joined"
        await good.send("flood 200")
        for number in range(200):
            message = await asyncio.wait_for(good.recv(), DEADLINE)
            assert message.split()[0] == str(number)
            assert len(message) == 65536
        server.wait_for_log("more than WEBSOCKET_OUTBOX_SIZE")
        begins = asyncio.get_running_loop().time()
        await noted(server, "member 1013")
        # The close frame waits behind what it does not read: it is dropped.
        async with connect(f"{server.url}/ws/count/") as asking:
            await asking.recv()
        async with asyncio.timeout(DEADLINE):
            while True:
                async with connect(f"{server.url}/ws/count/") as asking:
                    if await asking.recv() == "1":
                        break
                await asyncio.sleep(0.05)
        # It has 10 s to take its close frame; who takes some of what waits has a minute.
        assert asyncio.get_running_loop().time() - begins < 45
        await good.send("still here")
        assert await good.recv() == "still here"
        del reader
    await nobody_is_left(server)
    server.check()


async def test_a_slow_client_that_reads_again_gets_all_in_order_up_to_its_1013(server):
    async with raw_client(server, "/ws/member/") as (reader, writer):
        writer.transport.pause_reading()
        async with connect(f"{server.url}/ws/member/", max_size=None) as good:
            await good.recv()
            await good.send("flood 200")
            for _ in range(200):
                await good.recv()
        writer.transport.resume_reading()
        numbers = []
        async with asyncio.timeout(DEADLINE):
            while True:
                first, length = await reader.readexactly(2)
                if length == 127:
                    (length,) = struct.unpack("!Q", await reader.readexactly(8))
                payload = await reader.readexactly(length)
                if first == 0x88:
                    break
                if first == 0x81 and payload[:1].isdigit():
                    numbers.append(int(payload.split()[0]))
        assert struct.unpack("!H", payload[:2])[0] == 1013
        assert payload[2:] == b"slow client"
        assert numbers == list(range(len(numbers)))
        assert 0 < len(numbers) < 200
    await nobody_is_left(server)


async def test_kill_9_of_a_client_in_the_middle_of_a_fan_out_disturbs_nobody(server):
    async with connect(f"{server.url}/ws/member/", max_size=None) as good:
        await good.recv()
        async with client_process(f"{server.url}/ws/member/") as victim:
            await good.send("flood 100")
            for number in range(100):
                message = await asyncio.wait_for(good.recv(), DEADLINE)
                assert message.split()[0] == str(number)
                if number == 20:
                    victim.send_signal(signal.SIGKILL)
    await nobody_is_left(server)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
async def test_a_handler_whose_client_does_not_read_waits_in_its_send(server):
    async with raw_client(server, "/ws/gusher/") as (_, writer):
        writer.transport.pause_reading()
        # The process does not grow with what the client does not take.
        statm = Path(f"/proc/{server.pid}/statm")
        for _ in range(5):
            async with connect(f"{server.url}/ws/count/") as asking:
                assert await asking.recv() == "1"
            pages = int((await asyncio.to_thread(statm.read_text)).split()[1])
            assert pages * os.sysconf("SC_PAGE_SIZE") < 400 * 1024 * 1024
    await nobody_is_left(server)


async def test_a_client_that_is_closed_sees_a_close_frame_not_1006(server):
    async with connect(f"{server.url}/ws/ends/open-/") as socket:
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None
