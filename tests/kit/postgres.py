"""A PostgreSQL server of its own, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .database import DatabaseServer

__all__ = ["PostgresServer", "find_binaries"]


class PostgresServer(DatabaseServer):
    """See ``DatabaseServer``. ``stop(signal.SIGQUIT)`` is its "immediate" shutdown.

    The server refuses to run as root; then it runs as ``postgres`` or ``nobody``.
    """

    kind = "PostgreSQL"
    engine = "django.db.backends.postgresql"
    user = "postgres"
    name = "postgres"
    fast = signal.SIGINT

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        super().__init__(_unprivileged_account() if os.geteuid() == 0 else None)

    def _preparation(self) -> Sequence[str | Path]:
        return [
            self._binaries / "initdb",
            f"--pgdata={self._data}",
            f"--username={self.user}",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ]

    def _command(self) -> Sequence[str | Path]:
        return [
            self._binaries / "postgres",
            *("-D", self._data, "-p", str(self.port), "-h", self.host),
            # Without waiting for the disk; it can say in which order transactions were committed.
            *("-k", self._folder, "-F", "-N", "100", "-c", "track_commit_timestamp=on"),
        ]

    def _is_ready(self) -> bool:
        ready = [self._binaries / "pg_isready", "-q", "-h", self.host, "-p", str(self.port)]
        return not subprocess.run(ready, check=False).returncode

    def connect(self, database: str | None = None) -> Any:
        import psycopg

        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            dbname=database or self.name,
            autocommit=True,
        )

    def ask(
        self, statement: str, *values: object, database: str | None = None
    ) -> list[tuple[Any, ...]]:
        with self.connect(database) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def sessions(self, database: str) -> int:
        asking = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        ((count,),) = self.ask(asking, database)
        return int(count)

    def _drop(self, name: str) -> None:
        self.ask(f"DROP DATABASE {name} WITH (FORCE)")


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
