"""Whatever a server says, the page meets no exception."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page
from websockets.sync.server import ServerConnection, serve

from tests.browser.example import Server

from .pages import HASTY, has, heard, is_open, say

pytestmark = [pytest.mark.live, pytest.mark.browser]
Open = Callable[..., Page]
Both = tuple[Server, Server]

HELLO = '["hello","id",{"ping":25}]\n'
DEEP = "[" * 100_000
LONG = "x" * 2**20
POSITIONS = "5", "true", "[]", "{}", '""', "null"
GROUPS = '"__proto__"', '"constructor"', '"toString"', '"hasOwnProperty"', '"talk"', '""', "5", "{}"
PAYLOADS = (
    "",
    "null",
    "5",
    "[]",
    "{",
    DEEP,
    '{"count":1}',
    '{"count":"many","present":5}',
    '{"count":1,"present":[null,5,"x",[],{}]}',
    '{"count":1,"present":{"length":9007199254740991}}',
    '{"count":1,"present":[{"key":"__proto__","info":{"__proto__":1},"sockets":-1,"since":"x"}]}',
    '{"count":-1,"left":[{"key":5}],"joined":null}',
    '{"count":1,"left":5,"joined":"abc"}',
    '{"__proto__":{"polluted":1},"count":1,"present":[]}',
)
HEADS = (
    "",
    " ",
    "{}",
    "[]",
    "[null]",
    "5",
    '"m"',
    "[[]]",
    '["m"]',
    '["m",',
    '["nothing that is known",1,2,3]',
    '["__proto__"]',
    '["pong"]',
    '["pong",-1]',
    '["pong","x"]',
    '["pong",1e400]',
    '["hello",5]',
    '["hello","again",{"ping":-1}]',
    DEEP,
    f'["m","{LONG}","{LONG}"]',
    LONG,
    "\U0001f600",
    "\0",
)


def frames() -> Iterator[str | bytes]:
    yield from (head for head in HEADS if head)  # without a line feed
    yield b"\xff\xfe"
    yield b""
    yield b"\xff\xfe\n\xff"
    yield b'["m","talk","\xff"]\n'
    yield from (f"{head}\npayload" for head in HEADS if head)
    yield from (f"{head}\npayload".encode() for head in HEADS if head)
    for group in GROUPS:
        for position in POSITIONS:
            yield f'["m",{group},{position}]\nx'
            yield f'["g",{group},{position}]\n'
            yield from (f'["j",{group},{position},{one}]\n' for one in POSITIONS)
        for payload in PAYLOADS:
            yield f'["j",{group},"a",null]\n{payload}'
            yield f'["p",{group}]\n{payload}'
            yield f'["p",{group}]\n{payload}'.encode()
        yield f'["l",{group}]\n'
        yield f'["l",{group}]\n'


FIRST: list[str | bytes] = [
    "",
    "\n",
    "hello",
    '["hello"]\n',
    '["hello",5]\n',
    '["hello",null,null]\n',
    '["m","talk","a"]\nx',
    b"\xff\n",
    DEEP,
    LONG,
]
SETTINGS = ["", "null", "5", '{"ping":0}', '{"ping":-1}', '{"ping":"x"}', '{"ping":1e400}', "[]"]


@pytest.fixture
def scripted() -> Iterator[Callable[..., str]]:
    """Return a function ``(script, **options) -> URL`` that serves what the script says."""
    ends: list[Callable[[], None]] = []

    def scripted(script: Callable[[ServerConnection], None], **options: Any) -> str:
        options = {"subprotocols": ["django-ws-dispatch.v1"], "compression": None, **options}
        server = serve(script, "127.0.0.1", 0, **options)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        ends.extend([server.shutdown, thread.join])
        return f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"

    yield scripted
    for end in ends:
        end()


def until_it_leaves(connection: ServerConnection) -> None:
    for _ in connection:
        pass


def test_no_frame_is_an_exception_in_the_page(
    open_page: Open, both: Both, scripted: Callable[..., str]
) -> None:
    def script(connection: ServerConnection) -> None:
        connection.send(HELLO)
        for frame in frames():
            connection.send(frame)
        connection.send("\nend")
        until_it_leaves(connection)

    page = open_page(both[0].url, url=scripted(script))
    has(page, "end")
    # What waits behind the gaps is read, too.
    page.wait_for_function(
        "groups => groups.every((one) => heard.some(([, { group }]) => group === one))",
        arg=[json.loads(one) for one in GROUPS[:5]],
    )
    page.wait_for_function("heard.filter(([type]) => type === 'gap').length >= 5")
    assert heard(page, "open") == [{"reopened": False}]
    assert page.evaluate("[socket.state, socket.id, typeof socket.since]") == [
        "open",
        "id",
        "string",
    ]
    assert page.evaluate("'polluted' in {}") is False


def test_what_does_not_begin_with_a_hello_is_a_refusal(
    open_page: Open, both: Both, scripted: Callable[..., str], warnings: list[str]
) -> None:
    left = iter(FIRST)

    def script(connection: ServerConnection) -> None:
        first = next(left, None)
        connection.send(HELLO if first is None else first)
        if first is None:
            connection.send("\nend")
        until_it_leaves(connection)

    page = open_page(both[0].url, url=scripted(script), options=HASTY)
    has(page, "end")
    assert max(each["refusals"] for each in heard(page, "state")) == len(FIRST)  # type: ignore[type-var]
    (line,) = warnings
    assert "plain: true" in line


def test_another_subprotocol_is_a_refusal(
    open_page: Open, both: Both, scripted: Callable[..., str]
) -> None:
    url = scripted(until_it_leaves, select_subprotocol=lambda *_: None)
    page = open_page(both[0].url, url=url, options=HASTY)
    page.wait_for_function("heard.some(([, { refusals }]) => refusals === 3)")
    assert heard(page, "open") == []


def test_settings_of_a_hello_that_make_no_sense_are_none(
    open_page: Open, both: Both, scripted: Callable[..., str]
) -> None:
    left = iter(SETTINGS)

    def script(connection: ServerConnection) -> None:
        settings = next(left, "{}")
        connection.send(f'["hello","id"{settings and f",{settings}"}]\n')
        connection.send("\nopen")
        connection.close(1012)

    page = open_page(both[0].url, url=scripted(script), options=HASTY)
    page.wait_for_function("count => got.length > count", arg=len(SETTINGS))
    assert heard(page, "closed") == []


def token(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_garbled_token_is_as_good_as_none(open_page: Open, both: Both, name: str) -> None:
    group = f"talk:{name}"
    tokens = [
        *("!", "\u00e9", LONG, token(DEEP), DEEP),
        *map(token, (None, 5, [], [group], "text", {group: 5}, {group: ""}, {group: [group]})),
        *map(
            token, ({"": 5}, {"": [5, None, {}]}, {"": [LONG]}, {"__proto__": "a"}, {"other": "a"})
        ),
        token({f"talk:{number}": "a" for number in range(5_000)}),
    ]
    assert max(map(len, tokens)) >= 2**20
    page = open_page(both[0].url, talk=name)
    is_open(page)
    joined = page.evaluate(
        """tokens => Promise.all(tokens.map((since) =>
          new Promise((resolve) => connect(socket.url, { since }).on("joined", resolve))))""",
        [*tokens, token({group: "a"})],
    )
    assert [each["group"] for each in joined] == [group] * (len(tokens) + 1)
    assert [each["recovered"] for each in joined] == [None] * len(tokens) + [False]
    say(page, both[1].url, name, "hello")
    has(page, "hello")


def closed_with(
    page: Page, url: str, sent: list[str | list[int]], protocols: list[str]
) -> list[int]:
    """Return with which code each frame was answered, on a plain WebSocket of its own."""
    codes: list[int] = page.evaluate(
        """([url, frames, protocols]) => Promise.all(frames.map((frame) =>
          new Promise((resolve) => {
            const socket = new WebSocket(url, protocols);
            const data = typeof frame === "string" ? frame : new Uint8Array(frame);
            socket.onopen = () => socket.send(data);
            socket.onmessage = ({ data }) => data === "\\necho" && socket.close(3000);
            socket.onclose = ({ code }) => resolve(code);
            setTimeout(resolve, 30_000, `no answer to ${frame.slice(0, 99)}`);
          })))""",
        [url, sent, protocols],
    )
    return codes


def test_broken_frame_is_answered_with_its_code(open_page: Open, both: Both, name: str) -> None:
    page = open_page(both[0].url, talk=name)
    is_open(page)
    sent: list[str | list[int]] = [
        *("", " ", "no line feed", "{}\n", "[]\n", "5\n", '["m","talk","a"]\nx', '["ping"]\n'),
        *('["ping",1.5]\n', '["ping","1"]\n', '["ping",1,2]\n', '["hello","id",{}]\n', "[[\n"),
        *(f"{LONG}\n", f'["ping",{"1" * 300}]\n', LONG, [255, 254], [255, 10], [0], []),
    ]
    codes = closed_with(page, page.evaluate("socket.url"), sent, ["django-ws-dispatch.v1"])
    assert codes == [4400] * len(sent)


def test_token_of_a_foreign_client_that_is_too_long_is_none(
    open_page: Open, both: Both, name: str
) -> None:
    page = open_page(both[0].url, talk=name)
    is_open(page)
    url = page.evaluate("socket.url")
    for offered in "A" * 6_000, token({f"talk:{name}": "a", "more": "x" * 5_000}):
        protocols = ["django-ws-dispatch.v1", f"since.{offered}"]
        assert closed_with(page, url, ["\necho"], protocols) == [3000]
    # No server reads so much of a head.
    too_long = ["django-ws-dispatch.v1", f"since.{'A' * 1024 * 1024}"]
    assert closed_with(page, url, ["\necho"], too_long) == [1006]
