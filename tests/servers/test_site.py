"""What a site is made of: messages, groups and users."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.live.envelope.page import V1, split

from .users import cookie
from .wire import end_of

pytestmark = [pytest.mark.live, pytest.mark.servers, pytest.mark.asyncio]


async def test_messages_of_all_sizes_come_back(server, expected):
    async with server.connect("/ws/echo/") as socket:
        for message in ["a", "é€😀" * 1000, b"\x00\xff", b"x" * 500_000, "x" * 70_000]:
            await socket.send(message)
            assert await socket.recv() == message
        for message in ["", b""]:
            await socket.send(message)
            await socket.send("behind it")
            answers = [message, "behind it"] if expected.empty else ["behind it"]
            assert [await socket.recv() for _ in answers] == answers
    await asyncio.to_thread(server.wait_for_notes, f"echo {1000 if expected.code_told else 1006}")


@pytest.mark.parametrize("form", ["size", "raw-size"])
async def test_an_empty_message_is_received(server, form):
    async with server.connect(f"/{form}/") as socket:
        for message in "", b"":
            await socket.send(message)
            assert await socket.recv() == "0"


async def test_what_is_said_to_a_group_all_members_hear(server):
    async with server.connect("/speaks/") as one, server.connect("/speaks/") as other:
        for member in one, other:
            assert await member.recv() == "joined"
        for message in "to all", b"to all":
            await one.send(message)
            assert [await member.recv() for member in (one, other)] == [message] * 2


async def test_who_offers_the_subprotocol_is_told_of_groups_and_answered(start):
    server = start(WEBSOCKET_GROUPS={"hall": {"history": 5, "presence": True}})
    offers = [Subprotocol(V1), Subprotocol("since.e30")]
    async with server.connect("/speaks/", subprotocols=offers) as socket:
        assert socket.subprotocol == V1
        (kind, *_), _ = split(await socket.recv())
        assert kind == "hello"
        (kind, group, first, recovered), payload = split(await socket.recv())
        assert (kind, group, recovered) == ("j", "hall", None)
        assert json.loads(payload)["count"] == 1
        assert split(await socket.recv()) == (None, "joined")
        positions = {first}
        for message in "to\nall", b"to\nall", "":
            await socket.send("\n" + message if isinstance(message, str) else b"\n" + message)
            (kind, group, position), payload = split(await socket.recv())
            assert (kind, group, payload) == ("m", "hall", message)
            positions.add(position)
        assert len(positions) == 4
        await socket.send('["ping",7]\n')
        assert split(await socket.recv()) == (["pong", 7], "")
    async with server.connect("/ws/echo/", subprotocols=offers) as socket:
        assert split(await socket.recv())[0][0] == "hello"
        # Every frame has something in it, on every server.
        for message in "a", "", "\n", "é€😀" * 1000:
            await socket.send(f"\n{message}")
            assert await socket.recv() == f"\n{message}"
        await socket.send("no line feed")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd.code == 4400


async def test_a_visitor_is_who_the_session_says_and_a_stranger_is_denied_with_401(
    server, expected
):
    headers = {"Cookie": cookie(7)}
    async with server.connect("/visitor/", additional_headers=headers) as socket:
        assert await socket.recv() == "visitor 7"
    assert (await end_of(server.port, "/visitor/")).status == expected.status(401)
    headers = {"Cookie": f"{cookie(7)}x"}
    assert (await end_of(server.port, "/visitor/", headers)).status == expected.status(401)


async def test_what_a_proxy_says_of_a_socket_is_what_it_says_of_a_page(start):
    server = start(SECURE_PROXY_SSL_HEADER=["HTTP_X_FORWARDED_PROTO", "https"])
    origin = ("Origin", f"https://127.0.0.1:{server.port}")
    for lines in (["https"], ["wss"], ["WSS, http"], ["wss", "ws"]):
        headers = [origin, *(("X-Forwarded-Proto", line) for line in lines)]
        async with server.connect("/scope/", additional_headers=headers) as socket:
            told = json.loads(await socket.recv())
        assert told["url"] == f"https://127.0.0.1:{server.port}/scope/"
    for line in ("ws", "http", "xwss"):
        headers = dict([origin, ("X-Forwarded-Proto", line)])
        assert (await end_of(server.port, "/scope/", headers)).status == 403
        said = f"waits for 'https', and X-Forwarded-Proto was '{line}'"
        await asyncio.to_thread(server.wait_for_log, said)
