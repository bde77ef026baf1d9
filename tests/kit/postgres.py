"""A PostgreSQL server of its own, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.kit.waiting import DEADLINE

from .ports import free_port

__all__ = ["PostgresServer", "find_binaries"]


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
        self.port = free_port()
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

    def start(self, timeout: float = DEADLINE) -> None:
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
            self._process.wait(DEADLINE)
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


def find_binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL that is whole, if there is one."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/postgres"), shutil.which("postgres")]
    folders = [Path(one).resolve().parent for one in found if one]
    whole = [one for one in folders if (one / "initdb").exists() and (one / "pg_isready").exists()]
    return whole[-1] if whole else None
