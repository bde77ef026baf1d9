"""Groups that remember: what they cost the broker, and how a deploy goes.

``python -m benchmarks.remembering [--sockets 10000] [--groups 100] [--messages 20000]``

A process with a Valkey of its own. Its sockets are conversations with the application, as a server
has them, without a network: whatever takes time is this package and the broker. The broker's CPU
time is that of its process, with the system calls of a connection in it; beside it stands what the
server says itself of each call.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import batched
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from .layer import BROWSER, CONNECT, DISCONNECT, scope_of
from .servers import Broker

HISTORY = 200
MISSED = 20
SLOW_US = 2_000
LANES = 8  # as many senders at a time as a loop has connections

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
        into.append(Counted(seconds, process * 1e6, broker_us, calls, self._writes - writes, slow))


class Socket:
    """A socket of the application, with a server that takes no time."""

    def __init__(self, app: Any, since: dict[str, str]) -> None:
        self.joined = asyncio.Event()
        self.got = 0
        self._over = asyncio.Event()
        self._connected = False
        scope = scope_of("/ws/return/", BROWSER)
        scope["query_string"] = urlencode(since).encode()
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
        elif event["type"] != "websocket.accept":
            raise RuntimeError(f"a socket was not let in: {event}")

    async def wait(self) -> None:
        """Return once it has joined."""
        waiting = asyncio.ensure_future(self.joined.wait())
        await asyncio.wait([waiting, self.task], return_when=asyncio.FIRST_COMPLETED)
        if not self.joined.is_set():
            self.task.result()
            raise RuntimeError("a socket has ended before it had joined")

    async def end(self) -> None:
        self._over.set()
        await self.task


class Remembering:
    """The workloads.

    Args:
        app: the application.
        meter: counts.
        sockets: how many come back.
        groups: to how many groups.
        messages: how many are published, of each kind.
    """

    def __init__(self, app: Any, meter: Meter, sockets: int, groups: int, messages: int) -> None:
        self._app = app
        self._meter = meter
        self._sockets = sockets
        self._groups = groups
        self._messages = messages

    # Publishing

    async def publishing(self) -> list[Cells]:
        from django_ws_dispatch.groups import Group

        rows = []
        for title, name, subscribed in (
            ("without a history", "plain:a", False),
            ("with a history", "kept:a", False),
            ("without a history, one process hears it", "plain:b", True),
            ("with a history, one process hears it", "kept:b", True),
        ):
            group = Group(name)
            socket = Socket(self._app, {name: ""}) if subscribed else None
            if socket is not None:
                await socket.wait()
            await self._publish(group, 2 * HISTORY)  # from then on each one drops one
            counted: list[Counted] = []
            with self._meter.count(counted):
                await self._publish(group, self._messages)
            rows.append({"publishing": title, **_cells(counted[0], self._messages)})
            if socket is not None:
                await socket.end()
        return rows

    async def _publish(self, group: Any, count: int) -> list[str]:
        positions: list[str] = []

        async def lane(share: int) -> None:
            for _ in range(share):
                positions.append(await group.asend("x" * 100))

        await asyncio.gather(*(lane(count // LANES) for _ in range(LANES)))
        return positions

    # Joining

    async def joining(self) -> list[Cells]:
        """One socket after the other. The process has a subscription before."""
        count = min(self._sockets, 2_000)
        here = Socket(self._app, {"plain:here": ""})
        await here.wait()
        kept = {f"kept:first-{one}": await self._publish_one(one) for one in range(count)}
        one_each = [{name: since} for name, since in kept.items()]
        ten_each = [dict(ten) for ten in batched(kept.items(), 10)]
        rows = []
        for title, wanted, before in (
            ("no history, the first of its group", [{f"plain:{name}": ""} for name in kept], []),
            ("level, the first of its group", one_each, []),
            ("level, the group is here already", one_each, one_each),
            ("level, the first of ten groups", ten_each, []),
        ):
            sockets = [Socket(self._app, since) for since in before]
            for socket in sockets:
                await socket.wait()
            rows.append({"joining": title, **await self._join(wanted, one_by_one=True)})
            for socket in sockets:
                await socket.end()
        await here.end()
        return rows

    async def _publish_one(self, number: int) -> str:
        from django_ws_dispatch.groups import Group

        return await Group(f"kept:first-{number}").asend("x" * 100) or ""

    async def deploy(self) -> list[Cells]:
        """All sockets come back at once, to a process that knows nothing yet."""
        from django_ws_dispatch.groups import Group

        choices = random.Random(1)
        names = [f"kept:room-{number}" for number in range(self._groups)]
        kept = {}
        for name in names:
            group = Group(name)
            kept[name] = [await group.asend("x" * 100) for _ in range(HISTORY)]
        rows = []
        for title, most in (("all level", 0), (f"0 to {MISSED} messages missed", MISSED)):
            wanted = []
            missed = 0
            for number in range(self._sockets):
                name = names[number % len(names)]
                behind = choices.randint(0, most)
                missed += behind
                wanted.append({name: kept[name][-1 - behind]})
            what = f"{self._sockets:,} sockets, {self._groups} groups, {title}"
            rows.append(
                {"a deploy": what, **await self._join(wanted, one_by_one=False, missed=missed)}
            )
        return rows

    async def _join(
        self, wanted: list[dict[str, str]], *, one_by_one: bool, missed: int = 0
    ) -> Cells:
        counted: list[Counted] = []
        sockets = []
        with self._meter.count(counted):
            for since in wanted:
                sockets.append(Socket(self._app, since))
                if one_by_one:
                    await sockets[-1].wait()
            for socket in sockets:
                await socket.wait()
        if (got := sum(socket.got for socket in sockets)) != missed:
            raise RuntimeError(f"{got} messages were replayed and not {missed}")
        for socket in sockets:
            await socket.end()
        cells = _cells(counted[0], len(wanted))
        if missed:
            cells["replayed"] = f"{missed:,}"
        return cells


def _cells(counted: Counted, count: int) -> Cells:
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


Workload = Callable[[], Awaitable[list[Cells]]]


async def main(options: argparse.Namespace, broker: Broker) -> None:
    from django_ws_dispatch.asgi import get_asgi_application

    app = get_asgi_application()
    from django_ws_dispatch.groups import members

    sizes = (options.sockets, options.groups, options.messages)
    workloads = Remembering(app, Meter(broker), *sizes)
    known: dict[str, Workload] = {
        "publishing": workloads.publishing,
        "joining": workloads.joining,
        "deploy": workloads.deploy,
    }
    for name, workload in known.items():
        if not options.only or name in options.only:
            sys.stdout.write(table(await workload()) + "\n\n")
            sys.stdout.flush()
            # As a process that was started anew.
            await members.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.remembering", description=__doc__)
    parser.add_argument("--sockets", type=int, default=10_000)
    parser.add_argument("--groups", type=int, default=100)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-"))
        valkey = stack.enter_context(Broker(Path(folder)))
        os.environ |= {
            "BENCHMARK_DIRECTORY": folder,
            "BENCHMARK_BROKER": valkey.path,
            "BENCHMARK_GROUPS": json.dumps({"kept:*": {"history": HISTORY}}),
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
        }
        asyncio.run(main(parser.parse_args(), valkey))
