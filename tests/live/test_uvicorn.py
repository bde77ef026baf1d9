"""Conversations over a real server: what a client sees of a handler and of its end."""

from __future__ import annotations

import asyncio
import json
import urllib.request

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.kit.server import Server
from tests.kit.waiting import DEADLINE

pytestmark = [pytest.mark.live, pytest.mark.asyncio, pytest.mark.usefixtures("ws")]

both_forms = pytest.mark.parametrize("prefix", ["", "raw-"], ids=["websocket", "raw"])


@pytest.fixture(scope="module")
def process(ws):
    with Server(environment={"WEBSOCKET_LIFESPAN": '"tests.live.handlers.lifespan"'}) as server:
        yield server


@pytest.fixture
def server(process):
    yield process
    process.check()


async def closed(socket):
    """Read on to the close frame. Return its code and reason."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed as exc:
        return (exc.rcvd.code, exc.rcvd.reason) if exc.rcvd is not None else (1006, "")


async def denial(url, **options):
    """Return the response that refuses a handshake."""
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url, **options):
            pass
    return caught.value.response


@both_forms
async def test_ping_is_answered_with_pong(server, prefix):
    async with connect(f"{server.url}/ws/{prefix}ping/") as socket:
        await socket.send("ping")
        assert await socket.recv() == "pong!"


@both_forms
async def test_text_and_binary_come_back_whole_and_in_order(server, prefix):
    messages = ["a", b"b", "", b"", "€" * 1000, b"\x00\xff" * 50_000, "x" * 1_000_000]
    async with connect(f"{server.url}/ws/{prefix}echo/", max_size=None) as socket:
        for message in messages:
            await socket.send(message)
        for message in messages:
            assert await socket.recv() == message


@both_forms
async def test_a_message_in_fragments_is_one_message(server, prefix):
    async with connect(f"{server.url}/ws/{prefix}echo/") as socket:
        await socket.send(["fr", "ag", "", "ments"])
        assert await socket.recv() == "fragments"
        await socket.send([b"fr", b"ag"])
        assert await socket.recv() == b"frag"


async def test_the_page_next_to_the_sockets_is_served(server):
    def read():
        with urllib.request.urlopen(f"{server.http_url}/page/", timeout=DEADLINE) as response:
            return response.read()

    assert await asyncio.to_thread(read) == b"page"


async def test_an_unknown_path_is_a_404(server):
    response = await denial(f"{server.url}/nowhere/?token=secret")
    assert response.status_code == 404
    await asyncio.to_thread(server.wait_for_log, "Denied /nowhere/ with 404")
    (line,) = [line for line in server.lines if "Denied /nowhere/" in line]
    assert line.startswith("WARNING django_ws_dispatch.handshake")
    assert "secret" not in line


async def test_the_first_offered_subprotocol_among_the_declared_is_chosen(server):
    async with connect(f"{server.url}/ws/echo/", subprotocols=["v3", "v2", "v1"]) as socket:
        assert socket.subprotocol == "v2"
    async with connect(f"{server.url}/ws/echo/") as socket:
        assert socket.subprotocol is None


@both_forms
@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("", 1000),
        ("404", 4404),
        ("403", 4403),
        ("400", 4400),
        ("429", 4429),
        ("deny", 4418),
        ("group", 4404),
    ],
)
async def test_the_end_of_an_open_handler_is_a_close_frame(server, prefix, how, code):
    async with connect(f"{server.url}/ws/{prefix}ends/open-{how}/") as socket:
        assert await closed(socket) == (code, "")


@both_forms
@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("", 403),
        ("404", 404),
        ("403", 403),
        ("400", 400),
        ("429", 429),
        ("deny", 418),
        ("group", 404),
    ],
)
async def test_the_end_of_a_handler_before_its_accept_is_a_response(server, prefix, how, status):
    response = await denial(f"{server.url}/ws/{prefix}ends/shut-{how}/")
    assert response.status_code == status


@both_forms
@pytest.mark.parametrize("how", ["failure", "oserror"])
async def test_a_failure_is_1011_or_500_and_one_traceback(server, prefix, how):
    server.check()
    start = len(server.lines)
    async with connect(f"{server.url}/ws/{prefix}ends/open-{how}/") as socket:
        assert await closed(socket) == (1011, "")
    response = await denial(f"{server.url}/ws/{prefix}ends/shut-{how}/")
    assert response.status_code == 500
    assert b"meant to fail" not in response.body
    server.wait_for_log(f"The handler of /ws/{prefix}ends/shut-{how}/ failed")
    lines = server.lines[start:]
    assert len([line for line in lines if "Traceback (most recent" in line]) == 2
    server.expected += ["The handler of", "Traceback (most recent", "meant to fail"]


@both_forms
async def test_a_broker_that_fails_before_the_accept_is_a_503_and_one_line(server, prefix):
    server.check()
    start = len(server.lines)
    path = f"/ws/{prefix}ends/shut-broker/"
    response = await denial(server.url + path)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "10"
    assert b"meant" not in response.body
    line = f"The broker failed in the handshake of {path}: meant to fail"
    server.wait_for_log(line)
    # What is logged behind it would have come by the time the next one is answered.
    assert (await denial(f"{server.url}/ws/{prefix}ends/shut-404/")).status_code == 404
    server.wait_for_log(f"Denied /ws/{prefix}ends/shut-404/")
    errors = [one for one in server.lines[start:] if "ERROR" in one or "Traceback" in one]
    assert errors == [f"ERROR django_ws_dispatch.handshake: {line}"]
    server.expected += [line]


@both_forms
async def test_a_denial_has_its_body_its_headers_and_its_cookies(server, prefix):
    response = await denial(f"{server.url}/ws/{prefix}ends/shut-deny/")
    assert response.body == b"a teapot"
    assert response.headers["X-Kind"] == "tea"
    cookies = sorted(response.headers.get_all("Set-Cookie"))
    assert [cookie.split(";")[0] for cookie in cookies] == ["milk=none", "sugar=two"]
    assert "HttpOnly" in cookies[0]
    assert response.headers["Content-Length"] == "8"


async def test_a_close_has_its_code_and_its_reason_cut_to_123_bytes(server):
    async with connect(f"{server.url}/ws/closes/") as socket:
        assert socket.response.headers["X-Kind"] == "tea"
        assert await closed(socket) == (4000, "é" * 61)
    server.wait_for_notes("late")


@pytest.mark.parametrize("message", ["x", b"x", "é", "€"])
async def test_one_byte_more_than_the_limit_is_1009(server, message):
    size = len(message.encode() if isinstance(message, str) else message)
    fits, over = message * (1000 // size), message * (1000 // size + 1)
    async with connect(f"{server.url}/ws/small/") as socket:
        await socket.send(fits)
        assert await socket.recv() == str(len(fits))
        await socket.send(over)
        assert (await closed(socket))[0] == 1009


@both_forms
async def test_the_handler_learns_the_clients_close_code(server, prefix):
    async with connect(f"{server.url}/ws/{prefix}echo/") as socket:
        await socket.close(4321, "bye")
    server.wait_for_notes(f"{prefix.replace('-', '_')}echo 4321")


async def test_what_the_lifespan_yields_is_the_state_of_every_socket(server):
    async with connect(f"{server.url}/ws/state/") as socket:
        assert json.loads(await socket.recv()) == [{"pool": 42}, {"pool": 42}]
    assert server.notes.count("started") == 1


async def test_a_mount_sees_what_matched_in_its_root_path(server):
    async with connect(f"{server.url}/ws/mount/deep/er/") as socket:
        assert await socket.recv() == "/ws/mount /ws/mount/deep/er/"


async def test_a_page_of_another_site_may_not_connect(server):
    response = await denial(f"{server.url}/ws/echo/", origin="http://evil.example")
    assert response.status_code == 403
    own = server.http_url
    async with connect(f"{server.url}/ws/echo/", origin=own) as socket:
        await socket.send("x")
        assert await socket.recv() == "x"


async def test_under_a_root_path_the_sockets_are_where_the_pages_are():
    with Server("--root-path", "/sub") as server:
        async with connect(f"{server.url}/ws/ping/") as socket:
            await socket.send("ping")
            assert await socket.recv() == "pong!"
        async with connect(f"{server.url}/ws/mount/x/") as socket:
            assert await socket.recv() == "/sub/ws/mount /sub/ws/mount/x/"


async def test_the_rate_and_idle_limits_close_and_the_log_names_the_setting():
    environment = {"WEBSOCKET_RATE_LIMIT": '"2/h"', "WEBSOCKET_IDLE_TIMEOUT": "0.5"}
    with Server(environment=environment) as server:
        async with connect(f"{server.url}/ws/echo/") as socket:
            for _ in range(3):
                await socket.send("x")
            assert (await closed(socket))[0] == 4429
        server.wait_for_log("WEBSOCKET_RATE_LIMIT")
        async with connect(f"{server.url}/ws/echo/") as socket:
            assert (await closed(socket))[0] == 4408
        server.wait_for_log("WEBSOCKET_IDLE_TIMEOUT")
