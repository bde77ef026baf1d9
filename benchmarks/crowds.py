"""Who is here: what a crowd costs that joins one group, and a process that is killed.

``python -m benchmarks.crowds [--sizes 1000 2500 5000 10000] [--only crowd crash]``

The crowd is sockets of one process, each with a key of its own, as in ``benchmarks.remembering``.
The process that is killed is one of three, and has 1,000 sockets; what the two others tell of it is
read from the broker as it travels.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections import Counter
from typing import Any

from .meter import Cells, Meter, Socket, cells, site, table
from .servers import Broker

LISTED = 200
LINGER = 10
DEAD, ALIVE = 1_000, 10
# Seconds within which a process that was killed has to be noticed.
MOST = 60.0


async def enter(app: Any, name: str, keys: list[str]) -> list[Socket]:
    """Have sockets join at once; return once all have."""
    sockets = [Socket(app, {name: key}, "/ws/enter/") for key in keys]
    for socket in sockets:
        await socket.wait()
    return sockets


async def crowd(app: Any, meter: Meter, size: int) -> Cells:
    from django_ws_dispatch.groups import Group

    name = f"crowd:{size}"
    told, empty = 0, asyncio.Event()

    async def watch() -> None:
        nonlocal told
        async with Group(name).watch() as changes:
            async for change in changes:
                told += 1
                if not change.count:
                    empty.set()

    here = await enter(app, name, ["first"])
    watcher = asyncio.create_task(watch())
    counted: list[Any] = []
    with meter.count(counted):
        here += await enter(app, name, [f"key-{number}" for number in range(size)])
    if (count := await Group(name).acount()) != size + 1:
        raise RuntimeError(f"{count} are here, and not {size + 1}")
    row = {
        "joining one group": f"{size:,} keys",
        **cells(counted[0], size),
        "bytes from the broker, each": f"{counted[0].sent / size:.0f}",
    }
    leaving: list[Any] = []
    with meter.count(leaving):
        for socket in here:
            await socket.end()
        await empty.wait()
    watcher.cancel()
    await asyncio.wait([watcher])
    row["told to one who watches"] = str(told)
    row["leaving, broker us each"] = f"{leaving[0].broker_us / size:.1f}"
    row["leaving, calls above 2 ms"] = str(len(leaving[0].slow))
    return row


async def be_here(app: Any, prefix: str, count: int) -> None:
    """Be one of the processes: say so, and stay."""
    await enter(app, "crash", [f"{prefix}-{number}" for number in range(count)])
    sys.stdout.write("here\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().create_future()


def crash(broker: Broker) -> Cells:
    """Kill a process; return when that was told, and how often."""
    import redis

    from django_ws_dispatch.brokers.presence import PRESENCE, changes_of
    from django_ws_dispatch.groups import Group

    processes = []
    for prefix, count in (("dead", DEAD), ("alive", ALIVE), ("well", ALIVE)):
        command = [sys.executable, "-m", "benchmarks.crowds", "--be", prefix, str(count)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    try:
        for process in processes:
            if process.stdout is None or process.stdout.readline() != "here\n":
                raise RuntimeError("a process did not start")
        listener = redis.Redis(unix_socket_path=broker.path).pubsub(ignore_subscribe_messages=True)
        listener.subscribe(f"wsd:{Group('crash').channel}")
        listener.get_message(timeout=1)
        processes[0].kill()
        killed = time.monotonic()
        left: Counter[str] = Counter()
        calls, first, last = 0, 0.0, 0.0
        # A little longer, for what may be told twice.
        while time.monotonic() < min(killed + MOST + 20, (last or killed + MOST) + 20):
            message = listener.get_message(timeout=1)
            if not message or not message["data"].startswith(PRESENCE):
                continue
            changes = changes_of(message["data"][len(PRESENCE) :])
            if changes.left:
                calls += 1
                last = time.monotonic()
                first = first or last
                left.update(changes.left)
        listener.close()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return {
        "kill -9 of a process": f"{DEAD:,} sockets, two others stay",
        "first told after, s": f"{first - killed:.1f}",
        "last told after, s": f"{last - killed:.1f}",
        "messages": str(calls),
        "keys told": f"{sum(key.startswith('dead') for key in left):,}",
        "told more than once": str(sum(count > 1 for count in left.values())),
        "others told to have left": str(sum(not key.startswith("dead") for key in left)),
    }


def make_app() -> Any:
    from django_ws_dispatch.asgi import get_asgi_application

    return get_asgi_application()


async def crowds(broker: Broker, sizes: list[int]) -> None:
    app, meter = make_app(), Meter(broker)
    sys.stdout.write(table([await crowd(app, meter, size) for size in sizes]) + "\n\n")
    sys.stdout.flush()
    from django_ws_dispatch.groups import members

    await members.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crowds", description=__doc__)
    parser.add_argument("--sizes", nargs="*", type=int, default=[1_000, 2_500, 5_000, 10_000])
    parser.add_argument("--only", nargs="*", default=["crowd", "crash"], metavar="NAME")
    parser.add_argument("--be", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be:
        asyncio.run(be_here(make_app(), options.be[0], int(options.be[1])))
    else:
        presence = {"presence": LISTED, "linger": LINGER}
        # Where all of them are listed, all of it travels.
        crash_presence = {"presence": 1_000, "linger": LINGER}
        with site({"crowd:*": presence, "crash": crash_presence}) as valkey:
            if "crowd" in options.only:
                asyncio.run(crowds(valkey, options.sizes))
            if "crash" in options.only:
                make_app()
                sys.stdout.write(table([crash(valkey)]) + "\n")
