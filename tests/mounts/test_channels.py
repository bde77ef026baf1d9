"""Consumers of Channels run unchanged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.kit.server import Server
from tests.kit.waiting import wait_until

from .site import closed, connect, denied, login, logout, run, serve

pytestmark = pytest.mark.live

HANDLERS = "tests.mounts.consumers"
CHATS = ["/chat/", "/sync/"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("site"), HANDLERS) as server:
        yield server


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    yield running
    running.check()


def count(server: Server, note: str) -> int:
    return server.notes.count(note)


@pytest.mark.parametrize("chat", CHATS)
def test_a_channel_layer_carries_messages_between_consumers(server: Server, chat: str) -> None:
    async def scenario() -> None:
        async with (
            connect(server, f"{chat}red/") as one,
            connect(server, f"{chat}red/") as two,
            connect(server, f"{chat}blue/") as three,
        ):
            for message in ("hello", "you"):
                await one.send(message)
                assert await one.recv() == await two.recv() == message
            await three.send("alone")
            assert await three.recv() == "alone"

    before = count(server, "chat 1000")
    run(scenario)
    server.wait_for_notes("chat 1000", before + 3)


def test_binary_frames_pass(server: Server) -> None:
    async def scenario() -> None:
        async with connect(server, "/chat/red/") as socket:
            await socket.send(b"\x00\xff")
            assert await socket.recv() == b"\x00\xff"

    run(scenario)


def test_a_subprotocol_that_the_consumer_accepts_is_answered(server: Server) -> None:
    async def scenario() -> None:
        async with connect(server, "/chat/red/", subprotocols=["v2", "v1"]) as socket:
            assert socket.subprotocol == "v1"
        async with connect(server, "/chat/red/") as socket:
            assert socket.subprotocol is None

    run(scenario)


@pytest.mark.parametrize("chat", CHATS)
def test_a_close_code_of_the_consumer_reaches_the_client(server: Server, chat: str) -> None:
    async def scenario() -> None:
        async with connect(server, f"{chat}red/") as socket:
            await socket.send("close")
            assert await closed(socket) == (4001, "enough")

    before = count(server, "chat 4001")
    run(scenario)
    server.wait_for_notes("chat 4001", before + 1)


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("leave", ["abort", "1001"])
def test_a_client_that_leaves_is_told_to_the_consumer_and_no_error(
    server: Server, chat: str, leave: str
) -> None:
    codes = [1005, 1006] if leave == "abort" else [1001]

    async def scenario() -> None:
        socket = await connect(server, f"{chat}red/")
        await socket.send("hello")
        await socket.recv()
        if leave == "abort":
            socket.transport.abort()
        else:
            await socket.close(1001)

    before = sum(count(server, f"chat {one}") for one in codes)
    run(scenario)

    wait_until(lambda: sum(count(server, f"chat {one}") for one in codes) != before)


def test_a_client_that_leaves_in_the_middle_of_a_send_is_no_error(server: Server) -> None:
    async def scenario() -> None:
        socket = await connect(server, "/pusher/")
        await socket.recv()
        socket.transport.abort()

    run(scenario)
    # Its connect() never ends, but for the send that fails.
    run(lambda: idle(server))


def expect_failure(
    server: Server, path: str, scenario: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    last = "LookupError: the consumer"
    before = server.log.count(last)
    server.expected += [f"The handler of {path} failed", "Traceback (most recent call last)"]
    run(scenario)
    server.wait_for_log(last, before + 1)


async def idle(server: Server) -> None:
    """Wait until the server has looked after a socket that is gone."""
    async with connect(server, "/chat/idle/") as socket:
        await socket.send("hello")
        await socket.recv()


def test_login_required_denies_before_the_consumer_is_entered(server: Server) -> None:
    async def scenario() -> None:
        assert (await denied(server, "/restricted/red/")).status_code == 401
        headers = login(server)
        async with connect(server, "/restricted/red/", additional_headers=headers) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"

    run(scenario)


def test_a_consumer_finds_user_session_and_route_in_its_scope(server: Server) -> None:
    async def scenario() -> None:
        headers = login(server)
        async with connect(server, "/who/red/7/", additional_headers=headers) as socket:
            assert json.loads(await socket.recv()) == {
                "user": "ann",
                "colour": "red",
                "route": [[], {"name": "red", "number": "7", "page": 1}],
            }
        async with connect(server, "/args/") as socket:
            assert json.loads(await socket.recv()) == {
                "user": "",
                "colour": None,
                "route": [[], {}],
            }

    run(scenario)


def test_a_sync_consumer_changes_its_session_and_uses_the_database(server: Server) -> None:
    async def scenario() -> None:
        headers = login(server)
        for seen in (1, 2):
            async with connect(server, "/sync-who/", additional_headers=headers) as socket:
                assert await socket.recv() == f"ann red {seen}"
        async with connect(server, "/sync/red/") as socket:
            await socket.send("users")
            assert await socket.recv() == "1"

    run(scenario)


@pytest.mark.parametrize("path", ["/denies/", "/sync-denies/"])
def test_a_consumer_that_denies_is_a_403(server: Server, path: str) -> None:
    async def scenario() -> None:
        assert (await denied(server, path)).status_code == 403

    run(scenario)


def test_a_foreign_origin_does_not_reach_a_consumer(server: Server) -> None:
    async def scenario() -> None:
        response = await denied(server, "/chat/red/", origin="https://evil.example")
        assert response.status_code == 403

    run(scenario)


@pytest.mark.parametrize("chat", CHATS)
def test_a_message_over_the_limit_closes_a_consumer(server: Server, chat: str) -> None:
    async def scenario() -> None:
        async with connect(server, f"{chat}red/") as socket:
            await socket.send("x" * 10_001)
            assert await closed(socket) == (1009, "max message size")

    before = count(server, "chat 1009")
    run(scenario)
    server.wait_for_notes("chat 1009", before + 1)


@pytest.mark.parametrize("path", ["/restricted/red/", "/who/red/7/", "/sync-who/"])
def test_a_logout_closes_the_sockets_of_consumers(server: Server, path: str) -> None:
    async def scenario() -> None:
        headers, others = login(server), login(server)
        async with (
            connect(server, path, additional_headers=headers) as socket,
            connect(server, path, additional_headers=others) as other,
        ):
            await asyncio.to_thread(logout, server, headers)
            assert (await closed(socket))[0] == 4401
            await (await other.ping())
        assert (await denied(server, path, additional_headers=headers)).status_code == 401

    run(scenario)


@pytest.mark.parametrize("chat", CHATS)
def test_a_consumer_that_fails_is_closed_with_1011_and_logged(server: Server, chat: str) -> None:
    async def scenario() -> None:
        async with connect(server, f"{chat}red/") as socket:
            await socket.send("fail")
            assert (await closed(socket))[0] == 1011

    expect_failure(server, f"{chat}red/", scenario)


def test_a_consumer_that_fails_to_connect_is_a_500(server: Server) -> None:
    async def scenario() -> None:
        assert (await denied(server, "/fails/")).status_code == 500

    expect_failure(server, "/fails/", scenario)


def test_the_stop_of_the_server_is_told_to_clients_and_consumers(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # Rooms of their own: a send that finds the client gone ends a consumer without disconnect().
    chats = [f"{chat}{chat[1]}{number}/" for chat in CHATS for number in range(5)]
    paths = [*chats, *["/who/red/7/", "/sync-who/"] * 5]
    with serve(tmp_path_factory.mktemp("site"), HANDLERS) as server:

        async def scenario() -> None:
            headers = login(server)
            sockets = [await connect(server, path, additional_headers=headers) for path in paths]
            # Each is in its handler when it has answered.
            for socket in sockets[:10]:
                await socket.send("hello")
            for socket in sockets:
                await socket.recv()
            server.terminate()
            for socket in sockets:
                assert (await closed(socket))[0] == 1012

        run(scenario)
        assert server.wait() in (0, -15)
        assert sorted(server.notes) == ["chat 1012"] * 10 + ["who 1012"] * 10, server.log
