"""The site of these tests on a real uvicorn, and a browser that is logged in to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from tests.kit.server import ROOT, Server
from tests.kit.waiting import DEADLINE

__all__ = ["closed", "connect", "denied", "login", "logout", "run", "serve"]

PREPARE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
User.objects.create_user("ann")
"""


@contextlib.contextmanager
def serve(folder: Path, handlers: str, *arguments: str) -> Iterator[Server]:
    """Run the site with the routes of a module, and a user ``ann``."""
    settings = "tests.mounts.settings"
    environment = {
        "MOUNTS_DATABASE": str(folder / "db.sqlite3"),
        "MOUNTS_HANDLERS": handlers,
        "DJANGO_SETTINGS_MODULE": settings,
        # Other people's warnings are theirs.
        "PYTHONDEVMODE": "",
        "PYTHONWARNINGS": "default",
    }
    subprocess.run(
        [sys.executable, "-c", PREPARE], cwd=ROOT, env={**os.environ, **environment}, check=True
    )
    with Server(*arguments, settings=settings, environment=environment) as server:
        yield server


def login(server: Server, name: str = "ann") -> dict[str, str]:
    """Log in over HTTP and return the header with the cookie."""
    with urllib.request.urlopen(f"{server.http_url}/login/{name}/") as response:
        cookie = response.headers["Set-Cookie"].partition(";")[0]
    return {"Cookie": cookie}


def logout(server: Server, headers: dict[str, str]) -> None:
    request = urllib.request.Request(f"{server.http_url}/logout/", headers=headers)
    with urllib.request.urlopen(request) as response:
        response.read()


def connect(server: Server, path: str, **options: Any) -> Any:
    """Connect as a browser does: with an Origin."""
    options.setdefault("origin", server.http_url)
    return websockets.connect(server.url + path, proxy=None, **options)


async def denied(server: Server, path: str, **options: Any) -> websockets.Response:
    """Return the response of a handshake that is denied."""
    try:
        async with connect(server, path, **options):
            raise AssertionError(f"{path} was accepted")
    except websockets.InvalidStatus as exc:
        return exc.response


async def closed(socket: ClientConnection) -> tuple[int | None, str | None]:
    """Wait for the end and return its code and reason."""
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            await socket.recv()
    return socket.close_code, socket.close_reason


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE):
            await scenario()

    asyncio.run(bounded())
