"""``--ws-max-size`` a little above ``WEBSOCKET_MAX_MESSAGE_SIZE``: ``docs/howto/uvicorn.md``."""

from __future__ import annotations

import os
import struct

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.kit.server import DEADLINE, Server

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("ws")]

ABOVE = 1_100_000
MIB = 2**20


@pytest.fixture(params=["true", "false"], ids=["compressed", "plain"])
def server(request):
    with Server("--ws-max-size", str(ABOVE), "--ws-per-message-deflate", request.param) as server:
        yield server


def refusal(socket):
    with pytest.raises(ConnectionClosed) as caught:
        socket.recv(DEADLINE)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def test_what_the_setting_allows_passes_also_where_it_can_not_be_compressed(server):
    message = os.urandom(MIB)
    with connect(f"{server.url}/ws/echo/", proxy=None, max_size=None) as socket:
        socket.send(message)
        assert socket.recv(DEADLINE) == message


def test_what_is_just_over_the_setting_gets_its_answer_and_a_line_in_the_log(server):
    with connect(f"{server.url}/ws/echo/", proxy=None) as socket:
        socket.send(os.urandom(MIB + 1))
        assert refusal(socket) == (1009, "max message size")
    server.wait_for_log("WEBSOCKET_MAX_MESSAGE_SIZE")


def test_what_is_much_larger_is_refused_at_its_head(server):
    with connect(f"{server.url}/ws/echo/", proxy=None) as socket:
        # The head of a frame of 15 MiB, and none of them.
        socket.socket.sendall(b"\x82\xff" + struct.pack("!Q", 15 * MIB) + bytes(4))
        assert refusal(socket)[0] == 1009
    server.wait_for_notes("echo 1009")
