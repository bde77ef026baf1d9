"""What a server does by itself, seen by a client: one probe for each line of ``BARE``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress

from .bare import CHUNK, PATIENCE, ROOT_PATH
from .processes import AnyServer
from .wire import DEADLINE, Wire, end_of, frame, opened

__all__ = ["PROBES", "bare", "measure"]

Probe = Callable[[AnyServer], Awaitable[str]]
PROBES: dict[str, Probe] = {}

MIB = 1024 * 1024
# More messages than a server with a bound reads ahead.
MANY = 100
NO_FRAME = {1005: "empty close: 1005", 1006: "no close frame: 1006"}


@contextmanager
def bare(name: str) -> Iterator[AnyServer]:
    """Serve the application of ``bare.py`` with the named server."""
    process = AnyServer(name, application="tests.servers.bare:application", root_path=ROOT_PATH)
    try:
        # Not in a with statement: what the application does on purpose is in the log.
        yield process.__enter__()
    finally:
        process.kill()


async def measure(server: AnyServer) -> dict[str, str | BaseException]:
    """Run every probe, all at once."""
    cells = await asyncio.gather(*(one(server) for one in PROBES.values()), return_exceptions=True)
    return dict(zip(PROBES, cells, strict=True))


def probe(line: str) -> Callable[[Probe], Probe]:
    """Measure that line of the table."""

    def add(measured: Probe) -> Probe:
        PROBES[line] = measured
        return measured

    return add


@asynccontextmanager
async def another(server: AnyServer) -> AsyncIterator[AnyServer]:
    """One more of its kind, which may die."""
    with ExitStack() as stack:
        yield await asyncio.to_thread(stack.enter_context, bare(server.name))


async def exits(process: AnyServer) -> bool:
    """Whether the process ends by itself."""
    try:
        await asyncio.to_thread(process.wait, PATIENCE)
    except TimeoutError:
        return False
    return True


async def noted(server: AnyServer, start: str) -> str:
    """Wait for a note that starts so; return the rest of it."""
    async with asyncio.timeout(DEADLINE):
        while True:
            for note in server.notes:
                if note.startswith(start):
                    return note.removeprefix(start).strip()
            await asyncio.sleep(0.02)


async def hears(wire: Wire) -> bool:
    """Whether anything comes, be it the end of the stream."""
    try:
        await asyncio.wait_for(wire.frame(), PATIENCE)
    except TimeoutError:
        return False
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    return True


async def hears_close(wire: Wire) -> int | None:
    """The code of a close frame, if one comes."""
    with suppress(TimeoutError):
        code, _ = await asyncio.wait_for(wire.closed(), PATIENCE)
        return None if code == 1006 else code
    return None


def dropped(began: float) -> str:
    """A handshake was given up after so many seconds, to the nearest five."""
    return f"dropped after {5 * round((time.monotonic() - began) / 5)} s"


async def status(server: AnyServer, path: str) -> str:
    """How a handshake is answered that is not accepted."""
    began = time.monotonic()
    end = await end_of(server.port, path)
    return str(end.status) if end.status else dropped(began)


async def code(server: AnyServer, path: str) -> str:
    """How a connection ends that was accepted."""
    async with opened(server.port, path) as wire:
        assert await wire.handshake() == 101
        try:
            code, _ = await asyncio.wait_for(wire.closed(), PATIENCE)
        except TimeoutError:
            wire.writer.write(frame(9))
            return "stays open" if await hears(wire) else "is forgotten"
    return NO_FRAME.get(code, str(code))


@probe("close before the accept")
async def close_before_the_accept(server: AnyServer) -> str:
    seen = await status(server, "/closes-early/")
    returned = "closes-early returns" in server.notes
    return f"{seen} {'after the application returns' if returned else 'at once'}"


@probe("`websocket.http.response`")
async def denial(server: AnyServer) -> str:
    end = await end_of(server.port, "/extensions/")
    if await noted(server, "extensions") == "False":
        return "no `extensions` key"
    assert end.status == 418
    if await status(server, "/two-bodies/") != "418":
        return "yes, in one body only"
    return "yes, chunked" if end.all("transfer-encoding") == ["chunked"] else "yes"


@probe("a header that comes twice in a denial")
async def header_twice(server: AnyServer) -> str:
    if await noted(server, "extensions") == "False":
        return "no"
    async with another(server) as own:
        end = await end_of(own.port, "/two-headers/")
        if end.all("set-cookie") == ["a=1", "b=2"]:
            return "sent twice"
        return "kills the worker" if await exits(own) else "sent once"


@probe("application raises before the accept")
async def raises_before(server: AnyServer) -> str:
    return await status(server, "/raises-early/")


@probe("application returns before the accept")
async def returns_before(server: AnyServer) -> str:
    return await status(server, "/returns-early/")


@probe("application raises after it")
async def raises_after(server: AnyServer) -> str:
    return await code(server, "/raises-late/")


@probe("application returns after it")
async def returns_after(server: AnyServer) -> str:
    return await code(server, "/returns-late/")


@probe("reason over 123 bytes")
async def long_reason(server: AnyServer) -> str:
    short = (await end_of(server.port, "/short-reason/")).reason
    long = (await end_of(server.port, "/long-reason/")).reason
    if not long and "long-reason raises" in server.notes:
        return "raises"
    return {
        ("bye", "x" * 123): "truncates",
        ("bye", "x" * 124): "sends it",
        ("", ""): "drops every reason",
    }[short, long]


async def left(server: AnyServer) -> set[tuple[str, str]]:
    """What ``receive()`` and ``send()`` do once a client has left, whichever way."""
    seen = set()
    for name in "left-with-close", "left-without":
        async with opened(server.port, f"/{name}/") as wire:
            assert await wire.handshake() == 101
            if name == "left-with-close":
                wire.writer.write(frame(8, (4001).to_bytes(2)))
                await hears(wire)
        again, _, sent = (await noted(server, name)).partition(", ")
        seen.add((again, sent))
    return seen


@probe("`send` after the client left")
async def send_after(server: AnyServer) -> str:
    (sent,) = {sent for _, sent in await left(server)}
    return sent


@probe("`receive` after the disconnect")
async def receive_after(server: AnyServer) -> str:
    again = {again for again, _ in await left(server)}
    if len(again) > 1:
        return "may block for ever"
    return {"blocks": "blocks", "websocket.disconnect": "repeats it"}[again.pop()]


@probe("a subprotocol that was not offered")
async def subprotocol(server: AnyServer) -> str:
    began = time.monotonic()
    async with opened(server.port, "/subprotocol/", {"Sec-WebSocket-Protocol": "v0"}) as wire:
        if await wire.handshake() == 101:
            assert dict(wire.headers)["sec-websocket-protocol"] == "v9"
            return "sent"
    return "raises" if "subprotocol raises" in server.notes else dropped(began)


@probe("`path` under a `root_path`")
async def root_path(server: AnyServer) -> str:
    async with opened(server.port, "/path/") as wire:
        assert await wire.handshake() == 101
        return {"/path/": "not", f"{ROOT_PATH}/path/": "prefixed"}[await wire.text()]


@probe("default largest message")
async def largest(server: AnyServer) -> str:
    message, one = [await limit(server, CHUNK), await limit(server, 65 * MIB)]
    return f"{message} MiB" if message == one else f"{message} MiB, in frames of {one} MiB"


async def limit(server: AnyServer, part: int) -> int:
    """The largest message in MiB that arrives, in frames of so many bytes."""
    arrived = 0
    for size in 1, 16, 64:
        for more in 0, 1:
            if not await arrives(server, size * MIB + more, part):
                assert more, f"more than {arrived} MiB, but not {size}"
                return size
        arrived = size
    raise AssertionError(f"more than {arrived} MiB")


async def arrives(server: AnyServer, size: int, part: int) -> bool:
    """Whether the application is told of a message of so many bytes."""
    async with opened(server.port, "/size/") as wire:
        assert await wire.handshake() == 101
        try:
            for start in range(0, size, part):
                payload = bytes(min(part, size - start))
                last = start + part >= size
                wire.writer.write(frame(0 if start else 2, payload, fin=last))
                await wire.writer.drain()
            opcode, answer = await wire.frame()
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        return (opcode, answer) == (1, str(size).encode())


@probe("messages read ahead")
async def ahead(server: AnyServer) -> str:
    """A server that does not read on answers no ping either."""
    async with opened(server.port, "/sleeps/") as wire:
        assert await wire.handshake() == 101
        for count in range(MANY):
            wire.writer.write(frame(1, b"x") + frame(9, b"x"))
            if not await hears(wire):
                return str(count or "none")
    return "unbounded"


@probe("`send` to a client that stopped reading")
async def floods(server: AnyServer) -> str:
    async with opened(server.port, "/floods/") as wire:
        assert await wire.handshake() == 101
        return await noted(server, "floods")


@probe("SIGTERM with an open socket")
async def sigterm(server: AnyServer) -> str:
    async with another(server) as own, opened(own.port, "/sleeps/") as wire:
        assert await wire.handshake() == 101
        own.terminate()
        ends, told = await asyncio.gather(exits(own), hears_close(wire))
        return f"{told or 'nothing'}, {'ends' if ends else 'waits for the handler'}"
