"""Makes the two sites, and serves them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.kit.postgres import PostgresServer
from tests.kit.server import ROOT, Server
from tests.kit.valkey import Valkey

from .visits import Tenant

__all__ = ["QUICKLY", "Site", "Sites"]

# Of the environment: what is no test of this, and takes longer.
QUICKLY = {"PYTHONDEVMODE": ""}


class Site(NamedTuple):
    server: Server
    red: Tenant
    blue: Tenant


class Sites:
    """Makes sites, each on a database of its own, which is a copy of one that is made once."""

    def __init__(self, server: PostgresServer, broker: Valkey) -> None:
        self._server = server
        self._broker = broker
        self._made: set[str] = set()
        with server.connect() as connection:
            connection.execute("CREATE ROLE site LOGIN")

    def environment(self, kind: str, name: str, **more: Any) -> dict[str, str]:
        # A superuser, and the owner of a table, see all rows.
        user = "site" if kind == "policies" and name == "a_site" else self._server.user
        database = {**self._server.settings, "NAME": name, "USER": user, **more}
        return {
            "DJANGO_SETTINGS_MODULE": f"tests.live.tenants.{kind}_settings",
            "LIVE_DATABASE": json.dumps(database),
            "LIVE_BROKER": self._broker.url,
        }

    @contextmanager
    def serve(
        self, kind: str, *, database: dict[str, Any] | None = None, **environment: str
    ) -> Iterator[Site]:
        """Serve a new site.

        Args:
            kind: ``"schemas"`` or ``"policies"``.
            database: more of what ``DATABASES`` has for it.
            environment: more variables.
        """
        template = f"{kind}_shared" if "LIVE_SHARED_USERS" in environment else kind
        self._make(kind, template, environment)
        with self._server.connect() as connection:
            connection.execute("DROP DATABASE IF EXISTS a_site WITH (FORCE)")
            connection.execute(f"CREATE DATABASE a_site TEMPLATE {template}")
        environment = {**self.environment(kind, "a_site", **(database or {})), **environment}
        settings = environment["DJANGO_SETTINGS_MODULE"]
        with Server(settings=settings, environment=environment) as server:
            yield Site(server, *(Tenant(name, server, environment) for name in ("red", "blue")))

    def _make(self, kind: str, template: str, environment: dict[str, str]) -> None:
        if template not in self._made:
            with self._server.connect() as connection:
                connection.execute(f"CREATE DATABASE {template}")
            subprocess.run(
                [sys.executable, "-m", "tests.live.tenants.prepare"],
                cwd=ROOT,
                env={**os.environ, **self.environment(kind, template), **environment},
                check=True,
            )
            self._made.add(template)
