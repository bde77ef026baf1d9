"""A server of any kind as a process of its own, on a free port of 127.0.0.1."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.kit.ports import free_port
from tests.kit.server import DEADLINE, ROOT, TROUBLE, Server

__all__ = ["DEADLINE", "Process"]

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
        "hypercorn": f"{application} --bind 127.0.0.1:{port}",
        "daphne": f"-b 127.0.0.1 -p {port} --access-log /dev/null {application}",
        "granian": f"{application} --interface asgi --host 127.0.0.1 --port {port}",
    }[name]
    if root_path:
        flag = "--url-path-prefix" if name == "granian" else "--root-path"
        arguments = f"{flag} {root_path} {arguments}"
    return [sys.executable, "-m", name, *arguments.split()]


class Process(Server):
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
        super().__init__(settings="tests.servers.settings", environment=environment)
        self.name = name
        self._application = application
        self._root_path = root_path

    def __enter__(self) -> Process:
        self.start()
        ends = time.monotonic() + DEADLINE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if time.monotonic() > ends or self._running().poll() is not None:
                    self.kill()
                    raise TimeoutError(f"{self.name} does not start\n{self.log}") from None
                time.sleep(0.02)
            else:
                return self

    def start(self) -> None:
        """Start it without waiting."""
        self._folder = tempfile.TemporaryDirectory(prefix="servers-")
        self._notes_file().touch()
        self._environment["LIVE_NOTES"] = str(self._notes_file())
        self.port = free_port()
        self._process = subprocess.Popen(
            command(self.name, self.port, self._application, self._root_path),
            cwd=ROOT,
            env=self._environment,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """End it, and the workers that it has started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        super().kill()

    def check(self) -> None:
        """Assert that nothing went wrong since the last check but what is meant to."""
        with self._changed:
            first, lines, self._checked = self._checked, list(self.lines), len(self.lines)
        for number, line in enumerate(lines[first:], first):
            before = lines[number - 1] if number else ""
            assert (
                not TROUBLE.search(line)
                or MEANT.search(line)
                or (line.startswith("Traceback") and MEANT.search(before))
                or any(part in line for part in self.expected)
            ), "\n".join(lines[first:])

    @asynccontextmanager
    async def connect(self, path: str, **options: Any) -> AsyncIterator[ClientConnection]:
        """Connect with a client of the websockets library; a test that waits for it ends."""
        async with (
            asyncio.timeout(DEADLINE),
            connect(self.url + path, max_size=None, **options) as socket,
        ):
            yield socket

    @property
    def alive(self) -> bool:
        """Whether the process that was started is still there."""
        return self._running().poll() is None
