"""uvicorn as a process of its own, on a free port of 127.0.0.1, for the live tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

__all__ = ["DEADLINE", "Server"]

DEADLINE = 20.0
ROOT = Path(__file__).resolve().parents[2]

# What no test wants to see in a server's log, unless it says so.
TROUBLE = re.compile(
    r"\b(ERROR|CRITICAL)\b|Traceback \(most recent call last\)|Task was destroyed|"
    r"never retrieved|was never awaited|ResourceWarning|Exception in callback|Exception ignored"
)


class Server:
    """A site on uvicorn. What its handlers ``note()`` and every line of its log are kept.

    Args:
        arguments: further arguments for uvicorn.
        application: what it serves.
        settings: the settings module.
        environment: more environment variables. ``tests.live.settings`` takes every
            ``WEBSOCKET_...`` setting from there, as JSON.

    As a context manager it starts, and at the end it stops and ``check()`` is called.
    """

    READY = "Uvicorn running on"
    """part of the first line that says where it listens"""

    def __init__(
        self,
        *arguments: str,
        application: str = "tests.asgi:application",
        settings: str = "tests.live.settings",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.lines: list[str] = []
        self.expected: list[str] = []
        """parts of the troublesome lines that are meant to be in the log"""
        self.port = 0
        self._arguments = arguments
        self._application = application
        self._environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": settings,
            **(environment or {}),
        }
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._checked = 0

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def log(self) -> str:
        """All that the server has written."""
        with self._changed:
            return "\n".join(self.lines)

    @property
    def notes(self) -> list[str]:
        """What the handlers have noted, in order."""
        return self._notes_file().read_text().splitlines()

    def __enter__(self) -> Server:
        self.start()
        self.wait_for_log(self.READY)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._running().poll() is None:
                self.stop()
        finally:
            self.kill()
        if kind is None:
            self.check()

    def start(self) -> None:
        """Start it without waiting."""
        self._folder = tempfile.TemporaryDirectory(prefix="live-")
        self._notes_file().touch()
        self._environment["LIVE_NOTES"] = str(self._notes_file())
        self._process = subprocess.Popen(
            self._command(),
            cwd=ROOT,
            env=self._environment,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def wait_for_log(self, part: str, count: int = 1, deadline: float = DEADLINE) -> None:
        """Wait until so many lines of the log contain ``part``."""
        self._wait(lambda: sum(part in line for line in self.lines) >= count, part, deadline)

    def wait_for_notes(self, note: str, count: int = 1, deadline: float = DEADLINE) -> None:
        """Wait until handlers have noted exactly ``note`` so many times."""
        ends = time.monotonic() + deadline
        while self.notes.count(note) < count:
            if time.monotonic() > ends:
                raise TimeoutError(f"no {count} x {note!r} in {self.notes}\n{self.log}")
            time.sleep(0.01)

    def terminate(self) -> None:
        """Ask it to stop, as a process manager does."""
        self._running().send_signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._running().send_signal(signal.SIGINT)

    def stop(self, deadline: float = DEADLINE) -> int:
        """Ask it to stop and wait. Return its exit status."""
        if self._running().poll() is None:
            self.terminate()
        return self.wait(deadline)

    def wait(self, deadline: float = DEADLINE) -> int:
        """Wait until it has ended. Return its exit status."""
        try:
            status = self._running().wait(deadline)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the server does not stop\n{self.log}") from None
        if self._reader is not None:
            self._reader.join(DEADLINE)
        return status

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._reader is not None:
                self._reader.join(DEADLINE)
            if self._process.stdout is not None:
                self._process.stdout.close()
        if self._folder is not None:
            self._folder.cleanup()

    def check(self) -> None:
        """Assert that nothing went wrong since the last check, but for what is ``expected``."""
        with self._changed:
            lines, self._checked = self.lines[self._checked :], len(self.lines)
        trouble = [
            line
            for line in lines
            if TROUBLE.search(line) and not any(part in line for part in self.expected)
        ]
        self.expected.clear()
        assert not trouble, "\n".join(lines)

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "uvicorn", self._application]
        return [*command, "--host", "127.0.0.1", "--port", "0", "--no-access-log", *self._arguments]

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process

    def _notes_file(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the server was not started")
        return Path(self._folder.name) / "notes"

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                if match := re.search(rf"{self.READY} http://127\.0\.0\.1:(\d+)", line):
                    self.port = int(match[1])
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool], what: str, deadline: float) -> None:
        ends = time.monotonic() + deadline
        with self._changed:
            while not condition():
                left = ends - time.monotonic()
                if left <= 0 or self._running().poll() is not None:
                    log = "\n".join(self.lines)
                    raise TimeoutError(f"{what!r} did not come\n{log}")
                self._changed.wait(min(left, 0.2))
