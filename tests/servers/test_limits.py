"""Limits, subprotocols and what is in the scope."""

from __future__ import annotations

import json

import pytest
from websockets.exceptions import ConnectionClosed

from .wire import end_of, opened

pytestmark = [pytest.mark.live, pytest.mark.servers, pytest.mark.asyncio]

MIB = 1024 * 1024


async def code_after(server, path, *messages):
    """Send messages; return what came back, and the close code."""
    answers = []
    async with server.connect(path) as socket:
        try:
            for message in messages:
                await socket.send(message)
            while True:
                answers.append(await socket.recv())
        except ConnectionClosed as exc:
            return answers, exc.rcvd.code if exc.rcvd is not None else 1006


async def test_a_message_over_the_limit_closes_with_1009(server, expected):
    answers, code = await code_after(server, "/small/", "x" * 1000, "é" * 501)
    assert (answers, code) == (["1000"], expected.code(1009))


@pytest.mark.parametrize("form", ["size", "raw-size"])
@pytest.mark.parametrize("letter", ["x", b"x"])
async def test_a_message_over_1_mib_closes_by_default(server, expected, form, letter):
    async with server.connect(f"/{form}/") as socket:
        await socket.send(letter * MIB)
        assert await socket.recv() == str(MIB)
    code = await code_after(server, f"/{form}/", letter * (MIB + 1))
    assert code == ([], expected.too_big)


@pytest.mark.parametrize("form", ["says", "raw-says"])
async def test_a_message_over_1_mib_that_a_server_refuses_to_send_ends_nothing(
    server, expected, form
):
    async with server.connect(f"/{form}/") as socket:
        await socket.send(str(MIB + 1))
        assert await socket.recv() == (expected.refuses or "x" * (MIB + 1))
        await socket.send("3")
        assert await socket.recv() == "xxx"


async def test_a_message_over_1_mib_to_a_group_arrives_or_closes_with_1011(start, expected):
    message = "x" * (MIB + 1)
    # On granian it may have to wait behind the one before: each send() there suspends.
    server = start(WEBSOCKET_OUTBOX_SIZE=2 * MIB)
    async with server.connect("/says-to-all/") as socket:
        await socket.send("3")
        assert await socket.recv() == "xxx"
        await socket.send(str(len(message)))
        if expected.refuses is None:
            assert await socket.recv() == message
        else:
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == expected.code(1011)


async def test_too_many_messages_close_with_4429(server, expected):
    answers, code = await code_after(server, "/slow/", *"123456")
    assert (answers, code) == (list("12345"), expected.code(4429))


async def test_silence_closes_with_4408(server, expected):
    assert await code_after(server, "/idle/") == ([], expected.code(4408))


@pytest.mark.parametrize(
    ("kind", "message", "code"),
    [("text", b"x", 1003), ("bytes", "x", 1003), ("json", "{", 1007), ("json", b"\xff", 1007)],
)
async def test_the_wrong_kind_of_message_closes(server, expected, kind, message, code):
    assert await code_after(server, f"/kinds/{kind}/", message) == ([], expected.code(code))


async def test_a_connection_over_the_limit_of_a_handler_is_denied_with_429(server, expected):
    async with server.connect("/alone/") as socket:
        assert await socket.recv() == "alone"
        assert (await end_of(server.port, "/alone/")).status == expected.status(429)


async def test_a_connection_over_the_cap_is_denied_with_503(start, expected):
    server = start(WEBSOCKET_MAX_CONNECTIONS=1)
    async with server.connect("/alone/") as socket:
        assert await socket.recv() == "alone"
        end = await end_of(server.port, "/reads/")
        assert end.status == expected.status(503)
        assert end.all("retry-after") == (["10"] if expected.denials else [])


async def test_the_first_offered_subprotocol_that_the_handler_knows_is_chosen(server, expected):
    async with opened(server.port, "/chosen/", {"Sec-WebSocket-Protocol": "v0, v2, v1"}) as wire:
        assert await wire.handshake() == 101
        assert await wire.text() == "v2"
        headers = dict(wire.headers)
        assert headers["sec-websocket-protocol"] == "v2"
        assert headers.get("x-kind") == ("tea" if expected.accept_headers else None)


async def test_a_subprotocol_that_was_not_offered_is_a_failure_of_the_handler(server, expected):
    end = await end_of(server.port, "/foreign/", {"Sec-WebSocket-Protocol": "v0"})
    assert end.status == expected.status(500)


async def test_the_scope_is_made_a_request_whatever_is_in_it(server, expected):
    async with server.connect("/scope/?a=%20b") as socket:
        scope = json.loads(await socket.recv())
    assert ("websocket.http.response" in scope["extensions"]) is expected.denials
    assert (scope["ports"], scope["scheme"]) == ([expected.port], expected.scheme)
    assert scope["address"] == "127.0.0.1"
    assert scope["url"] == f"http://127.0.0.1:{server.port}/scope/?a=%20b"
