"""A database server of its own, on a free port of 127.0.0.1: what all kinds have in common."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .ports import free_port
from .process import Process
from .waiting import DEADLINE

__all__ = ["DatabaseServer"]


class DatabaseServer:
    """Starts, stops, crashes, and starts again on the same port with the same data.

    Everybody on this machine is let in as ``user``, without a password.
    """

    kind: str
    """of the server, to people"""
    engine: str
    """as ``DATABASES`` has it"""
    host = "127.0.0.1"
    user: str
    name: str
    """of the database that is there from the beginning"""
    fast = signal.SIGTERM
    """the signal that ends it in order, with the connections of whoever is connected"""

    def __init__(self, account: Mapping[str, Any] | None = None) -> None:
        self._account = account or {}
        self._folder = Path(tempfile.mkdtemp(prefix=f"{self.kind.lower()}-"))
        self._data = self._folder / "data"
        self.port = free_port()
        if self._account:
            shutil.chown(self._folder, self._account["user"], self._account["group"])
        self._process = self._program(self._command())
        with self._program(self._preparation()) as preparing:
            if preparing.wait():
                raise RuntimeError(f"{self.kind} can not make its data:\n{preparing.log}")

    # For kinds of servers

    def _preparation(self) -> Sequence[str | Path]:
        """What makes the folder of the data."""
        raise NotImplementedError

    def _command(self) -> Sequence[str | Path]:
        """The server and its arguments."""
        raise NotImplementedError

    def _is_ready(self) -> bool:
        raise NotImplementedError

    def connect(self, database: str | None = None) -> Any:
        """Return an autocommit connection that Django knows nothing of, to the first database."""
        raise NotImplementedError

    def ask(
        self, statement: str, *values: object, database: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Return all rows of the answer."""
        raise NotImplementedError

    def sessions(self, database: str) -> int:
        """How many connections to one of its databases there are."""
        raise NotImplementedError

    # For tests

    @property
    def settings(self) -> dict[str, object]:
        """What ``DATABASES`` holds for it."""
        return {
            "ENGINE": self.engine,
            "NAME": self.name,
            "USER": self.user,
            "HOST": self.host,
            "PORT": self.port,
        }

    @contextmanager
    def database(self, name: str) -> Iterator[dict[str, object]]:
        """Have a new database for a while; gives what ``DATABASES`` holds for it."""
        self.ask(f"CREATE DATABASE {name}")
        yield {**self.settings, "NAME": name}
        self._drop(name)

    def _drop(self, name: str) -> None:
        self.ask(f"DROP DATABASE {name}")

    def start(self, timeout: float = DEADLINE) -> None:
        """Start it, and return once it answers."""
        self._process.start()
        deadline = time.monotonic() + timeout
        while not self._is_ready():
            if not self._process.alive or time.monotonic() > deadline:
                raise RuntimeError(f"{self.kind} did not start:\n{self._process.log}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals | None = None) -> None:
        """Stop it, in order or with another signal, and wait for the last of its processes."""
        if self._process.has_started and self._process.alive:
            self._process.send_signal(self.fast if how is None else how)
            self._process.wait()

    def restart(self, how: signal.Signals | None = None) -> None:
        """Stop it and start it again. ``signal.SIGKILL`` is a crash."""
        self.stop(how)
        self.start()

    def remove(self) -> None:
        """Stop it, and drop all that it had."""
        self.stop()
        self._process.kill()
        shutil.rmtree(self._folder)

    def _program(self, command: Sequence[str | Path]) -> Process:
        return Process(command, folder=self._folder, account=self._account)
