"""A program as a process of its own, whose output is read while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from .waiting import DEADLINE

__all__ = ["ROOT", "Process"]

ROOT = Path(__file__).resolve().parents[2]
"""of the repository"""


class Process:
    """What it writes is kept in ``lines``. It can be started again when it has ended.

    As a context manager it starts, and at the end it is asked to stop, and killed if it does not.
    Its children are ended with it: it has a process group of its own, as in a terminal.

    Args:
        command: the program and its arguments.
        folder: where it runs.
        environment: all of its variables.
        account: as whom it runs, as ``subprocess.Popen`` has it: ``user``, ``group``, ...
    """

    def __init__(
        self,
        command: Sequence[str | Path] = (),
        *,
        folder: Path = ROOT,
        environment: Mapping[str, str] | None = None,
        account: Mapping[str, Any] | None = None,
    ) -> None:
        self.lines: list[str] = []
        self._words = command
        self._folder = folder
        self._account = account or {}
        self._environment = {**(os.environ if environment is None else environment)}
        # What a process that is killed has written must not be lost.
        self._environment["PYTHONUNBUFFERED"] = "1"
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._reading = False

    # For kinds of processes

    def command(self) -> Sequence[str | Path]:
        """The program and its arguments."""
        return self._words

    def read(self, line: str) -> None:
        """Called with each line, before anybody who waits for it goes on."""

    # For tests

    @property
    def log(self) -> str:
        """All that it has written."""
        with self._changed:
            return "\n".join(self.lines)

    @property
    def has_started(self) -> bool:
        """Whether it was started, and may have ended since."""
        return self._process is not None

    @property
    def pid(self) -> int:
        return self.running.pid

    @property
    def alive(self) -> bool:
        """Whether the process that was started is still there."""
        return self.running.poll() is None

    @property
    def running(self) -> subprocess.Popen[str]:
        """The process that was started last."""
        if self._process is None:
            raise RuntimeError("the process was not started")
        return self._process

    def __enter__(self) -> Process:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            self.kill()

    def start(self) -> None:
        """Start it without waiting."""
        self._process = subprocess.Popen(
            self.command(),
            cwd=self._folder,
            env=self._environment,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **self._account,
        )
        self._reading = True
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def wait_for_log(self, part: str, count: int = 1, deadline: float = DEADLINE) -> None:
        """Wait until so many lines of the log contain ``part``.

        Raises:
            TimeoutError: they do not come, or the process has ended without them.
        """

        def came() -> bool:
            return sum(part in line for line in self.lines) >= count

        with self._changed:
            self._changed.wait_for(lambda: came() or not self._reading, deadline)
            if not came():
                log = "\n".join(self.lines)
                raise TimeoutError(f"{part!r} did not come {count} times\n{log}")

    def send_signal(self, number: int) -> None:
        """Send it a signal, and its children none."""
        self.running.send_signal(number)

    def terminate(self) -> None:
        """Ask it to stop, as a process manager does."""
        self.send_signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.send_signal(signal.SIGINT)

    def stop(self, deadline: float = DEADLINE) -> int:
        """Ask it to stop and wait. Return its exit status."""
        if self.alive:
            self.terminate()
        return self.wait(deadline)

    def wait(self, deadline: float = DEADLINE) -> int:
        """Wait until it has ended, and for the last of its output. Return its exit status.

        Raises:
            TimeoutError: it does not end, or a child outlives it.
        """
        try:
            status = self.running.wait(deadline)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the process does not stop\n{self.log}") from None
        if self._reader is not None:
            self._reader.join(deadline)
        if self._reading:
            raise TimeoutError(f"a child outlives the process\n{self.log}")
        return status

    def kill(self) -> None:
        """End it as a crash would, with its children."""
        if self._process is None or self._reader is None:
            return
        # The number of a group that is gone may be another's by now.
        if self.alive or self._reader.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(DEADLINE)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self.read(line)
                self._changed.notify_all()
        if process.stdout is not None:  # it may be started again, with another
            process.stdout.close()
        with self._changed:
            self._reading = False
            self._changed.notify_all()
