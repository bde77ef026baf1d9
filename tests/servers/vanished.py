"""What takes a server a minute: to miss a client that does not answer, or does not read."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from .processes import AnyServer
from .wire import end_of, frame, opened

__all__ = ["EARLY", "LATE", "Watched", "watch"]

# Seconds after which nothing is expected any more.
PATIENCE = 60.0
# Seconds that something may come before its time, since daphne's timers (autobahn's, two in a row)
# are rounded down to whole seconds, and after it: some look every two seconds only, and the machine
# is busy. Each time runs from before the client's request: what a busy client sees late makes it
# longer, never shorter.
EARLY, LATE = 2.5, 8.0
PING = 9


class Watched(NamedTuple):
    """What a server did, each in seconds; ``None`` for never.

    Attributes:
        ping: until the first ping.
        vanished: until the end of a connection whose client does not answer.
        cut_off: after a close, until the end of one whose client does not read.
    """

    ping: float | None
    vanished: float | None
    cut_off: float | None


def watch(name: str) -> Watched:
    """Watch the named server for a minute."""
    with AnyServer(name) as server:
        return asyncio.run(_watch(server))


async def _watch(server: AnyServer) -> Watched:
    (ping, vanished), cut_off = await asyncio.gather(_vanish(server), _read_nothing(server))
    return Watched(ping, vanished, cut_off)


async def _vanish(server: AnyServer) -> tuple[float | None, float | None]:
    ping = None
    begins = time.monotonic()
    async with opened(server.port, "/reads/", deadline=PATIENCE + LATE) as client:
        assert await client.handshake() == 101
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    opcode, _ = await client.frame()
                    if opcode == PING and ping is None:
                        ping = time.monotonic() - begins
        except TimeoutError:
            return ping, None
        except (asyncio.IncompleteReadError, ConnectionError):
            return ping, time.monotonic() - begins


async def _read_nothing(server: AnyServer) -> float | None:
    async with opened(server.port, "/floods/", deadline=PATIENCE + LATE) as client:
        assert await client.handshake() == 101
        await asyncio.to_thread(server.wait_for_notes, "floods")
        begins = time.monotonic()
        assert (await end_of(server.port, "/remover/")).status == 403
        # It reads nothing: that the connection has ended is seen where something is written.
        while time.monotonic() - begins < PATIENCE - LATE:
            client.writer.write(frame(PING))
            await asyncio.sleep(0.1)
            if client.writer.transport.is_closing():
                return time.monotonic() - begins
    return None
