"""``django-ws-dispatch.v1`` in a site of two processes and a broker: a page that is told of groups,
and one that goes on where it was, whatever has happened to the servers and the broker meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import random
import string
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from websockets import InvalidStatus
from websockets.typing import Subprotocol

from django_ws_dispatch import groups
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group
from tests.kit.server import Server
from tests.kit.valkey import Valkey
from tests.servers.users import cookie
from tests.servers.wire import opened as opened_raw

from .envelope import GROUPS
from .envelope.page import V1, Page, ask, split, token_of, visiting
from .faults.clients import opened
from .test_history import ALL_IS_KEPT
from .test_redis import REDIS_BROKER, use
from .test_redis import ask as ask_broker

pytestmark = [pytest.mark.live, pytest.mark.asyncio]


@pytest_asyncio.fixture(autouse=True)
async def release() -> AsyncIterator[None]:
    """Close what the test itself has on the broker."""
    yield
    await groups.members.aclose()


@contextmanager
def serving(valkey: Valkey, count: int = 2) -> Iterator[list[Server]]:
    """Run so many processes of the site."""
    broker = {"default": {"BACKEND": REDIS_BROKER, "LOCATION": valkey.url}}
    environment = {"WEBSOCKET_BROKERS": json.dumps(broker)}
    servers = [
        Server(settings="tests.live.envelope.settings", environment=environment)
        for _ in range(count)
    ]
    with ExitStack() as stack:
        for server in servers:
            server.start()
            stack.callback(server.kill)
        for server in servers:
            server.wait_until_ready()
        yield servers
        for server in servers:
            server.stop()
            server.check()


@pytest.fixture(scope="module")
def broker() -> Iterator[Valkey]:
    """What tests share that do not end it."""
    with Valkey() as valkey:
        yield valkey


@pytest.fixture(scope="module")
def running(ws: str, broker: Valkey) -> Iterator[list[Server]]:
    with serving(broker) as servers:
        yield servers


@pytest.fixture
def site(running: list[Server]) -> Iterator[list[Server]]:
    """Two processes that tests share which do not end them. No test leaves a traceback."""
    yield running
    for server in running:
        server.check()


@pytest.fixture
def valkey(request: pytest.FixtureRequest, ws: str, settings: Any) -> Iterator[Valkey]:
    """The broker of one test, which the test itself sends through."""
    settings.WEBSOCKET_GROUPS = GROUPS
    with Valkey(arguments=getattr(request, "param", ())) as valkey:
        yield use(valkey, settings)


def name() -> str:
    """Return a name that no other test has."""
    return "".join(random.choices(string.ascii_lowercase, k=12))


def offers(*names: str) -> dict[str, Any]:
    return {"subprotocols": [Subprotocol(one) for one in names]}


def keys(listed: Any) -> list[tuple[str, Any, int]]:
    """Return who is listed; each has been here since some moment."""
    assert all(isinstance(one.pop("since"), float) for one in listed)
    return [(one["key"], one["info"], one["sockets"]) for one in listed]


# What a page is told


async def test_a_page_is_told_of_each_step_in_its_order(site: list[Server]) -> None:
    one, other = site
    group = f"room:{name()}"
    token = await ask(one, f"/token/{group}/")
    async with visiting(one, f"/joins/{group}/ann/") as ann:
        head, payload = await ann.frame()
        start = head[2]
        assert head == ["j", group, start, None]
        assert json.loads(_decoded(token)) == {group: start}
        told = json.loads(payload)
        assert told.pop("count") == 1
        assert keys(told.pop("present")) == [("ann", "ann", 1)]
        assert told == {}
        assert await ann.frame() == (None, "joined None ")
        async with visiting(other, f"/joins/{group}/bob/") as bob:
            head, payload = await bob.frame()
            assert head == ["j", group, start, None]
            told = json.loads(payload)
            assert told["count"] == 2
            assert keys(told["present"]) == [("ann", "ann", 1), ("bob", "bob", 1)]
            assert await bob.frame() == (None, "joined None ")
            head, payload = await ann.frame()
            assert head == ["p", group]
            told = json.loads(payload)
            assert told.pop("count") == 2
            assert told.pop("left") == []
            assert keys(told.pop("joined")) == [("bob", "bob", 1)]
            assert told == {}

            for data in ("text", b"\x00bytes\n", "", "two\nlines"):
                position = await ask(other, f"/say/{group}/", data)
                for page in (ann, bob):
                    assert await page.frame() == (["m", group, position], data)

            await bob.send("out")
            assert await bob.frame() == (["l", group], "")
            assert await bob.frame() == (None, "left")
            head, payload = await ann.frame()
            assert head == ["p", group]
            told = json.loads(payload)
            assert (told["count"], told["joined"]) == (1, [])
            assert [key for key, _, _ in keys(told["left"])] == ["bob"]
            position = await ask(one, f"/say/{group}/", "not for bob")
            assert await ann.frame() == (["m", group, position], "not for bob")
            await bob.send("still here")
            assert await bob.frame() == (None, "still here")

            await bob.send("in")
            head, payload = await bob.frame()
            assert head == ["j", group, position, None]
            assert {key for key, _, _ in keys(json.loads(payload)["present"])} == {"ann", "bob"}
            assert await bob.frame() == (None, "joined None ")
            await ann.sees(group, "ann", "bob")
        await ann.sees(group, "ann")


async def test_a_group_that_is_only_a_name_is_not_named(site: list[Server]) -> None:
    group = f"plain-{name()}"
    async with visiting(site[0], f"/joins/{group}/ann/") as page:
        assert await page.frame() == (None, "joined None ")
        for data in ("text", b"bytes"):
            assert await ask(site[1], f"/say/{group}/", data) == ""
            assert await page.frame() == (None, data)
        await page.send("out")
        assert await page.frame() == (None, "left")


async def test_a_group_without_history_has_no_positions(site: list[Server]) -> None:
    group = f"hall:{name()}"
    async with visiting(site[0], f"/joins/{group}/ann/") as page:
        head, payload = await page.frame()
        assert head == ["j", group, None, None]
        assert json.loads(payload)["count"] == 1
        assert await page.frame() == (None, "joined None ")
        await ask(site[1], f"/say/{group}/", "hello")
        assert await page.frame() == (["m", group, None], "hello")
        await page.send("out")
        assert await page.frame() == (["l", group], "")


async def test_a_group_without_presence_tells_of_nobody(site: list[Server]) -> None:
    group = f"news:{name()}"
    path = f"/joins/{group}/ann/"
    async with visiting(site[0], path) as page, visiting(site[1], path) as other:
        head, payload = await page.frame()
        assert (head[:2], head[3], payload) == (["j", group], None, "")
        assert await page.frame() == (None, "joined None ")
        assert await other.message() == "joined None "
        position = await ask(site[1], f"/say/{group}/", "hello")
        assert await page.frame() == (["m", group, position], "hello")


async def test_each_of_several_groups_is_told_of_before_the_handler_goes_on(
    site: list[Server],
) -> None:
    room, news, hall, plain = (f"{kind}{name()}" for kind in ("room:", "news:", "hall:", "plain-"))
    async with visiting(site[0], f"/joins/{plain},{news},{room},{hall}/ann/") as page:
        heads = [(await page.frame())[0] for _ in range(3)]
        assert sorted(head[1] for head in heads) == sorted([room, news, hall])
        assert [head[0] for head in heads] == ["j"] * 3
        assert await page.frame() == (None, "joined None ")
        await page.send("out")
        heads = [(await page.frame())[0] for _ in range(3)]
        assert sorted(heads) == sorted([["l", room], ["l", news], ["l", hall]])
        assert await page.frame() == (None, "left")


async def test_above_the_cap_the_count_alone_is_told(site: list[Server]) -> None:
    group = f"pair:{name()}"
    pages = [Page() for _ in range(3)]
    async with pages[0].visit(site[0], f"/joins/{group}/0/"):
        async with pages[1].visit(site[1], f"/joins/{group}/1/"):
            for page in pages[:2]:
                await page.sees(group, "0", "1")
            async with pages[2].visit(site[0], f"/joins/{group}/2/"):
                head, payload = await pages[2].frame()
                assert (head[:2], json.loads(payload)) == (["j", group], {"count": 3})
                for page in pages[:2]:
                    head, payload = await page.until("p")
                    assert json.loads(payload) == {"count": 3}
            for page in pages[:2]:
                head, payload = await page.until("p")
                told = json.loads(payload)
                assert told.pop("count") == 2
                assert sorted(keys(told.pop("present"))) == [("0", "0", 1), ("1", "1", 1)]
                assert told == {}
        await pages[0].sees(group, "0")


async def test_what_somebody_says_of_itself_is_told(site: list[Server]) -> None:
    group = f"hall:{name()}"
    path = f"/joins/{group}/"
    async with visiting(site[0], f"{path}ann/") as ann, visiting(site[1], f"{path}bob/") as bob:
        for page in (ann, bob):
            await page.sees(group, "ann", "bob")
        for info in ("is happy", "is of two\nlines é😀"):
            await bob.send(info)
            _, payload = await ann.until("p")
            told = json.loads(payload)
            assert (told["count"], told["left"]) == (2, [])
            assert keys(told["joined"]) == [("bob", info, 1)]


@pytest.mark.parametrize("rest", ['é "\\😀', "\n", "\u2028", "<b>&amp;", "%25", "a b", "\x00"])
async def test_a_group_may_be_called_anything(site: list[Server], rest: str) -> None:
    group = f"room:{rest}{name()}{rest}"
    place = quote(group)
    page = Page()
    token = await ask(site[0], f"/token/{place}/")
    await ask(site[1], f"/say/{place}/", "before")
    async with page.visit(site[0], f"/joins/{place}/{quote(rest)}/", token=token):
        assert await page.message() == "joined True "
        assert page.here == {group: {rest}}
        position = await ask(site[1], f"/say/{place}/", "hello")
        assert await page.until("m") == (["m", group, position], "hello")
        await page.send("out")
        assert await page.until("l") == (["l", group], "")
    assert page.messages == ["before", "hello"]


async def test_plain_clients_and_others_are_in_one_group(site: list[Server]) -> None:
    group = f"room:{name()}"
    path = f"/joins/{group}/ann/"
    async with (
        visiting(site[0], path) as here,
        visiting(site[1], path) as there,
        opened(site[0].url + path) as plain,
        opened(site[1].url + path, compression="deflate") as far,
    ):
        for page in (here, there):
            assert await page.message() == "joined None "
        for socket in (plain, far):
            assert await socket.recv() == "joined None "
        for data in ("text", b"bytes", '["ping",1]\n', ""):
            position = await ask(site[0], f"/say/{group}/", data)
            for page in (here, there):
                assert await page.until("m") == (["m", group, position], data)
            for socket in (plain, far):
                assert await socket.recv() == data
        await plain.send('["ping",1]\n')
        assert await plain.recv() == '["ping",1]\n'
        await here.ping(1)
        assert await here.until("pong") == (["pong", 1], "")


# Users


async def test_a_page_hears_what_is_for_its_user_and_is_not_told_its_key(
    site: list[Server],
) -> None:
    headers = {"additional_headers": {"Cookie": cookie(7)}}
    page = Page()
    async with page.visit(site[0], "/inbox/", **headers):
        assert {(await page.frame())[0][1] for _ in range(2)} == {"<user>", "news:all"}
        assert await page.frame() == (None, "joined visitor 7")
        position = await ask(site[1], "/say-to-user/7/", "hello")
        assert await page.frame() == (["m", "<user>", position], "hello")
        await ask(site[1], "/say-to-user/9/", "not for 7")
    await ask(site[1], "/say-to-user/7/", "meanwhile")
    async with page.visit(site[1], "/inbox/", **headers):
        head, _ = await page.until("j", "<user>")
        assert head == ["j", "<user>", position, True]
        assert (await page.frame())[1] == "meanwhile"
        assert await page.message() == "joined visitor 7"
    assert page.messages == ["hello", "meanwhile"]


async def test_a_token_of_a_users_group_is_for_the_user_alone(site: list[Server]) -> None:
    token = await ask(site[0], "/user-token/11/")
    await ask(site[1], "/say-to-user/11/", "meanwhile")
    page = Page()
    headers = {"Cookie": cookie(11)}
    async with page.visit(site[0], "/inbox/", token=token, additional_headers=headers):
        assert await page.message() == "joined visitor 11"
    assert page.messages == ["meanwhile"]
    # To anybody else it is a position of another group.
    page = Page()
    headers = {"Cookie": cookie(12)}
    async with page.visit(site[0], "/inbox/", token=token, additional_headers=headers):
        assert (await page.until("j", "<user>"))[0][3] is False
        assert await page.message() == "joined visitor 12"
    assert page.messages == []


async def test_another_users_group_is_called_by_its_key_and_none_twice(
    site: list[Server],
) -> None:
    headers = {"additional_headers": {"Cookie": cookie(7)}}
    async with visiting(site[0], "/inboxes/8/", **headers) as page:
        assert {(await page.frame())[0][1] for _ in range(2)} == {"<user>", "8"}
        assert await page.frame() == (None, "joined")
        await page.send("8")
        assert await page.frame() == (None, "ValueError")
        await page.send("<user>")
        assert await page.frame() == (None, "joined")
        position = await ask(site[1], "/say-to-user/8/", "hello")
        assert await page.frame() == (["m", "8", position], "hello")


async def test_a_stranger_is_refused_whatever_it_offers(site: list[Server]) -> None:
    for some in (offers(V1), offers(V1, "since.e30"), {}):
        with pytest.raises(InvalidStatus) as denied:
            async with opened(f"{site[0].url}/inbox/", **some):
                pass
        assert denied.value.response.status_code == 401


# A page that comes back


async def test_a_page_misses_nothing_since_its_token_was_made(site: list[Server]) -> None:
    group, news = f"room:{name()}", f"news:{name()}"
    await ask(site[0], f"/say/{group}/", "before")
    token = await ask(site[0], f"/token/{group},{news}/")
    sent = [await ask(site[1], f"/say/{group}/", f"{number}") for number in range(3)]
    sent_news = await ask(site[1], f"/say/{news}/", b"news")
    page = Page()
    async with page.visit(site[0], f"/joins/{group},{news}/ann/", token=token):
        assert await page.message() == "joined True "
        position = await ask(site[1], f"/say/{group}/", "live")
        assert await page.until("m") == (["m", group, position], "live")
    heads = [head for head, _ in page.frames if head and head[:2] in (["j", group], ["m", group])]
    assert heads[0][3] is True
    assert heads[0][2] not in sent
    assert heads[1:] == [["m", group, one] for one in [*sent, position]]
    assert [head[3] for head, _ in page.frames if head and head[0] == "j"] == [True, True]
    assert page.messages.count(b"news") == 1
    assert page.positions == {group: position, news: sent_news}


async def test_what_it_has_brought_is_for_its_first_join_alone(site: list[Server]) -> None:
    group = f"room:{name()}"
    token = await ask(site[0], f"/token/{group}/")
    await ask(site[1], f"/say/{group}/", "meanwhile")
    page = Page()
    async with page.visit(site[0], f"/joins/{group}/ann/", token=token):
        assert await page.message() == "joined True "
        await page.send("out")
        assert await page.message() == "left"
        assert group not in page.positions
        await ask(site[1], f"/say/{group}/", "while it was out")
        await page.send("in")
        assert (await page.until("j"))[0][3] is None
        assert await page.message() == "joined None "
    assert page.messages == ["meanwhile"]


async def test_what_is_too_old_is_told_and_no_part_of_it_is_replayed(site: list[Server]) -> None:
    group = f"news:{name()}"
    page = Page()
    async with page.visit(site[0], f"/joins/{group}/ann/"):
        assert await page.message() == "joined None "
    for number in range(10):
        position = await ask(site[1], f"/say/{group}/", f"{number}")
    async with page.visit(site[1], f"/joins/{group}/ann/"):
        assert (await page.frame())[0] == ["j", group, position, False]
        assert await page.frame() == (None, f"joined False {group}")
        position = await ask(site[0], f"/say/{group}/", "live")
        assert await page.frame() == (["m", group, position], "live")
    assert page.messages == ["live"]


async def test_what_left_out_a_former_socket_is_left_out_for_the_page(site: list[Server]) -> None:
    group = f"room:{name()}"
    path = f"/joins/{group}/ann/"
    page, other = Page(), Page()
    async with other.visit(site[1], path):
        assert await other.message() == "joined None "
        for number in range(10):
            async with page.visit(site[number % 2], path):
                assert str(await page.message()).startswith("joined")
        for number, id in enumerate(page.ids):
            await ask(site[0], f"/say/{group}/", f"by {number}", socket_id=id)
        await ask(site[0], f"/say/{group}/", "by another", socket_id=other.ids[0])
        async with page.visit(site[0], path):
            assert await page.message() == "joined True "
            # The newest eight are known.
            assert page.messages == ["by 0", "by 1", "by another"]
            for number, id in enumerate(page.ids):
                await ask(site[1], f"/say/{group}/", f"live by {number}", socket_id=id)
            await ask(site[1], f"/say/{group}/", "over")
            # Of itself it is one of the eight, or a ninth.
            while page.messages[-1] != "over":
                await page.frame()
            assert page.messages[3:5] == ["live by 0", "live by 1"]
            assert page.messages[5:] in (["over"], ["live by 2", "over"])
        await other.has(22)
    assert other.messages == [
        *(f"by {number}" for number in range(10)),
        *(f"live by {number}" for number in range(11)),
        "over",
    ]


async def test_a_page_that_comes_and_goes_gets_each_message_once_in_order(
    site: list[Server],
) -> None:
    group = f"room:{name()}"
    page, over, sent = Page(), asyncio.Event(), 0

    async def publish() -> None:
        nonlocal sent
        while not over.is_set():
            await ask(site[sent % 2], f"/say/{group}/", f"{sent}")
            sent += 1

    page.positions[group] = json.loads(_decoded(await ask(site[0], f"/token/{group}/")))[group]
    publishing = asyncio.create_task(publish())
    for number in range(8):
        async with page.visit(site[number % 2], f"/joins/{group}/ann/"):
            await page.has(len(page.messages) + number)
            if number % 3:
                page.socket.transport.abort()
    over.set()
    await publishing
    async with page.visit(site[0], f"/joins/{group}/ann/"):
        assert await page.message() == "joined True "
    assert page.messages == [f"{number}" for number in range(sent)]


# Tokens that are broken or hostile


@pytest.mark.parametrize(
    "value",
    [
        {"room:b": "x", "": []},
        {"room:a": 1, "news:a": None, "": "x"},
        {"room:a": ["x"], "news:a": {}, "": {"a": 1}},
        {"room:a": True, "": [1, None, [], {}]},
        {"room:a": "", "": None},
        {"room:a": "no position", "news:a": "😀", "": ["x" * 1000]},
        {"room:a": "\n", "news:a": "\ud800", "": ["\ud800", ""]},
        {"room:a": "x" * 3000},
        {"<user>": "x", "8": "x"},
        {f"room:{number}": "x" for number in range(200)},
        [],
        [["room:a", "x"]],
        "room:a",
        1,
        None,
        True,
    ],
)
async def test_a_token_with_something_else_in_it_is_as_good_as_none(
    site: list[Server], value: Any
) -> None:
    async with opened(
        f"{site[0].url}/joins/room:a,news:a/ann/", **offers(V1, f"since.{token_of(value)}")
    ) as socket:
        assert socket.subprotocol == V1
        assert split(await socket.recv())[0][0] == "hello"
        told = {}
        for _ in range(2):
            (kind, group, position, recovered), _ = split(await socket.recv())
            assert kind == "j"
            assert isinstance(position, str)
            told[group] = recovered
        # What is no position of this store is one that it has not.
        brought = value if isinstance(value, dict) else {}
        assert told == {
            one: False if isinstance(brought.get(one), str) and brought[one] else None
            for one in ("room:a", "news:a")
        }
        assert split(await socket.recv())[1].startswith("joined")


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "xx.yy",
        "!" * 20,
        "W" * 1000,
        "eyJyb29tOmEiOg",  # half of one
        token_of("[" * 3000)[:4000],
        "W1tbW1tb" * 500,  # deep JSON
        "W1tbW1tb" * 700,
        "eyJhIjo" + "MTEx" * 1200,  # a number of many digits
    ],
)
async def test_a_token_that_can_not_be_read_is_as_good_as_none(
    site: list[Server], token: str
) -> None:
    lines = {"Sec-WebSocket-Protocol": f"{V1}, since.{token}"}
    async with opened_raw(site[0].port, "/joins/news:a/ann/", lines) as wire:
        assert await wire.handshake() == 101
        assert split(await wire.text())[0][0] == "hello"
        head, _ = split(await wire.text())
        assert (head[:2], head[3]) == (["j", "news:a"], None)


async def test_a_token_of_1_mib_is_for_the_server_to_refuse(site: list[Server]) -> None:
    lines = {"Sec-WebSocket-Protocol": f"{V1}, since.{'W' * 1024 * 1024}"}
    async with opened_raw(site[0].port, "/echo/", lines) as wire:
        # uvicorn's own class does not answer at all.
        with suppress(OSError):
            await wire.writer.drain()
        async with opened(f"{site[0].url}/echo/") as socket:
            await socket.send("still here")
            assert await socket.recv() == "still here"


# Servers that are restarted, brokers that forget


@asynccontextmanager
async def sending(group: str) -> AsyncIterator[Callable[[], list[str]]]:
    """Send numbers all the while through a broker that may be away; each is sent once."""
    sent: list[str] = []
    unsure: list[str] = []
    over = asyncio.Event()

    async def send() -> None:
        number = 0
        while not over.is_set():
            try:
                await Group(group).asend(f"{number}")
            except BrokerError:
                unsure.append(f"{number}")
            else:
                sent.append(f"{number}")
            number += 1
            await asyncio.sleep(0.01)

    task = asyncio.create_task(send())
    try:
        yield lambda: sent
    finally:
        over.set()
        await task


async def test_a_page_goes_on_over_a_restart_of_all_servers(valkey: Valkey) -> None:
    group, news = f"room:{name()}", f"news:{name()}"
    path = f"/joins/{group},{news}/ann/"
    page, other = Page(), Page()
    with serving(valkey) as servers:
        async with page.visit(servers[0], path), other.visit(servers[1], path):
            for one in (page, other):
                assert await one.message() == "joined None "
            await Group(group).asend("first")
            for one in (page, other):
                await one.has(1)
            for server in servers:
                await asyncio.to_thread(server.stop)
            for one in (page, other):
                assert await one.closed() == 1012
                assert not [head for head, _ in one.frames if head and head[0] in "lg"]
    await Group(group).asend("from the page itself", exclude=page.ids[0])
    await Group(group).asend("from the other", exclude=other.ids[0])
    await Group(group).asend("from nobody")
    for number in range(10):
        await Group(news).asend(f"news {number}")
    with serving(valkey) as servers:
        async with page.visit(servers[1], path), other.visit(servers[0], path):
            for one in (page, other):
                joins = {}
                while len(joins) < 2:
                    head, _ = await one.until("j")
                    joins[head[1]] = head[3]
                assert joins == {group: True, news: False}
                assert await one.message() == f"joined False {news}"
            await Group(group).asend("live from the page itself", exclude=page.ids[0])
            await Group(group).asend("live")
            await page.has(4)
            await other.has(5)
    assert page.messages == ["first", "from the other", "from nobody", "live"]
    assert other.messages == [
        "first",
        "from the page itself",
        "from nobody",
        "live from the page itself",
        "live",
    ]


async def test_a_group_that_was_forgotten_is_told_of_and_goes_on(valkey: Valkey) -> None:
    group = f"room:{name()}"
    path = f"/joins/{group}/ann/"
    page, other, away = Page(), Page(), Page()
    with serving(valkey) as servers:
        async with away.visit(servers[0], path):
            assert await away.message() == "joined None "
            await Group(group).asend("first")
            await away.has(1)
        async with page.visit(servers[0], path), other.visit(servers[1], path):
            for one in (page, other):
                assert await one.message() == "joined None "
            await Group(group).asend("second")
            for one in (page, other):
                await one.has(1)
            await asyncio.to_thread(ask_broker, valkey, "FLUSHALL")
            await Group(group).asend("third")
            gaps = [(await one.until("g"))[0] for one in (page, other)]
            assert gaps[0] == gaps[1]
            position = await Group(group).asend("fourth")
            for one in (page, other):
                assert await one.until("m") == (["m", group, position], "fourth")
                assert one.messages == ["second", "fourth"]
        await Group(group).asend("fifth")
        # Who was there goes on, and who was not is told.
        async with page.visit(servers[1], path):
            assert await page.message() == "joined True "
            assert page.messages == ["second", "fourth", "fifth"]
        async with away.visit(servers[1], path):
            head, _ = await away.until("j")
            assert head[3] is False
            assert await away.message() == f"joined False {group}"
            assert away.messages == ["first"]
            await Group(group).asend("sixth")
            await away.has(2)
        assert away.messages == ["first", "sixth"]


async def test_where_a_broker_came_back_with_nothing_pages_are_told_before_they_are_closed(
    valkey: Valkey,
) -> None:
    group = f"room:{name()}"
    path = f"/joins/{group}/ann/"
    page = Page()
    with serving(valkey) as servers:
        async with page.visit(servers[0], path):
            assert await page.message() == "joined None "
            await Group(group).asend("first")
            await page.has(1)
            old = page.positions[group]
            for server in servers:
                server.expected += ["Lost the broker"]
            await asyncio.to_thread(valkey.restart)
            # An order to close it may be among what is lost.
            assert await page.closed() == 1012
            heads = [head for head, _ in page.frames if head and head[0] not in "p"]
            assert heads[-1][:2] == ["g", group]
            assert page.positions[group] == heads[-1][2] != old
        for server in servers:
            await asyncio.to_thread(server.wait_for_log, "is back; ")
        await Group(group).asend("second")
        async with page.visit(servers[1], path):
            assert await page.message() == "joined True "
            assert page.messages == ["first", "second"]
        page.positions[group] = old
        async with page.visit(servers[0], path):
            assert (await page.until("j"))[0][3] is False
            assert await page.message() == f"joined False {group}"
    assert page.messages == ["first", "second"]


@pytest.mark.parametrize("valkey", [ALL_IS_KEPT], indirect=True)
@pytest.mark.parametrize("how", ["restarted", "stopped"])
async def test_a_broker_that_was_away_and_has_its_data_costs_a_page_nothing(
    valkey: Valkey, how: str
) -> None:
    group = f"room:{name()}"
    path = f"/joins/{group}/ann/"
    page, other = Page(), Page()
    with serving(valkey) as servers:
        async with page.visit(servers[0], path), other.visit(servers[1], path):
            for one in (page, other):
                assert await one.message() == "joined None "
            async with sending(group) as sent:
                for _ in range(2):
                    for one in (page, other):
                        await one.has(len(one.messages) + 10)
                    for server in servers:
                        server.expected += ["Lost the broker"]
                    if how == "restarted":
                        await asyncio.to_thread(valkey.restart)
                    else:
                        valkey.freeze()
                        await asyncio.sleep(8)
                        valkey.thaw()
            await _sent(group, "last")
            for one in (page, other):
                while one.messages[-1:] != ["last"]:
                    await one.frame()
    for one in (page, other):
        assert not [head for head, _ in one.frames if head and head[0] in "gl"]
        got = [int(str(message)) for message in one.messages[:-1]]
        assert got == sorted(set(got))
        assert {int(number) for number in sent()} <= {*got}


async def _sent(group: str, data: str) -> None:
    """Send, as soon as the broker takes it."""
    while True:
        try:
            await Group(group).asend(data)
            return
        except BrokerError:
            await asyncio.sleep(0.05)


def _decoded(token: str) -> bytes:
    return urlsafe_b64decode(token + "=" * (-len(token) % 4))
