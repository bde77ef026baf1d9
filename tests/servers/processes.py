"""A server of any kind as a process of its own, on a free port of 127.0.0.1."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.kit.ports import free_port
from tests.kit.server import DEADLINE, OURS, Server
from tests.kit.waiting import wait_until

from .expectations import SERVERS

__all__ = ["DEADLINE", "AnyServer"]

APPLICATION = "tests.asgi:application"
# What handlers log that fail on purpose, and uvicorn about a client; and the line after it.
MEANT = re.compile(
    r"The handler of /(raw-)?(ends|closes|late|foreign)/\S* failed|The start-up failed|"
    r"The broker failed in the handshake of /(raw-)?ends/|"
    r"The server's send\(\) failed for /says-to-all/|"
    r"Invalid UTF-8 sequence received from client"
)


def command(name: str, port: int, application: str, root_path: str = "") -> list[str]:
    """Return the command line of a server, with its defaults but for what it logs."""
    arguments = {
        "uvicorn": f"{application} --host 127.0.0.1 --port {port} --no-access-log",
        "own": f"{application} --host 127.0.0.1 --port {port} --no-access-log --ws {OURS}",
        "hypercorn": f"{application} --bind 127.0.0.1:{port}",
        "daphne": f"-b 127.0.0.1 -p {port} --access-log /dev/null {application}",
        "granian": f"{application} --interface asgi --host 127.0.0.1 --port {port}",
    }[name]
    if root_path:
        flag = "--url-path-prefix" if name == "granian" else "--root-path"
        arguments = f"{flag} {root_path} {arguments}"
    return [sys.executable, "-m", SERVERS[name].package or name, *arguments.split()]


class AnyServer(Server):
    """A site on the named server, with the handlers of ``tests.servers.sockets``.

    Args:
        name: of the server.
        application: what it serves.
        root_path: under which it serves it.
        settings: Django's.
    """

    def __init__(
        self, name: str, *, application: str = APPLICATION, root_path: str = "", **settings: Any
    ) -> None:
        settings.setdefault("WEBSOCKET_HANDLERS", "tests.servers.sockets")
        environment = {key: json.dumps(value) for key, value in settings.items()}
        super().__init__(
            application=application, settings="tests.servers.settings", environment=environment
        )
        self.name = name
        self.root_path = root_path

    def __enter__(self) -> AnyServer:
        super().__enter__()
        return self

    def command(self) -> list[str]:
        return command(self.name, self.port, self.application, self.root_path)

    def start(self) -> None:
        self.port = free_port()
        super().start()

    def wait_until_ready(self) -> None:
        def answers() -> bool:
            with socket.socket() as attempt:
                return not attempt.connect_ex(("127.0.0.1", self.port))

        wait_until(lambda: answers() or not self.alive)
        if not self.alive:
            raise RuntimeError(f"{self.name} does not start\n{self.log}")

    def is_meant(self, line: str, before: str) -> bool:
        return bool(
            MEANT.search(line)
            or (line.startswith("Traceback") and MEANT.search(before))
            or super().is_meant(line, before)
        )

    @asynccontextmanager
    async def connect(self, path: str, **options: Any) -> AsyncIterator[ClientConnection]:
        """Connect with a client of the websockets library; a test that waits for it ends."""
        async with (
            asyncio.timeout(DEADLINE),
            connect(self.url + path, max_size=None, **options) as socket,
        ):
            yield socket
