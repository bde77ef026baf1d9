"""What is done to the servers. A sample is the server's CPU time per unit of work, in
microseconds, and beside it what a client saw."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from statistics import quantiles

from . import clients
from .measure import Sample
from .servers import Process, Server


class Meter:
    """The CPU time of some processes, and the time that passed, over a block of work."""

    def __init__(self, servers: Sequence[Process]) -> None:
        self._servers = servers

    def __enter__(self) -> Meter:
        self._cpu = sum(server.cpu_us() for server in self._servers)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = time.perf_counter() - self._start
        self.cpu_us = sum(server.cpu_us() for server in self._servers) - self._cpu

    def sample(self, count: int, times: Sequence[float] = ()) -> Sample:
        beside = {"per second": count / self.seconds}
        if times:
            cuts = quantiles(times, n=100, method="inclusive")
            beside |= {"p50 ms": cuts[49] * 1000, "p99 ms": cuts[98] * 1000}
        return Sample(self.cpu_us / count, beside)


@asynccontextmanager
async def opened(
    server: Server,
    path: str,
    count: int,
    headers: Mapping[str, str] | None = None,
    deflate: bool = False,
    *,
    drop: bool = False,
) -> AsyncIterator[list[clients.Client]]:
    """Have so many sockets open, and closed afterwards; dropped, where the server ends as well."""
    sockets = await clients.connect_many(server, path, count, headers=headers, deflate=deflate)
    try:
        yield sockets
    finally:
        if drop:
            for socket in sockets:
                socket.drop()
        else:
            await asyncio.gather(*(socket.close() for socket in sockets))


async def echo(
    server: Server,
    path: str,
    *,
    sockets: int,
    messages: int,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Sample]:
    """Every socket sends, waits for the echo and sends again. For ever, a sample each time.

    Args:
        server: to which.
        path: of the handler.
        sockets: how many.
        messages: how many messages of all sockets make a sample.
        headers: of the handshake.
    """
    each = messages // sockets
    async with opened(server, path, sockets, headers) as open_sockets:
        await asyncio.gather(*(socket.exchange(5) for socket in open_sockets))
        while True:
            with Meter([server]) as meter:
                times = await asyncio.gather(*(socket.exchange(each) for socket in open_sockets))
            yield meter.sample(each * sockets, [one for several in times for one in several])


async def connects(
    server: Server, path: str, *, count: int, headers: Mapping[str, str] | None = None
) -> Sample:
    """Open sockets and close them, eight at a time."""
    times: list[float] = []
    gate = asyncio.Semaphore(8)

    async def one() -> None:
        async with gate:
            start = time.perf_counter()
            socket = await clients.connect(server, path, headers)
            times.append(time.perf_counter() - start)
            await socket.close()

    with Meter([server]) as meter:
        await asyncio.gather(*(one() for _ in range(count)))
    return meter.sample(count, times)


async def fan_out(
    servers: Sequence[Server],
    *,
    members: int,
    messages: int,
    flight: int = 1,
    deflate: bool = False,
    brokers: Sequence[Process] = (),
) -> AsyncIterator[Sample]:
    """Send to a group; more when all have what was sent before. For ever, a sample each time.

    Args:
        servers: the first has the publisher, the last the members.
        members: how many sockets are in the group.
        messages: how many messages make a sample.
        flight: how many messages are sent at the same time.
        deflate: whether members offer permessage-deflate; messages are then 1 KiB of JSON.
        brokers: whose CPU time counts as well.

    Raises:
        RuntimeError: messages that were to be compressed were not.
    """
    texts = clients.json_messages(64) if deflate else [clients.MESSAGE]
    following = itertools.cycle(texts)
    async with (
        opened(servers[0], "/ws/publish/", 1) as (publisher,),
        joined(servers[-1], members, deflate) as sockets,
    ):
        while True:
            before = sum(socket.compressed for socket in sockets)
            with Meter([*servers, *brokers]) as meter:
                for _ in range(messages // flight):
                    done = asyncio.gather(*(socket.expect(flight) for socket in sockets))
                    publisher.send_together([next(following) for _ in range(flight)])
                    await asyncio.wait_for(done, clients.TIMEOUT)
            count = messages // flight * flight * members
            if sum(socket.compressed for socket in sockets) - before != count * deflate:
                raise RuntimeError("Not what was to be compressed was compressed.")
            yield meter.sample(count)


@asynccontextmanager
async def joined(
    server: Server, members: int, deflate: bool = False
) -> AsyncIterator[list[clients.Client]]:
    """Have so many sockets in the group."""
    gate = asyncio.Semaphore(16)
    sockets: list[clients.Client] = []

    async def one() -> None:
        async with gate:
            socket = await clients.connect(server, "/ws/member/", deflate=deflate)
            # The greeting may have come with the handshake's answer.
            if socket.wanted == 0:
                await asyncio.wait_for(socket.expect(1), clients.TIMEOUT)
            sockets.append(socket)

    await asyncio.gather(*(one() for _ in range(members)))
    try:
        yield sockets
    finally:
        await asyncio.gather(*(socket.close() for socket in sockets))


async def memory(
    server: Server,
    path: str,
    *,
    sockets: int,
    headers: Mapping[str, str],
    deflate: bool = False,
    window: float = 0,
) -> Sample:
    """How many KiB the server grows by for an idle socket, in a process that is warm.

    Args:
        server: that one.
        path: of a handler that echoes.
        sockets: how many are opened.
        headers: of the handshake.
        deflate: whether they offer permessage-deflate.
        window: seconds for which the server's CPU time is measured then; it stands beside.
    """
    async with opened(server, path, 50, headers, deflate) as warm:
        await asyncio.gather(*(socket.exchange(2) for socket in warm))
    await asyncio.sleep(0.5)
    before = server.memory()
    async with opened(server, path, sockets, headers, deflate, drop=True):
        await asyncio.sleep(1)
        grown = server.memory() - before
        if not window:
            return Sample(grown / 1024 / sockets)
        with Meter([server]) as meter:
            await asyncio.sleep(window)
    return Sample(grown / 1024 / sockets, {"CPU ms/s": meter.cpu_us / 1000 / meter.seconds})


async def stalled(server: Server, *, blockers: int) -> Sample:
    """The p99 of one echo, in milliseconds, while others block for a second in sync code."""
    async with (
        opened(server, "/ws/echo/", 1) as (socket,),
        opened(server, "/ws/block/", blockers) as blocked,
    ):
        await socket.exchange(50)
        waits = [one.expect(1) for one in blocked]
        for one in blocked:
            one.send()
        times: list[float] = []
        end = time.perf_counter() + 0.9
        while time.perf_counter() < end:
            times += await socket.exchange(1)
            await asyncio.sleep(0.002)
        await asyncio.wait_for(asyncio.gather(*waits), clients.TIMEOUT)
    # With few samples the worst is what a user remembers.
    cuts = quantiles(times, n=100, method="inclusive") if len(times) > 1 else [times[0]] * 99
    return Sample(cuts[98] * 1000, {"worst ms": max(times) * 1000, "echoes": float(len(times))})


async def pages(server: Server, *, count: int) -> Sample:
    """HTTP requests on one connection."""
    head = f"GET /page/ HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()
    with Meter([server]) as meter:
        lines = await clients.http(server, head, count)
    if any(b" 200 " not in line + b" " for line in lines):
        raise RuntimeError(f"A page was not served: {lines[0]!r}")
    return meter.sample(count)


async def denials(server: Server, path: str, *, count: int, origin: str = "") -> Sample:
    """Handshakes that are refused."""
    own = f"http://127.0.0.1:{server.port}"
    head = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {origin or own}\r\n\r\n"
    ).encode()
    with Meter([server]) as meter:
        lines = await clients.http(server, head, count, keep=False)
    if any(line.split(b" ")[1] < b"400" for line in lines):
        raise RuntimeError(f"A handshake was not refused: {lines[0]!r}")
    return meter.sample(count)
