"""A PostgreSQL server of its own, on a free port of 127.0.0.1. Use it with::

from .postgres import postgres  # noqa: F401 - a fixture
"""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

__all__ = ["PostgresServer", "find_binaries", "postgres"]


class PostgresServer:
    """Starts, stops and starts again on the same port with the same data.

    The server refuses to run as root; then it runs as ``postgres`` or ``nobody``.
    """

    host = "127.0.0.1"
    user = "postgres"
    name = "postgres"

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._account = _unprivileged_account() if os.geteuid() == 0 else {}
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._data = self._folder / "data"
        self._log = self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        if self._account:
            shutil.chown(self._folder, self._account["user"], self._account["group"])
        with self._log.open("wb") as log:
            subprocess.run(
                [
                    binaries / "initdb",
                    f"--pgdata={self._data}",
                    f"--username={self.user}",
                    "--auth=trust",
                    "--encoding=UTF8",
                    "--no-locale",
                    "--no-sync",
                ],
                check=True,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                **self._account,
            )

    @property
    def settings(self) -> dict[str, object]:
        """What ``DATABASES`` holds for it."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": self.name,
            "USER": self.user,
            "HOST": self.host,
            "PORT": self.port,
        }

    def connect(self):
        """Return an autocommit connection that Django knows nothing of."""
        import psycopg

        return psycopg.connect(
            host=self.host, port=self.port, user=self.user, dbname=self.name, autocommit=True
        )

    def start(self, timeout: float = 30) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._binaries / "postgres",
                    *("-D", self._data, "-p", str(self.port), "-h", self.host),
                    *("-k", self._folder, "-F", "-N", "50"),
                ],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                **self._account,
            )
        deadline = time.monotonic() + timeout
        ready = [self._binaries / "pg_isready", "-q", "-h", self.host, "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it, with the connections of whoever is connected ("fast"; SIGQUIT: "immediate")."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)


def _unprivileged_account() -> dict[str, object]:
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL does not run as root, and there is no user postgres or nobody.")


def _free_port() -> int:
    # Below the range from which the system takes the ports of clients.
    for port in random.sample(range(20000, 32000), 50):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise RuntimeError("No free port between 20000 and 32000.")


def find_binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL that is whole, if there is one."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/postgres"), shutil.which("postgres")]
    folders = [Path(one).resolve().parent for one in found if one]
    whole = [one for one in folders if (one / "initdb").exists() and (one / "pg_isready").exists()]
    return whole[-1] if whole else None


@pytest.fixture(scope="session")
def postgres():
    """A running server. Without PostgreSQL the test is skipped, but where CI is set it fails."""
    missing = None
    try:
        import psycopg  # noqa: F401
    except ImportError:
        missing = "psycopg is not installed"
    folder = find_binaries()
    if folder is None:
        missing = "PostgreSQL (postgres, initdb, pg_isready) is not installed"
    if missing or folder is None:
        if os.environ.get("CI"):
            pytest.fail(f"{missing}, and CI is set.")
        pytest.skip(f"{missing}.")
    server = PostgresServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.remove()
