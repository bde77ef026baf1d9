"""The handlers of ``test_must_show``, and their routes."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import User

from django_ws_dispatch.decorators import login_required, with_user
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.routing import path
from django_ws_dispatch.typing import Receive, Scope, Send
from django_ws_dispatch.websockets import WebSocket
from tests.kit.waiting import DEADLINE


def note(line: object) -> None:
    """Tell the test, whatever happens to this process next."""
    descriptor = os.open(os.environ["LIVE_NOTES"], os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


@with_user
async def guarded(websocket: WebSocket) -> None:
    note("entered")
    await websocket.send("in")


@with_user
async def raw_guarded(scope: Scope, receive: Receive, send: Send) -> None:
    note("entered")
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "in"})


gate = threading.Event()
answer = asyncio.Event()


def block() -> None:
    note("blocks")
    gate.wait(DEADLINE)


def open_files() -> int:
    """How often this process has the file of its database open: once for each connection."""
    name = str(settings.DATABASES["default"]["NAME"])
    files = [Path("/proc/self/fd", one) for one in os.listdir("/proc/self/fd")]
    return sum(os.path.realpath(one) == name for one in files)


async def worker(websocket: WebSocket) -> None:
    async for message in websocket:
        if message == "orm":
            await websocket.send(str(await User.objects.acount()))
        elif message == "block":
            await sync_to_async(block)()
            await websocket.send("woken")
        elif message == "query and wait":
            await websocket.send(str(await User.objects.acount()))
            await answer.wait()  # of another service
        elif message == "release":
            gate.set()
            answer.set()
        elif message == "threads":
            await websocket.send(str(threading.active_count()))
        elif message == "files":
            await websocket.send(str(open_files()))
        else:
            await websocket.send(message)


@login_required
async def private(websocket: WebSocket) -> None:
    await websocket.send("in")
    async for _ in websocket:
        pass


async def count(websocket: WebSocket) -> None:
    """Say how many other sockets there are."""
    await websocket.send(str(connections.count() - 1))


urlpatterns = [
    path("guarded/", guarded),
    path("raw-guarded/", raw_guarded),
    path("worker/", worker),
    path("private/", private),
    path("count/", count),
]
