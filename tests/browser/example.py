"""The example site as processes: servers that share a database and a broker, and its commands."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.kit.ports import free_port
from tests.kit.process import ROOT, Process

READY = "Uvicorn running"
# Seconds for a command: generous, for a busy machine.
START = 30.0
# What Django says of static files below a server that is not runserver.
WARNINGS = ["-W", "error", "-W", "ignore:StreamingHttpResponse must consume"]


class Site:
    """The example's database and broker.

    Args:
        folder: where the database goes.
        broker: the URL of the broker.
    """

    def __init__(self, folder: Path, broker: str) -> None:
        self._database = folder / "example.sqlite3"
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "example_site.settings",
            "EXAMPLE_DATABASE": str(self._database),
            "REDIS_URL": broker,
        }

    def manage(self, *arguments: str) -> None:
        """Run a management command in a process of its own."""
        subprocess.run(
            [sys.executable, *WARNINGS, "example_site/manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            check=True,
            timeout=START,
            stdout=subprocess.DEVNULL,
        )

    def add_room(self, slug: str, title: str, *said: tuple[str, str]) -> str:
        """Make a room that no other test talks in, and return its path.

        Args:
            slug: the room's part of the path.
            title: the room's name.
            said: who has said what.
        """
        self._insert("INSERT INTO playground_room (slug, title) VALUES (?, ?)", [(slug, title)])
        self.write(slug, *said)
        return f"/rooms/{slug}/"

    def write(self, slug: str, *said: tuple[str, str]) -> None:
        """Write into the database who has said what in a room, and tell no page."""
        self._insert(
            "INSERT INTO playground_message (room_id, author_id, text, written_at) "
            "SELECT room.id, author.id, ?, datetime('now') "
            "FROM playground_room room, auth_user author "
            "WHERE room.slug = ? AND author.username = ?",
            [(text, slug, author) for author, text in said],
        )

    def _insert(self, statement: str, rows: list[tuple[str, ...]]) -> None:
        connection = sqlite3.connect(self._database, timeout=START)
        try:
            with connection:
                connection.executemany(statement, rows)
        finally:
            connection.close()


class Server(Process):
    """A uvicorn process with a site. It can be stopped and started again in its place.

    Args:
        environment: all of its variables.
        application: what it serves.
    """

    def __init__(
        self, environment: Mapping[str, str], application: str = "example_site.asgi:application"
    ) -> None:
        super().__init__(environment=environment)
        self._application = application
        self._port = free_port()
        self.host = f"127.0.0.1:{self._port}"
        self.url = f"http://{self.host}"

    def command(self) -> list[str]:
        program = [sys.executable, *WARNINGS, "-m", "uvicorn", self._application]
        program += ["--ws", "django_ws_dispatch.uvicorn:WebSocketProtocol"]
        return [*program, "--port", str(self._port), "--no-access-log"]

    def start(self) -> None:
        """Start it, without waiting."""
        self._begins = self.log.count(READY) + 1
        super().start()

    def wait_until_ready(self) -> None:
        self.wait_for_log(READY, self._begins)
