"""The example site as processes: servers that share a database and a broker, and its commands."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

from tests.kit.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
# Seconds for a process to start, and to end: generous, for a busy machine.
START = 30.0
END = 15.0
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
            # A server killed by the end of a test run must not have kept lines to itself.
            "PYTHONUNBUFFERED": "1",
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
        connection = sqlite3.connect(self._database, timeout=START)
        try:
            with connection:
                row = (slug, title)
                connection.execute("INSERT INTO playground_room (slug, title) VALUES (?, ?)", row)
                connection.executemany(
                    "INSERT INTO playground_message (room_id, author_id, text, written_at) "
                    "SELECT room.id, author.id, ?, datetime('now') "
                    "FROM playground_room room, auth_user author "
                    "WHERE room.slug = ? AND author.username = ?",
                    [(text, slug, author) for author, text in said],
                )
        finally:
            connection.close()
        return f"/rooms/{slug}/"


class Server:
    """A uvicorn process with the example site. It can be stopped and started again in its place."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.host = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.host}"
        self.lines: list[str] = []
        self._started = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def launch(self) -> None:
        """Start the process, without waiting for it."""
        options = ["--port", self.host.rpartition(":")[2], "--no-access-log"]
        self._started.clear()
        self._process = subprocess.Popen(
            [sys.executable, *WARNINGS, "-m", "uvicorn", "example_site.asgi:application", *options],
            cwd=ROOT,
            env=self._site.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,))
        self._reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        with process.stdout or open(os.devnull) as output:
            for line in output:
                self.lines.append(line)
                if "Uvicorn running" in line:
                    self._started.set()
        self._started.set()

    def wait_started(self) -> None:
        if not self._started.wait(START) or self._process is None or self._process.poll():
            raise RuntimeError("the server did not start:\n" + "".join(self.lines))

    def start(self) -> None:
        self.launch()
        self.wait_started()

    def stop(self) -> None:
        """End it as a deploy does, and return once it is gone."""
        if self._process is None or self._reader is None:
            return
        self._process.terminate()
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._reader.join()
            self._process = None
