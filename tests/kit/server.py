"""uvicorn as a process of its own, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from .process import ROOT, Process
from .waiting import DEADLINE, wait_until

__all__ = ["DEADLINE", "OURS", "ROOT", "TROUBLE", "Server"]

# The WebSocket class of this package, as uvicorn's option --ws has it.
OURS = "django_ws_dispatch.uvicorn:WebSocketProtocol"

# What no test wants to see in a server's log, unless it says so.
TROUBLE = re.compile(
    r"\b(ERROR|CRITICAL)\b|Traceback \(most recent call last\)|Task was destroyed|"
    r"never retrieved|was never awaited|ResourceWarning|Exception in callback|Exception ignored"
)


class Server(Process):
    """A site on uvicorn. What its handlers ``note()`` and every line of its log are kept.

    Args:
        arguments: further arguments for uvicorn.
        application: what it serves.
        settings: the settings module.
        environment: more environment variables. ``tests.live.settings`` takes every
            ``WEBSOCKET_...`` setting from there, as JSON.

    As a context manager it starts and is ready, and at the end it stops and ``check()`` is called.
    """

    READY = "Uvicorn running on"
    """part of the first line that says where it listens"""
    WS = "auto"
    """the WebSocket class, as uvicorn's option has it"""

    def __init__(
        self,
        *arguments: str,
        application: str = "tests.asgi:application",
        settings: str = "tests.live.settings",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            environment={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": settings,
                **(environment or {}),
            }
        )
        self.expected: list[str] = []
        """parts of the troublesome lines that are meant to be in the log"""
        self.port = 0
        self.application = application
        self.arguments = arguments
        self._folder_of_notes: tempfile.TemporaryDirectory[str] | None = None
        self._checked = 0

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def notes(self) -> list[str]:
        """What the handlers have noted, in order."""
        return self._notes_file().read_text().splitlines()

    def command(self) -> Sequence[str]:
        command = [sys.executable, "-m", "uvicorn", self.application, "--ws", self.WS]
        return [*command, "--host", "127.0.0.1", "--port", "0", "--no-access-log", *self.arguments]

    def read(self, line: str) -> None:
        if match := re.search(rf"{self.READY} http://127\.0\.0\.1:(\d+)", line):
            self.port = int(match[1])

    def __enter__(self) -> Server:
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, value, traceback)
        if kind is None:
            self.check()

    def start(self) -> None:
        self._folder_of_notes = tempfile.TemporaryDirectory(prefix="server-")
        self._notes_file().touch()
        self._environment["LIVE_NOTES"] = str(self._notes_file())
        super().start()

    def wait_until_ready(self) -> None:
        """Return once it listens."""
        self.wait_for_log(self.READY)

    def wait_for_notes(self, note: str, count: int = 1, deadline: float = DEADLINE) -> None:
        """Wait until handlers have noted exactly ``note`` so many times."""
        try:
            wait_until(lambda: self.notes.count(note) >= count, deadline)
        except TimeoutError:
            raise TimeoutError(f"no {count} x {note!r} in {self.notes}\n{self.log}") from None

    def kill(self) -> None:
        super().kill()
        if self._folder_of_notes is not None:
            self._folder_of_notes.cleanup()

    def is_meant(self, line: str, before: str) -> bool:
        """Whether a troublesome line, and the one before it, are no trouble."""
        return any(part in line for part in self.expected)

    def check(self) -> None:
        """Assert that nothing went wrong since the last check, but for what is ``expected``."""
        with self._changed:
            first, lines, self._checked = self._checked, [*self.lines], len(self.lines)
        befores = ["", *lines]
        trouble = [
            line
            for line, before in list(zip(lines, befores, strict=False))[first:]
            if TROUBLE.search(line) and not self.is_meant(line, before)
        ]
        self.expected.clear()
        assert not trouble, "\n".join(lines[first:])

    def _notes_file(self) -> Path:
        if self._folder_of_notes is None:
            raise RuntimeError("the server was not started")
        return Path(self._folder_of_notes.name) / "notes"
