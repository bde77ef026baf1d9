"""What a piece of work takes of a broker, and sockets of the application without a server."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from .layer import BROWSER, CONNECT, DISCONNECT, scope_of
from .servers import Broker

SLOW_US = 2_000

Cells = dict[str, str]


class Counted(NamedTuple):
    """What a piece of work took."""

    seconds: float
    process_us: float
    broker_us: float
    calls: dict[str, tuple[int, float]]
    """command -> how often, and microseconds by the server's own count"""
    writes: int
    """of connections: one after the other they are round trips"""
    sent: int
    """bytes that the broker has sent"""
    slow: list[str]
    """what held the server for longer than ``SLOW_US``"""

    @property
    def commands(self) -> int:
        return sum(calls for calls, _ in self.calls.values())

    @property
    def called_us(self) -> float:
        return sum(us for _, us in self.calls.values())


class Meter:
    """Counts what the broker and this process do.

    Args:
        broker: its process.
    """

    def __init__(self, broker: Broker) -> None:
        import redis
        from redis.asyncio.connection import AbstractConnection

        self._broker = broker
        self._client = redis.Redis(unix_socket_path=broker.path)
        self._client.config_set("slowlog-log-slower-than", SLOW_US)
        self._client.config_set("slowlog-max-len", 1_000)
        self._writes = 0
        send = AbstractConnection.send_packed_command

        async def counted(connection: Any, *args: Any, **kwargs: Any) -> None:
            # The connections of calls and those of subscriptions.
            self._writes += 1
            await send(connection, *args, **kwargs)

        AbstractConnection.send_packed_command = counted

    @contextmanager
    def count(self, into: list[Counted]) -> Iterator[None]:
        gc.collect()
        self._client.slowlog_reset()
        self._client.config_resetstat()
        writes, broker_us = self._writes, self._broker.cpu_us()
        process, start = time.process_time(), time.perf_counter()
        yield
        seconds, process = time.perf_counter() - start, time.process_time() - process
        broker_us = self._broker.cpu_us() - broker_us
        calls = {
            name.removeprefix("cmdstat_"): (stat["calls"], float(stat["usec"]))
            for name, stat in self._client.info("commandstats").items()
        }
        # A script has the time of its commands in its own; these are of the meter itself.
        inside = any(name.startswith("eval") for name in calls)
        for name in list(calls):
            own = name.partition("|")[0] in ("config", "info", "slowlog", "hello", "client")
            if own or (inside and not name.startswith(("eval", "subscribe", "unsubscribe"))):
                del calls[name]
        slow = [
            f"{one['duration']} us: {one['command'][:60]!r}"
            for one in self._client.slowlog_get(1_000)
        ]
        sent = self._client.info("stats")["total_net_output_bytes"]
        into.append(
            Counted(seconds, process * 1e6, broker_us, calls, self._writes - writes, sent, slow)
        )


class Socket:
    """A socket of the application, with a server that takes no time."""

    def __init__(self, app: Any, query: dict[str, str], path: str = "/ws/return/") -> None:
        self.joined = asyncio.Event()
        self.got = 0
        self.refused = False
        self._over = asyncio.Event()
        self._connected = False
        scope = scope_of(path, BROWSER)
        scope["query_string"] = urlencode(query).encode()
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._connected:
            self._connected = True
            return CONNECT
        await self._over.wait()
        return DISCONNECT

    async def _send(self, event: dict[str, Any]) -> None:
        if event.get("text") == "joined":
            self.joined.set()
        elif event["type"] == "websocket.send":
            self.got += 1

    async def wait(self) -> None:
        """Return once it has joined, or was refused: the broker did not answer in time."""
        waiting = asyncio.ensure_future(self.joined.wait())
        await asyncio.wait([waiting, self.task], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not self.joined.is_set():
            await self.task
            self.refused = True

    async def end(self) -> None:
        self._over.set()
        await self.task


def cells(counted: Counted, count: int) -> Cells:
    return {
        "count": f"{count:,}",
        "seconds": f"{counted.seconds:.2f}",
        "process, us each": f"{counted.process_us / count:.1f}",
        "broker, us each": f"{counted.broker_us / count:.1f}",
        "in its calls, us each": f"{counted.called_us / count:.1f}",
        "commands each": f"{counted.commands / count:.2f}",
        "writes each": f"{counted.writes / count:.2f}",
        "calls above 2 ms": str(len(counted.slow)),
        "which": ", ".join(f"{name} {calls:,}" for name, (calls, _) in counted.calls.items()),
    }


def table(rows: list[Cells]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, *([row.get(name, "") for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


@contextmanager
def site(groups: dict[str, dict[str, Any]]) -> Iterator[Broker]:
    """A broker, and the environment of a site that has such groups on it."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-"))
        broker = stack.enter_context(Broker(Path(folder)))
        os.environ |= {
            "BENCHMARK_DIRECTORY": folder,
            "BENCHMARK_BROKER": broker.path,
            "BENCHMARK_GROUPS": json.dumps(groups),
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
        }
        yield broker
