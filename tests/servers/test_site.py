"""What a site is made of: messages, groups and users."""

from __future__ import annotations

import asyncio
import json

import pytest

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
