"""Who is here, in a site of several processes that crash, stand still and stop, as brokers do."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
import redis
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from django_ws_dispatch import groups
from django_ws_dispatch.brokers.presence import EXPIRY, PRESENCE, changes_of
from django_ws_dispatch.brokers.redis import RedisBroker
from django_ws_dispatch.groups import Group
from django_ws_dispatch.testing.brokers import Recorder
from tests.kit.server import DEADLINE, Server
from tests.kit.valkey import Valkey
from tests.kit.waiting import until

from .faults.clients import opened
from .presence import FASTER, GROUPS
from .test_history import ALL_IS_KEPT
from .test_redis import REDIS_BROKER, ask, use

pytestmark = [pytest.mark.live, pytest.mark.asyncio]

ROOM, HALL = Group("room:a"), Group("hall:a")


@pytest_asyncio.fixture(autouse=True)
async def release() -> AsyncIterator[None]:
    """Close what the test itself has on the broker."""
    yield
    await groups.members.aclose()


@pytest.fixture
def valkey(request: pytest.FixtureRequest, settings: Any) -> Iterator[Valkey]:
    settings.WEBSOCKET_GROUPS = GROUPS
    with Valkey(arguments=getattr(request, "param", ())) as valkey:
        yield use(valkey, settings)


@asynccontextmanager
async def serving(valkey: Valkey, count: int = 2) -> AsyncIterator[list[Server]]:
    """Run so many processes of the site."""
    broker = {"default": {"BACKEND": REDIS_BROKER, "LOCATION": valkey.url}}
    environment = {"WEBSOCKET_BROKERS": json.dumps(broker)}
    servers = [
        Server(settings="tests.live.presence.settings", environment=environment)
        for _ in range(count)
    ]
    async with AsyncExitStack() as stack:
        for server in servers:
            server.start()
            stack.callback(server.kill)
        for server in servers:
            await asyncio.to_thread(server.wait_until_ready)
        yield servers
        for server in servers:
            await asyncio.to_thread(server.stop)
            server.check()


@asynccontextmanager
async def here(server: Server, key: str, group: Group = ROOM) -> AsyncIterator[ClientConnection]:
    """Be in a group."""
    async with opened(f"{server.url}/ws/here/{group.name}/{key}/") as socket:
        assert await socket.recv() == "here"
        yield socket


class Page:
    """What a page was told of who is here."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    @property
    def left(self) -> list[str]:
        """All who were told to have left."""
        return [key for one in self.told if one != "lost" for key in one["left"]]

    @property
    def joined(self) -> list[str]:
        """All who were told to have come."""
        return [key for one in self.told if one != "lost" for key, _ in one["joined"]]

    @property
    def present(self) -> list[str]:
        """Who is here by now."""
        found: list[str] = self.told[-1]["present"] if self.told and self.told[-1] != "lost" else []
        return found

    async def read(self, socket: ClientConnection) -> None:
        """Go on until the socket is closed."""
        try:
            async for message in socket:
                self.told.append(json.loads(message))
        except ConnectionClosed:
            pass


@asynccontextmanager
async def watching(server: Server, group: Group = ROOM) -> AsyncIterator[Page]:
    """Be told."""
    page = Page()
    async with opened(f"{server.url}/ws/watches/{group.name}/") as socket:
        reading = asyncio.create_task(page.read(socket))
        await until(lambda: page.told)
        yield page
    await reading


async def present(group: Group = ROOM) -> dict[str, int]:
    """What the broker says: how many sockets each has."""
    return {one.key: one.sockets for one in await group.apresent()}


async def shows(expected: dict[str, int], group: Group = ROOM) -> None:
    """Return once the broker says so."""
    async with asyncio.timeout(DEADLINE):
        while await present(group) != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def trackers(valkey: Valkey, group: Group = ROOM) -> dict[str, float]:
    """Those who say who is here, each with the time by which it has to say so again."""
    with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        return dict(client.zrange(f"wsd:{{{group.channel}}}:pp", 0, -1, withscores=True))


def are_silent(valkey: Valkey) -> bool:
    """Whether all of them have said nothing for too long, by the server's clock."""
    seconds, micros = ask(valkey, "TIME")
    return all(end < int(seconds) * 1000 + int(micros) // 1000 for end in trackers(valkey).values())


async def settle(valkey: Valkey, count: int = 2, group: Group = ROOM) -> None:
    """Return once the grace is over, and so many have said twice that they are here."""
    await until(lambda: not ask(valkey, "EXISTS", f"wsd:{{{group.channel}}}:pg"))
    for _ in range(2):
        before = trackers(valkey, group)

        def have_spoken(before: dict[str, float] = before) -> bool:
            now = trackers(valkey, group)
            return len(now) == count and all(end > before.get(one, 0) for one, end in now.items())

        await until(have_spoken)


# A process


async def test_a_process_that_is_killed_is_told_of_once(valkey: Valkey) -> None:
    broker, recorder = RedisBroker("default", valkey.url, {}), Recorder()
    ready = broker.subscriber(recorder).subscribe(ROOM.channel)
    if ready is not None:
        await ready
    async with (
        serving(valkey, 3) as (dies, first, second),
        here(first, "bob"),
        watching(first) as page,
        watching(second) as other,
        here(dies, "ann"),
        here(dies, "ann"),
        here(dies, "bob"),
    ):
        await until(lambda: page.present == other.present == ["bob", "ann"])
        assert await present() == {"bob": 2, "ann": 2}
        dies.kill()
        await until(lambda: page.left and other.left)
        await shows({"bob": 1})
        # Those who are left go on saying so; nobody tells of it again.
        await settle(valkey)
    assert page.left == other.left == ["ann"]
    told = [changes_of(one[len(PRESENCE) :]) for one in recorder.messages(ROOM.channel)]
    assert [one.left for one in told if "ann" in one.left] == [["ann"]]
    await broker.aclose()
    broker.close()


async def test_a_process_that_stood_still_enters_anew(valkey: Valkey) -> None:
    async with (
        serving(valkey) as (stands, other),
        here(stands, "ann") as ann,
        here(other, "bob"),
        watching(other) as page,
        watching(stands) as own,
    ):
        await until(lambda: page.present == own.present == ["ann", "bob"])
        stands.send_signal(signal.SIGSTOP)
        await until(lambda: page.left)
        assert await present() == {"bob": 1}
        stands.send_signal(signal.SIGCONT)
        await until(lambda: page.present == own.present == ["bob", "ann"])
        assert await present() == {"bob": 1, "ann": 1}
        # Nothing has happened to the socket.
        await ann.send("still here")
        assert await ann.recv() == "updated"
        await settle(valkey)
    assert page.left == ["ann"]
    assert own.left in ([], ["ann"])


async def test_where_all_stood_still_nobody_has_left(valkey: Valkey) -> None:
    async with (
        serving(valkey) as servers,
        here(servers[0], "ann"),
        here(servers[1], "bob"),
        watching(servers[0]) as page,
        watching(servers[1]) as other,
    ):
        await until(lambda: page.present == other.present == ["ann", "bob"])
        for server in servers:
            server.send_signal(signal.SIGSTOP)
        await until(lambda: are_silent(valkey))
        assert await present() == {}
        for server in servers:
            server.send_signal(signal.SIGCONT)
        await shows({"ann": 1, "bob": 1})
        await settle(valkey)
        assert await present() == {"ann": 1, "bob": 1}
    assert page.left == other.left == []


async def test_who_is_to_come_back_from_a_process_that_stops_stays(valkey: Valkey) -> None:
    async with serving(valkey) as (stops, other), watching(other) as page:
        async with here(stops, "eve"):
            pass  # she loads the page again: it is she who left
        async with here(stops, "ann") as ann, here(stops, "bob"):
            await until(lambda: page.joined == ["eve", "ann", "bob"])
            await asyncio.to_thread(stops.stop)
            with pytest.raises(ConnectionClosed) as closed:
                await ann.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        await shows({"eve": 0, "ann": 0, "bob": 0})
        async with here(other, "ann"):
            await shows({"eve": 0, "ann": 1, "bob": 0})
            await settle(valkey, 1)
            assert await present() == {"eve": 0, "ann": 1, "bob": 0}
    assert page.left == []
    assert page.joined == ["eve", "ann", "bob"]


async def test_who_does_not_come_back_from_it_leaves_after_a_while(valkey: Valkey) -> None:
    async with serving(valkey) as (stops, other), watching(other, HALL) as page:
        async with here(stops, "ann", HALL), here(stops, "bob", HALL):
            await until(lambda: page.joined == ["ann", "bob"])
            await asyncio.to_thread(stops.stop)
        async with here(other, "bob", HALL):
            await until(lambda: page.left)
            await shows({"bob": 1}, HALL)
        await until(lambda: page.left == ["ann", "bob"])
    assert page.present == []


async def test_where_the_last_process_stops_too_who_lingers_is_shown(valkey: Valkey) -> None:
    async with serving(valkey, 1) as (server,):
        async with here(server, "ann"):
            assert await present() == {"ann": 1}
            await asyncio.to_thread(server.stop)
        assert await present() == {"ann": 0}
        assert trackers(valkey) == {}
    async with serving(valkey, 1) as (server,), watching(server) as page:
        assert page.present == ["ann"]


async def test_a_page_that_goes_on_with_another_process_has_not_left(valkey: Valkey) -> None:
    async with (
        serving(valkey) as servers,
        watching(servers[0]) as page,
        watching(servers[1]) as other,
    ):
        for number in range(6):
            async with here(servers[number % 2], "ann") as ann:
                await ann.send(f"{number}")
                assert await ann.recv() == "updated"
                await shows({"ann": 1})
            await shows({"ann": 0})
        await settle(valkey)
    assert page.left == other.left == []
    assert set(page.joined) == {"ann"}


# The broker


@pytest.mark.parametrize("valkey", [ALL_IS_KEPT], indirect=True)
async def test_a_broker_that_was_away_and_has_its_data_tells_of_nobody(valkey: Valkey) -> None:
    async with (
        serving(valkey) as servers,
        here(servers[0], "ann"),
        here(servers[1], "bob"),
        here(servers[1], "ann"),
        watching(servers[0]) as page,
        watching(servers[1]) as other,
    ):
        async with here(servers[0], "eve"):
            await until(lambda: len(page.present) == len(other.present) == 3)
            await shows({"ann": 2, "bob": 1, "eve": 1})
            for server in servers:
                server.expected += ["Lost the broker"]
            valkey.kill()
            # All of them are silent for too long; she has left meanwhile, and lingers.
            await asyncio.sleep(EXPIRY / FASTER + 1)
        await asyncio.to_thread(valkey.start)
        await shows({"ann": 2, "bob": 1, "eve": 0})
        await settle(valkey)
        assert await present() == {"ann": 2, "bob": 1, "eve": 0}
    for one in (page, other):
        assert "lost" not in one.told
        assert one.left == []
        assert sorted(one.joined) == ["ann", "bob", "eve"]


async def test_a_broker_that_has_forgotten_all_tells_of_nobody(valkey: Valkey) -> None:
    async with (
        serving(valkey) as servers,
        here(servers[0], "ann"),
        here(servers[1], "bob"),
        here(servers[1], "ann"),
        watching(servers[0]) as page,
        watching(servers[1]) as other,
    ):
        await until(lambda: len(page.present) == len(other.present) == 2)
        await shows({"ann": 2, "bob": 1})
        for server in servers:
            server.expected += ["Lost the broker"]
        await asyncio.to_thread(valkey.restart)
        await until(lambda: "lost" in page.told and "lost" in other.told)
        await shows({"ann": 2, "bob": 1})
        await settle(valkey)
        await until(lambda: len(page.present) == len(other.present) == 2)
        assert await present() == {"ann": 2, "bob": 1}
    for one in (page, other):
        assert one.left == []
        # A list that is told anew is whole: nobody is missing who has not left.
        first = one.told[one.told.index("lost") + 1]
        assert sorted(first["present"]) == ["ann", "bob"]


async def test_a_broker_that_went_back_is_told_who_is_here(valkey: Valkey) -> None:
    async with (
        serving(valkey) as servers,
        watching(servers[0], HALL) as page,
        watching(servers[1], HALL) as other,
    ):
        async with here(servers[0], "ann", HALL), here(servers[1], "joe", HALL):
            await until(lambda: len(page.present) == len(other.present) == 2)
            await asyncio.to_thread(ask, valkey, "SAVE")
        await until(lambda: len(page.left) == len(other.left) == 2)
        async with here(servers[0], "bob", HALL), here(servers[1], "eve", HALL):
            await until(lambda: {*page.present} == {*other.present} == {"bob", "eve"})
            for server in servers:
                server.expected += ["Lost the broker"]
            await asyncio.to_thread(valkey.restart)
            await shows({"bob": 1, "eve": 1}, HALL)
            await settle(valkey, group=HALL)
            await until(lambda: {*page.present} == {*other.present} == {"bob", "eve"})
            assert await present(HALL) == {"bob": 1, "eve": 1}
            # Those who had left may be seen once more, while all of them come back.
            assert not {"bob", "eve"} & {*page.left, *other.left}


async def test_a_broker_that_stood_still_tells_of_nobody(valkey: Valkey) -> None:
    async with (
        serving(valkey) as servers,
        here(servers[0], "ann"),
        here(servers[1], "bob"),
        watching(servers[0]) as page,
        watching(servers[1]) as other,
    ):
        await until(lambda: len(page.present) == len(other.present) == 2)
        for server in servers:
            server.expected += ["Lost the broker"]
        valkey.freeze()
        await asyncio.sleep(EXPIRY / FASTER + 1)
        valkey.thaw()
        await shows({"ann": 1, "bob": 1})
        await settle(valkey)
        assert await present() == {"ann": 1, "bob": 1}
    for one in (page, other):
        assert "lost" not in one.told
        assert one.left == []
