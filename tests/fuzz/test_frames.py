"""Frames from a raw socket, right and wrong, to uvicorn: every handler ends, none fails."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from tests.kit.waiting import DEADLINE
from tests.servers.processes import AnyServer
from tests.servers.wire import frame, opened

from .conftest import PROFILE

pytestmark = pytest.mark.live

EXAMPLES = 2000 if PROFILE == "large" else 40
PATHS = ["echo", "raw-echo", "small", "pusher", "waits", "feed"]

# uvicorn 0.54, also without this package: not UTF-8, and a close frame in the same packet.
UVICORNS_OWN = re.compile(
    r"^ERROR asyncio: Fatal error on transport TCPTransport\n(?:(?!ERROR|WARNING|INFO).*\n)*?"
    r"websockets\.exceptions\.InvalidState: connection is closing$",
    re.MULTILINE,
)

frames = st.builds(
    frame,
    st.sampled_from([1, 1, 1, 2, 2, 0, 8, 9, 10, 3, 11, 0x41, 0x71]),
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=50).map(str.encode),
        st.sampled_from(
            [b"", b"\x03\xe8", b"\x03\xe8bye", b"\x00\x01", b"x" * 2000, b"x" * 70_000]
        ),
    ),
    fin=st.sampled_from([True, True, True, False]),
    mask=st.sampled_from([True] * 9 + [False]),
)
garbage = st.binary(min_size=1, max_size=50)
streams = st.lists(st.one_of(frames, frames, frames, frames, garbage), max_size=10)


@pytest.fixture(scope="module")
def server() -> Iterator[AnyServer]:
    with AnyServer("uvicorn") as server:
        yield server


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


async def talk(server: AnyServer, path: str, parts: list[bytes], *, cut: int, polite: bool) -> None:
    """Send the parts, the last one perhaps in two halves or not whole; then leave."""
    async with opened(server.port, f"/ws/{path}/") as wire:
        assert await wire.handshake() == 101
        with suppress(OSError):
            for part in parts:
                wire.writer.write(part[:cut])
                await wire.writer.drain()
                wire.writer.write(part[cut:])
                await wire.writer.drain()
            if polite:
                wire.writer.write(frame(8, b"\x03\xe8"))
            wire.writer.write_eof()
            while await wire.reader.read(65536):
                pass


async def open_sockets(server: AnyServer) -> int:
    """How many sockets the server has left."""
    async with opened(server.port, "/ws/count/") as wire:
        assert await wire.handshake() == 101
        return int(await wire.text())


@profile(max_examples=EXAMPLES)
@given(
    path=st.sampled_from(PATHS),
    parts=streams,
    cut=st.sampled_from([0, 1, 2, 7]),
    polite=st.booleans(),
)
def test_no_frame_makes_a_handler_fail(server, runner, path, parts, cut, polite):
    runner.run(talk(server, path, parts, cut=cut, polite=polite))


def test_no_socket_is_left_and_nothing_was_logged(server, runner):
    async def none_left() -> None:
        async with asyncio.timeout(DEADLINE):
            while await open_sockets(server):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    runner.run(none_left())
    server.lines[:] = UVICORNS_OWN.sub("", "\n".join(server.lines)).split("\n")
    server.check()
