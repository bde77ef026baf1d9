"""gunicorn with uvicorn's worker, as in ``docs/howto/gunicorn.md``."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from websockets import ConnectionClosed, InvalidMessage, InvalidStatus

from tests.docs.pages import DOCS, blocks
from tests.kit.server import Server

from .site import closed, connect, denied, run

pytestmark = pytest.mark.live

WORKERS = 2


class Gunicorn(Server):
    READY = "Listening at:"

    def command(self) -> list[str]:
        command = [sys.executable, "-W", "error", "-m", "gunicorn", self.application]
        return [*command, "--bind", "127.0.0.1:0", "--workers", str(WORKERS), *self.arguments]


def workers_of_the_page() -> str:
    (text,) = [
        block.text
        for block in blocks(DOCS / "howto" / "gunicorn.md")
        if block.file == "mysite/workers.py"
    ]
    return text


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    (tmp_path / "its_workers.py").write_text(workers_of_the_page())
    arguments = ["-k", "its_workers.SiteWorker", "--pythonpath", str(tmp_path)]
    with Gunicorn(*arguments, "--no-control-socket") as server:
        server.wait_for_log("Application startup complete", WORKERS)
        yield server


def test_a_stop_tells_the_client_and_runs_handlers_to_their_end(server: Server) -> None:
    async def scenario() -> None:
        async with connect(server, "/ws/echo/") as echo, connect(server, "/ws/sleeper/") as sleeper:
            await echo.send("hello")
            assert await echo.recv() == "hello"
            server.wait_for_notes("sleeps")
            server.terminate()
            assert (await closed(echo))[0] == (await closed(sleeper))[0] == 1012

    run(scenario)
    assert server.wait() == 0
    assert sorted(server.notes) == ["echo 1012", "sleeps", "woken"]


def test_a_reload_tells_the_client_and_there_is_somebody_to_connect_to(server: Server) -> None:
    async def scenario() -> None:
        async with connect(server, "/ws/echo/") as echo:
            await echo.send("hello")
            assert await echo.recv() == "hello"
            os.kill(server.pid, signal.SIGHUP)
            assert (await closed(echo))[0] == 1012
        while True:
            # It may be another old worker, which has not been told to stop yet, or is just told:
            # then it drops whom it has not read, and says 503 to whom it has not answered.
            with suppress(InvalidMessage, InvalidStatus, ConnectionResetError):
                async with connect(server, "/ws/echo/") as again:
                    with suppress(ConnectionClosed):
                        await again.send("again")
                        assert await again.recv() == "again"
                        return
                assert again.close_code == 1012

    run(scenario)


def test_a_denial_is_the_response(server: Server) -> None:
    async def scenario() -> None:
        response = await denied(server, "/ws/ends/early-deny/")
        assert (response.status_code, response.headers["X-Kind"]) == (418, "tea")

    run(scenario)


def test_the_class_of_the_page_serves_sockets_with_our_protocol(server: Server) -> None:
    async def scenario() -> None:
        async with connect(server, "/ws/echo/") as socket:
            (deflate,) = socket.protocol.extensions
            assert deflate.remote_no_context_takeover
            assert deflate.local_no_context_takeover

    run(scenario)


def test_the_class_of_the_page_keeps_the_settings_of_uvicorns_worker() -> None:
    from uvicorn_worker import UvicornWorker

    namespace: dict[str, Any] = {}
    exec(workers_of_the_page(), namespace)
    assert UvicornWorker.CONFIG_KWARGS.items() <= namespace["SiteWorker"].CONFIG_KWARGS.items()


def test_the_class_of_the_page_refuses_at_its_head_what_is_too_large(server: Server) -> None:
    async def scenario() -> None:
        async with connect(server, "/ws/echo/") as socket:
            socket.transport.write(b"\x82\xff" + struct.pack("!Q", 1_100_001) + bytes(4))
            assert (await closed(socket))[0] == 1009
        await asyncio.to_thread(server.wait_for_log, "WEBSOCKET_MAX_MESSAGE_SIZE")

    run(scenario)
