"""Starlette and FastAPI mount below an unanchored route."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.fake_server import serving
from tests.kit.server import Server

from .site import closed, connect, denied, login, logout, run, serve

pytestmark = pytest.mark.live

HANDLERS = "tests.mounts.frameworks"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("site"), HANDLERS) as server:
        yield server


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    yield running
    running.check()


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server below a prefix, which it puts in front of every path."""
    folder = tmp_path_factory.mktemp("below")
    with serve(folder, HANDLERS, "--root-path", "/sub") as server:
        yield server


@pytest.mark.parametrize("prefix", ["/star", "/tenants/red/star"])
@pytest.mark.parametrize("root_path", ["", "/sub"])
def test_root_path_and_path_are_as_the_framework_expects(
    running: Server, below: Server, prefix: str, root_path: str
) -> None:
    server = below if root_path else running

    async def scenario() -> None:
        async with connect(server, f"{prefix}/where/7/") as socket:
            assert json.loads(await socket.recv()) == {
                "root_path": root_path + prefix,
                "path": f"{root_path}{prefix}/where/7/",
                "params": {"room": "7"},
                "url": f"{server.url}{root_path}{prefix}/where/red/",
            }
            assert await closed(socket) == (4001, "done")

    run(scenario)
    server.check()


@pytest.mark.parametrize("prefix", ["/star", "/tenants/red/star"])
@pytest.mark.parametrize("root_path", ["", "/sub"])
@pytest.mark.parametrize("habits", ["hypercorn", "daphne", "granian"])
def test_a_server_that_leaves_the_root_path_out_of_the_path_is_understood(
    prefix: str, root_path: str, habits: str
) -> None:
    from .frameworks import urlpatterns

    async def scenario() -> None:
        path = f"{prefix}/where/7/"
        scope = {"root_path": root_path, "http_version": "1.1"}
        async with serving(None, path, route=urlpatterns, server=habits, scope=scope) as server:
            (sent,) = await server.sends(1)
            assert json.loads(sent)["root_path"] == root_path + prefix
            assert json.loads(sent)["path"] == f"{root_path}{prefix}/where/7/"
            await server.ended()
            assert server.closed == (4001, "done")

    run(scenario)


def test_what_the_framework_has_no_route_for_is_denied(server: Server) -> None:
    async def scenario() -> None:
        assert (await denied(server, "/star/nowhere/")).status_code in (403, 404)

    run(scenario)


def test_its_denial_response_reaches_the_client(server: Server) -> None:
    async def scenario() -> None:
        response = await denied(server, "/star/denies/")
        assert response.status_code == 418
        assert response.body == b"a teapot"
        assert response.headers["X-Why"] == "tea"

    run(scenario)


def test_its_exception_for_websockets_is_a_close_code(server: Server) -> None:
    async def scenario() -> None:
        async with connect(server, "/star/raises/") as socket:
            assert await closed(socket) == (4002, "policy")

    run(scenario)


def test_its_subprotocol_is_answered(server: Server) -> None:
    async def scenario() -> None:
        async with connect(server, "/star/echo/", subprotocols=["v2", "v1"]) as socket:
            assert socket.subprotocol == "v1"

    run(scenario)


def test_an_endpoint_that_fails_is_closed_with_1011_and_logged(server: Server) -> None:
    async def scenario() -> None:
        async with connect(server, "/star/fails/") as socket:
            assert (await closed(socket))[0] == 1011

    server.expected += ["The handler of /star/fails/ failed", "Traceback (most recent call last)"]
    run(scenario)
    server.wait_for_log("LookupError: the endpoint")


@pytest.mark.parametrize("abort", [False, True])
@pytest.mark.parametrize("endpoint", ["echo", "pushes", "never-reads"])
def test_a_client_that_leaves_ends_the_endpoint_without_an_error(
    server: Server, endpoint: str, abort: bool
) -> None:
    async def scenario() -> None:
        socket = await connect(server, f"/star/{endpoint}/")
        if endpoint == "echo":
            await socket.send("hello")
        await socket.recv()
        if abort:
            socket.transport.abort()
        else:
            await socket.close(1001)

    note = f"{endpoint.replace('-', '_')} ends"
    before = server.notes.count(note)
    run(scenario)
    server.wait_for_notes(note, before + 1)


def test_a_message_over_the_limit_closes_it(server: Server) -> None:
    async def scenario() -> None:
        async with connect(server, "/star/echo/") as socket:
            await socket.send("x" * 10_001)
            assert await closed(socket) == (1009, "max message size")

    before = server.notes.count("echo ends")
    run(scenario)
    server.wait_for_notes("echo ends", before + 1)


def test_fastapi_gets_its_parameters_and_the_user(server: Server) -> None:
    async def scenario() -> None:
        path = "/fast/rooms/7/?word=hello"
        assert (await denied(server, path)).status_code == 401
        async with connect(server, path, additional_headers=login(server)) as socket:
            assert await socket.recv() == "7 hello ann /fast/rooms/7/"
            await socket.send("echo")
            assert await socket.recv() == "echo"

    run(scenario)


def test_fastapi_denies_parameters_that_do_not_fit(server: Server) -> None:
    async def scenario() -> None:
        response = await denied(server, "/fast/rooms/x/", additional_headers=login(server))
        assert response.status_code == 403

    run(scenario)


def test_a_logout_closes_its_sockets(server: Server) -> None:
    async def scenario() -> None:
        headers = login(server)
        async with connect(server, "/fast/rooms/7/", additional_headers=headers) as socket:
            await socket.recv()
            await asyncio.to_thread(logout, server, headers)
            assert (await closed(socket))[0] == 4401

    before = server.notes.count("room ends")
    run(scenario)
    server.wait_for_notes("room ends", before + 1)


def test_the_stop_of_the_server_is_told_to_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serve(tmp_path_factory.mktemp("site"), HANDLERS) as server:

        async def scenario() -> None:
            headers = login(server)
            sockets: list[Any] = []
            for path in ("/star/echo/", "/star/never-reads/", "/fast/rooms/7/"):
                for _ in range(5):
                    sockets.append(await connect(server, path, additional_headers=headers))
            for socket in sockets[:5]:
                await socket.send("hello")
            for socket in sockets:
                await socket.recv()
            server.terminate()
            for socket in sockets:
                assert (await closed(socket))[0] == 1012

        run(scenario)
        server.wait()
        for note in ("echo ends", "never_reads ends", "room ends"):
            assert server.notes.count(note) == 5
