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
import logging
import random
import sys
from collections.abc import Awaitable, Callable
from itertools import batched
from typing import Any

from .meter import Cells, Counted, Meter, Socket, cells, site, table
from .servers import Broker

HISTORY = 200
MISSED = 20
ACCEPTED = 50  # in one turn of the loop; a server has more to do than to accept
LANES = 8  # as many senders at a time as a loop has connections


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
            rows.append({"publishing": title, **cells(counted[0], self._messages)})
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
                elif not len(sockets) % ACCEPTED:
                    await asyncio.sleep(0)
            for socket in sockets:
                await socket.wait()
        refused = sum(socket.refused for socket in sockets)
        if (got := sum(socket.got for socket in sockets)) != missed and not refused:
            raise RuntimeError(f"{got} messages were replayed and not {missed}")
        for socket in sockets:
            await socket.end()
        row = cells(counted[0], len(wanted))
        if missed:
            row["replayed"] = f"{got:,}"
        if not one_by_one:
            row["refused"] = f"{refused:,}"
        return row


Workload = Callable[[], Awaitable[list[Cells]]]


async def main(options: argparse.Namespace, broker: Broker) -> None:
    from django_ws_dispatch.asgi import get_asgi_application

    app = get_asgi_application()
    # Who is refused is counted.
    logging.getLogger("django_ws_dispatch").setLevel(logging.CRITICAL)
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
    with site({"kept:*": {"history": HISTORY}}) as valkey:
        asyncio.run(main(parser.parse_args(), valkey))
