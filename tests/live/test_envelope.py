"""``django-ws-dispatch.v1`` on the wire: what a client of anybody's sees of it, and what the server
makes of clients that are broken, hostile or slow.
"""

from __future__ import annotations

import asyncio
import json
import random
import string
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.kit.server import OURS, Server
from tests.servers.wire import Wire, frame
from tests.servers.wire import opened as opened_raw

from .envelope.page import V1, ask, split, token_of, visiting
from .faults.clients import opened

pytestmark = [pytest.mark.live, pytest.mark.asyncio]

OUTBOX = 1_000_000


@pytest.fixture(scope="module")
def server(ws: str) -> Iterator[Server]:
    """One process, with what every site has that names no broker."""
    with Server(
        settings="tests.live.envelope.settings",
        environment={"WEBSOCKET_OUTBOX_SIZE": str(OUTBOX)},
    ) as server:
        yield server


@pytest.fixture(autouse=True)
def checked(server: Server) -> Iterator[None]:
    """No test leaves a traceback."""
    yield
    server.check()


def name() -> str:
    """Return a name that no other test has."""
    return "".join(random.choices(string.ascii_lowercase, k=12))


def offers(*names: str) -> dict[str, Any]:
    return {"subprotocols": [Subprotocol(one) for one in names]}


@asynccontextmanager
async def speaking(server: Server, path: str, **headers: str) -> AsyncIterator[Wire]:
    """Speak it with nothing but a TCP connection, behind the first frame."""
    lines = {"Sec-WebSocket-Protocol": V1, **headers}
    async with opened_raw(server.port, path, lines) as wire:
        assert await wire.handshake() == 101
        head, _ = split(await wire.text())
        assert head[0] == "hello"
        yield wire


# The handshake


@pytest.mark.parametrize("order", [1, -1])
async def test_a_client_that_offers_it_is_answered_with_it_alone(
    server: Server, order: int
) -> None:
    token = token_of({"room:a": "x"})
    lines = {"Sec-WebSocket-Protocol": ", ".join([V1, f"since.{token}"][::order])}
    async with opened_raw(server.port, "/tells/", lines) as wire:
        assert await wire.handshake() == 101
        assert [value for key, value in wire.headers if key == "sec-websocket-protocol"] == [V1]
        head, payload = split(await wire.text())
        kind, id, told = head
        assert (kind, told, payload) == ("hello", {"ping": 25}, "")
        head, payload = split(await wire.text())
        assert (head, payload) == (None, "[[],null]")
        assert split(await wire.text()) == (
            None,
            json.dumps([{"room:a": "x"}, id], separators=(",", ":")),
        )
    assert token not in server.log


async def test_the_interval_of_pings_is_at_most_half_of_what_may_be_idle(server: Server) -> None:
    async with visiting(server, "/idle/") as page:
        assert page.hello == {"ping": 3}


@pytest.mark.parametrize("order", [1, -1])
async def test_what_a_handler_declares_comes_first(server: Server, order: int) -> None:
    every = ["chat.v1", V1, "since.e30"][::order]
    async with opened(f"{server.url}/declares/", **offers(*every)) as socket:
        assert socket.subprotocol == "chat.v1"
        await socket.send("hello")
        assert await socket.recv() == "chat.v1 'hello'"
        await socket.send('["ping",1]\n')
        assert await socket.recv() == """chat.v1 '["ping",1]\\n'"""


async def test_where_none_of_what_is_declared_is_offered_it_is_chosen(server: Server) -> None:
    async with visiting(server, "/declares/") as page:
        await page.send("hello")
        assert await page.message() == "None 'hello'"


async def test_what_a_handler_chooses_comes_first(server: Server) -> None:
    async with opened(f"{server.url}/chooses/", **offers("mine", V1)) as socket:
        assert socket.subprotocol == "mine"
        await socket.send("hello")
        assert await socket.recv() == "mine 'hello'"
    async with opened(f"{server.url}/chooses/", **offers(V1, "mine")) as socket:
        assert socket.subprotocol == V1
        assert split(await socket.recv())[0][0] == "hello"
        await socket.send("\nhello")
        assert await socket.recv() == "\nNone 'hello'"


async def test_a_raw_handler_is_left_alone(server: Server) -> None:
    async with opened(f"{server.url}/raw/", **offers(V1, "since.e30")) as socket:
        assert socket.subprotocol is None
        await socket.send('["ping",1]\n')
        assert await socket.recv() == """'["ping",1]\\n'"""


async def test_who_offers_a_token_alone_is_a_plain_client(server: Server) -> None:
    async with opened(f"{server.url}/echo/", **offers("since.e30")) as socket:
        assert socket.subprotocol is None
        await socket.send("hello")
        assert await socket.recv() == "hello"


# Messages


@pytest.mark.parametrize("options", [{}, {"compression": "deflate"}], ids=["plain", "compressed"])
async def test_messages_go_both_ways_as_they_are(server: Server, options: Any) -> None:
    messages: list[str | bytes] = [
        "a",
        b"a",
        "",
        b"",
        "\n",
        b"\n\n",
        "two\nlines\n",
        '["ping",1]\n',
        '["m","room:a","x"]\nbody',
        "é€😀" * 1000,
        b"\x00\xff\n" * 1000,
        "x" * 500_000,
        random.randbytes(500_000),
        "x" * 1024 * 1024,
    ]
    async with visiting(server, "/echo/", **options) as page:
        for message in messages:
            await page.send(message)
        for message in messages:
            assert await page.frame() == (None, message)


async def test_fragments_are_one_frame(server: Server) -> None:
    async with visiting(server, "/echo/") as page:
        await page.socket.send(["", "\n", "in ", "", "pieces\n"])
        assert await page.message() == "in pieces\n"
        await page.socket.send(['["pi', 'ng",7', "]", "\n"])
        assert await page.frame() == (["pong", 7], "")


async def test_a_message_to_a_group_comes_compressed_and_not(server: Server) -> None:
    group = f"room:{name()}"
    many = {"compression": "deflate"}
    async with (
        visiting(server, f"/joins/{group}/ann/", **many) as ann,
        visiting(server, f"/joins/{group}/bob/", **many) as bob,
        visiting(server, f"/joins/{group}/eve/") as eve,
        opened(f"{server.url}/joins/{group}/joe/", compression="deflate") as joe,
    ):
        for page in (ann, bob, eve):
            await page.sees(group, "ann", "bob", "eve", "joe")
        assert await joe.recv() == "joined None "
        for data in ("text " * 4000, b"bytes " * 4000):
            position = await ask(server, f"/say/{group}/", data)
            for page in (ann, bob, eve):
                assert await page.until("m") == (["m", group, position], data)
            assert await joe.recv() == data


# Limits


@pytest.mark.parametrize("fill", [b"x", "é".encode()])
@pytest.mark.parametrize("kind", [1, 2])
async def test_limits_count_payloads(server: Server, kind: int, fill: bytes) -> None:
    most = fill * (1000 // len(fill))
    async with speaking(server, "/small/") as wire:
        wire.writer.write(frame(kind, b"\n" + most))
        assert await wire.text() == "\n1000"
        wire.writer.write(frame(kind, b"\n" + most + b"x"))
        assert (await wire.closed())[0] == 1009
    await asyncio.to_thread(server.wait_for_log, "Closed /small/ with 1009")


async def test_pings_are_no_messages_for_a_rate_but_for_those_that_hurry(server: Server) -> None:
    async with visiting(server, "/slow/") as page:
        for number in range(3):
            await page.ping(number)
            assert await page.frame() == (["pong", number], "")
            await asyncio.sleep(1.1)
        for number in range(5):
            await page.send(str(number))
            assert await page.message() == str(number)
        await page.ping(3)
        assert await page.frame() == (["pong", 3], "")
        with suppress(ConnectionClosed):
            while True:
                await page.ping(4)
                await page.frame()
        assert page.socket.close_code == 4429
    await asyncio.to_thread(server.wait_for_log, "Closed /slow/ with 4429")


async def test_a_ping_is_a_sign_of_life(server: Server) -> None:
    async with visiting(server, "/idle/") as page, visiting(server, "/idle/") as silent:
        end = asyncio.create_task(silent.closed())
        while not end.done():
            await page.ping(1)
            assert await page.frame() == (["pong", 1], "")
            await asyncio.sleep(0.5)
        assert end.result() == 4408
        await page.ping(2)
        assert await page.frame() == (["pong", 2], "")


@pytest.mark.parametrize("kind", ["plain", "news:"])
async def test_a_client_that_does_not_read_is_closed(server: Server, kind: str) -> None:
    path = f"/floods/{kind}{name()}/"
    async with speaking(server, path) as wire:
        while not (await wire.text()).startswith("\n"):
            pass
        wire.writer.write(frame(1, b"\ngo"))
        await asyncio.to_thread(server.wait_for_notes, f"{path} 1013")
        await asyncio.to_thread(server.wait_for_log, f"Closed {path} with 1013")
    assert sum(path in line and "WARNING" in line for line in server.lines) == 1


# Pings


async def test_a_ping_is_answered_while_the_handler_reads(server: Server) -> None:
    gate = name()
    async with visiting(server, f"/reads/{gate}/") as page:
        for number in (0, -1, 2**53, 10**200, -(10**200)):
            await page.ping(number)
            assert await page.frame() == (["pong", number], "")
        await page.send("hello")
        assert await page.message() == "hello False"


@pytest.mark.parametrize("path", ["sleeps", "never-reads", "in-a-lane", "sends"])
async def test_a_ping_is_answered_while_the_handler_does_something_else(
    server: Server, path: str
) -> None:
    gate = name()
    async with visiting(server, f"/{path}/{gate}/") as page:
        if path in ("sleeps", "in-a-lane"):
            await page.send("first")
        if path != "never-reads":
            assert await page.message() == "first"
        for number in range(3):
            await page.ping(number)
            assert await page.frame() == (["pong", number], "")
        await ask(server, f"/release/{gate}/")
        assert await page.frame() == (None, "released")
        await page.ping(3)
        assert await page.frame() == (["pong", 3], "")


async def test_a_ping_is_answered_behind_messages_that_nobody_reads(server: Server) -> None:
    gate = name()
    async with visiting(server, f"/sleeps/{gate}/") as page:
        await page.send("first")
        assert await page.message() == "first"
        for number in range(20):
            await page.send(f"unread {number}")
        await page.ping(1)
        assert await page.frame() == (["pong", 1], "")
        await ask(server, f"/release/{gate}/")
        assert await page.message() == "released"


# Clients that are broken or hostile

TEXT, BINARY = 1, 2
BROKEN = {
    "no line feed": b"hello",
    "an empty frame": b"",
    "a head that is no JSON": b"hello\n",
    "a head of blanks": b"  \n",
    "a carriage return": b"\r\n",
    "half a head": b'["ping",\n',
    "two heads": b'["ping",1]["ping",2]\n',
    "no array": b'{"ping":1}\n',
    "nothing": b"null\n",
    "an empty array": b"[]\n",
    "an unknown kind": b'["bye"]\n',
    "a kind of the server's": b'["pong",1]\n',
    "a message to a group": b'["m","room:a","x"]\nhello',
    "a join": b'["j","room:a",null,null]\n',
    "a kind that is no string": b"[1,1]\n",
    "another case": b'["PING",1]\n',
    "no number": b'["ping"]\n',
    "too much": b'["ping",1,2]\n',
    "a float": b'["ping",1.5]\n',
    "a whole float": b'["ping",1.0]\n',
    "an exponent": b'["ping",1e3]\n',
    "a bool": b'["ping",true]\n',
    "a null": b'["ping",null]\n',
    "a string": b'["ping","1"]\n',
    "an array": b'["ping",[1]]\n',
    "not a number": b'["ping",NaN]\n',
    "infinity": b'["ping",Infinity]\n',
    "a number that overflows": b'["ping",1e999]\n',
    "257 bytes": b'["ping",' + b"1" * 248 + b"]\n",
    "257 blanks": b" " * 257 + b"\nhello",
    "257 bytes of fewer characters": b'["' + "é".encode() * 127 + b'"]\n',
    "deep JSON": b"[" * 128 + b"]" * 128 + b"\n",
    "half of deep JSON": b"[" * 256 + b"\n",
    "a head of 1 MiB": b'["ping",' + b"1" * 1024 * 1024 + b"]\n",
    "1 MiB without a line feed": b"x" * 1024 * 1024,
    "deep JSON of 1 MiB": b"[" * 1024 * 1024 + b"\n",
    "a key of half a surrogate": b'["\\ud800",1]\n',
}
NO_UTF_8 = {
    "a head that is no UTF-8": b'["\xff",1]\n',
    "zeros": b"\x00" * 10 + b"\n",
    "a byte order mark": b'\xef\xbb\xbf["ping",1]\n',
    "UTF-16": '["ping",1]'.encode("utf-16-le") + b"\n",
    "UTF-32": '["ping",1]'.encode("utf-32-be") + b"\n",
}


async def refused(server: Server, kind: int, payload: bytes) -> None:
    """Send a frame that is answered with 4400 and one line, and with no traceback."""
    path = f"/echo/{name()}/"
    async with speaking(server, path) as wire:
        # What is behind it is not for the handler, either.
        wire.writer.write(frame(kind, payload) + frame(1, b"\nbehind it"))
        opcode, data = await wire.frame()
        assert (opcode, data[:2]) == (8, (4400).to_bytes(2)), data
        assert V1 in data[2:].decode()
    await asyncio.to_thread(server.wait_for_log, f"Closed {path} with 4400")
    # Its client has left: nothing more is said.
    await asyncio.to_thread(server.wait_for_notes, f"{path} 4400")
    async with opened(f"{server.url}/echo/") as socket:
        await socket.send("over")
        assert await socket.recv() == "over"
    (line,) = [line for line in server.lines if path in line and not line.startswith("INFO")]
    assert len(line) < 300


@pytest.mark.parametrize("kind", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("payload", BROKEN.values(), ids=BROKEN)
async def test_a_frame_that_is_none_closes_with_4400(
    server: Server, kind: int, payload: bytes
) -> None:
    await refused(server, kind, payload)


@pytest.mark.parametrize("payload", NO_UTF_8.values(), ids=NO_UTF_8)
async def test_a_binary_frame_with_a_head_that_is_no_utf_8_closes_with_4400(
    server: Server, payload: bytes
) -> None:
    await refused(server, BINARY, payload)


@pytest.mark.parametrize("path", ["/never-reads/{}/", "/joins/room:a,news:a/ann/", "/sends/{}/"])
async def test_whatever_the_handler_does_a_broken_frame_closes_with_4400(
    server: Server, path: str
) -> None:
    gate = name()
    async with speaking(server, path.format(gate)) as wire:
        wire.writer.write(frame(TEXT, b"hello"))
        assert (await wire.closed())[0] == 4400
    await ask(server, f"/release/{gate}/")


async def test_what_came_before_a_broken_frame_is_for_the_handler(server: Server) -> None:
    async with speaking(server, "/echo/") as wire:
        good = b"".join(frame(TEXT, b"\n%d" % number) for number in range(5))
        wire.writer.write(good + frame(TEXT, b"bad") + frame(TEXT, b"\nno more"))
        for number in range(5):
            assert await wire.text() == f"\n{number}"
        opcode, data = await wire.frame()
        assert (opcode, data[:2]) == (8, (4400).to_bytes(2)), data


async def test_a_head_of_256_bytes_is_none_too_long(server: Server) -> None:
    number = "1" * 247
    async with speaking(server, "/echo/") as wire:
        wire.writer.write(frame(TEXT, f'["ping",{number}]\n'.encode()))
        assert await wire.text() == f'["pong",{number}]\n'


async def test_text_that_is_no_utf_8_is_the_protocols_affair(server: Server, ws: str) -> None:
    payloads = (b"\n\xff\xfe", b'["\xff"]\n', b"\xff")
    for payload in payloads:
        async with speaking(server, "/echo/") as wire:
            wire.writer.write(frame(TEXT, payload))
            assert (await wire.closed())[0] == 1007
    if ws != OURS:  # uvicorn's own says so, as an error of its own
        await asyncio.to_thread(server.wait_for_log, "UnicodeDecodeError:", len(payloads))
        server.expected += ["Invalid UTF-8", "Traceback"]


async def test_what_is_larger_than_any_message_is_refused_as_ever(server: Server) -> None:
    async with speaking(server, "/echo/") as wire:
        wire.writer.write(frame(TEXT, b"\n" + b"x" * (1024 * 1024 + 300)))
        assert (await wire.closed())[0] == 1009
