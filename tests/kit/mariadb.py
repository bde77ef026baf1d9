"""A MariaDB server of its own, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from .database import DatabaseServer

__all__ = ["MariaDBServer", "find_programs"]


class MariaDBServer(DatabaseServer):
    """See ``DatabaseServer``. It runs as whoever runs the tests."""

    kind = "MariaDB"
    engine = "django.db.backends.mysql"
    user = "root"
    name = "mysql"

    def __init__(self, programs: tuple[Path, Path]) -> None:
        self._server, self._installer = programs
        super().__init__()

    @property
    def settings(self) -> dict[str, object]:
        return {**super().settings, "OPTIONS": {"charset": "utf8mb4"}}

    def _preparation(self) -> Sequence[str | Path]:
        return [
            self._installer,
            "--no-defaults",
            f"--datadir={self._data}",
            f"--user={_account()}",
            "--auth-root-authentication-method=normal",
            "--skip-name-resolve",
            "--skip-test-db",
        ]

    def _command(self) -> Sequence[str | Path]:
        return [
            self._server,
            "--no-defaults",
            f"--datadir={self._data}",
            f"--user={_account()}",
            f"--bind-address={self.host}",
            f"--port={self.port}",
            f"--socket={self._folder / 'socket'}",
            f"--pid-file={self._folder / 'pid'}",
            "--character-set-server=utf8mb4",
            "--skip-name-resolve",
            "--performance-schema=off",
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=16M",
            # Without waiting for the disk: what was committed outlives the server's crash all the
            # same, and that of the machine is not tested.
            "--innodb-flush-log-at-trx-commit=2",
        ]

    def _is_ready(self) -> bool:
        import MySQLdb

        try:
            self.connect().close()
        except MySQLdb.OperationalError:
            return False
        return True

    def connect(self, database: str | None = None) -> Any:
        import MySQLdb

        return MySQLdb.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            db=database or self.name,
            autocommit=True,
        )

    def ask(
        self, statement: str, *values: object, database: str | None = None
    ) -> list[tuple[Any, ...]]:
        with closing(self.connect(database)) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(statement, values or None)
            return [*cursor.fetchall()] if cursor.description else []

    def sessions(self, database: str) -> int:
        asking = "SELECT count(*) FROM information_schema.processlist WHERE db = %s"
        ((count,),) = self.ask(asking, database)
        return int(count)


def _account() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def find_programs() -> tuple[Path, Path] | None:
    """Return the server and what makes its data, if there are both."""
    # Debian has the server where only root looks for programs.
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    server, installer = (
        shutil.which(name, path=path) for name in ("mariadbd", "mariadb-install-db")
    )
    return (Path(server), Path(installer)) if server and installer else None
