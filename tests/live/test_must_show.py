"""What the whole of it has to show on a real server, in numbers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets import ConnectionClosed, InvalidStatus
from websockets.asyncio.client import ClientConnection, connect

from tests.handshake.hostile_origins import hostile_origins, repeated_origins
from tests.kit.server import ROOT, Server
from tests.kit.waiting import DEADLINE

pytestmark = pytest.mark.live

SETTINGS = "tests.live.must_show.settings"
NAME = "must-show"
PREPARE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
User.objects.create_user("ann")
"""


def run(scenario: Callable[[], Coroutine[Any, Any, None]], seconds: float = 600) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await scenario()

    # The clients are not what is tested, and asyncio's debug mode takes most of their time.
    asyncio.run(bounded(), debug=False)


def serve(database: dict[str, Any], **environment: str) -> Server:
    """A server on a new database with one user."""
    environment = {
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "LIVE_DATABASE": json.dumps(database, default=str),
        **environment,
    }
    subprocess.run(
        [sys.executable, "-c", PREPARE], cwd=ROOT, env={**os.environ, **environment}, check=True
    )
    return Server(settings=SETTINGS, environment=environment)


def sqlite(folder: Path) -> dict[str, Any]:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "db.sqlite3")}


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[Server]:
    with serve(sqlite(tmp_path)) as server:
        yield server


class Observer:
    """Looks at the server's connections from a connection of its own."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.most = 0

    def backends(self) -> set[int]:
        rows = self.connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = %s", [NAME]
        )
        pids = {pid for (pid,) in rows}
        self.most = max(self.most, len(pids))
        return pids

    def kill(self) -> set[int]:
        killed = self.backends()
        for pid in killed:
            self.connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        assert not killed & self.backends()
        return killed


@pytest.fixture
def observer(postgres: Any) -> Iterator[Observer]:
    with postgres.connect() as connection:
        connection.execute("CREATE DATABASE must_show")
        yield Observer(connection)
        connection.execute("DROP DATABASE must_show WITH (FORCE)")


@pytest.fixture(params=[0, 600], ids=["CONN_MAX_AGE=0", "CONN_MAX_AGE=600"])
def on_postgres(postgres: Any, observer: Observer, request: Any) -> Iterator[Server]:
    options = {"OPTIONS": {"application_name": NAME}, "CONN_MAX_AGE": request.param}
    with serve({**postgres.settings, "NAME": "must_show", **options}) as server:
        assert not observer.backends()
        yield server


# Origins


async def status_of(server: Server, path: str, origins: tuple[bytes, ...]) -> int:
    """Shake hands by hand, with Origin headers that no library would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        lines = [
            b"GET " + path.encode() + b" HTTP/1.1",
            b"Host: 127.0.0.1:%d" % server.port,
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            b"Cookie: sessionid=0123456789abcdef0123456789abcdef",
            *(b"Origin: " + origin for origin in origins),
        ]
        writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()


def test_ten_thousand_hostile_origins_are_ten_thousand_times_403(tmp_path: Path) -> None:
    engine = "tests.live.must_show.sessions"
    with serve(sqlite(tmp_path), LIVE_SESSION_ENGINE=engine) as server:
        own = server.http_url
        shapes = [(value,) for value in hostile_origins(own).values()]
        assert len(shapes) >= 30
        paths = ["/guarded/", "/raw-guarded/"]
        answers: Counter[int] = Counter()
        attempts = enumerate(itertools.islice(itertools.cycle(shapes), 10_000))

        async def attack() -> None:
            for number, origins in attempts:
                answers[await status_of(server, paths[number % 2], origins)] += 1

        async def scenario() -> None:
            await asyncio.gather(*(attack() for _ in range(20)))
            assert answers == {403: 10_000}
            # Several Origin headers are refused by uvicorn.
            for origins in repeated_origins(own).values():
                assert await status_of(server, paths[0], origins) == 400
            assert server.notes == []
            # The same from the site's own page, so that the notes prove something.
            for path in paths:
                assert await status_of(server, path, (own.encode(),)) == 101

        run(scenario)
        server.wait_for_notes("entered", 2)
        assert "session opened" in server.notes
        assert "session loaded" in server.notes


# Sync work


async def ask(sockets: list[ClientConnection], message: str) -> list[str]:
    for socket in sockets:
        await socket.send(message)
    return [str(await socket.recv()) for socket in sockets]


@contextlib.asynccontextmanager
async def sockets_of(server: Server, count: int, path: str = "/worker/") -> Any:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(connect(server.url + path, proxy=None))
            for _ in range(count)
        ]


async def until_none(look: Callable[[], Awaitable[object]]) -> None:
    for _ in range(400):
        if not await look():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("connections or threads are held")


async def files_of(socket: ClientConnection) -> int:
    return int(*await ask([socket], "files"))


async def threads_of(server: Server) -> int:
    async with sockets_of(server, 1) as sockets:
        return int(*await ask(sockets, "threads"))


async def until_at_most(threads: int, server: Server) -> None:
    async def has_more() -> bool:
        return await threads_of(server) > threads

    await until_none(has_more)


def test_two_hundred_sockets_use_four_connections_of_postgresql(
    on_postgres: Server, observer: Observer
) -> None:
    async def scenario() -> None:
        before = await threads_of(on_postgres)
        async with sockets_of(on_postgres, 20) as few:
            assert await ask(few, "orm") == ["1"] * 20
            async with sockets_of(on_postgres, 180) as more:
                over = asyncio.Event()

                async def observe() -> None:
                    while not over.is_set():
                        await asyncio.to_thread(observer.backends)

                observing = asyncio.create_task(observe())
                for _ in range(5):
                    assert await ask([*few, *more], "orm") == ["1"] * 200
                over.set()
                await observing
                assert 1 <= observer.most <= 4
                await until_at_most(before + 4, on_postgres)

    run(scenario)


def test_every_socket_survives_its_database_backend(
    on_postgres: Server, observer: Observer
) -> None:
    async def scenario() -> None:
        async with sockets_of(on_postgres, 200) as sockets:
            for _ in range(3):
                assert await ask(sockets, "orm") == ["1"] * 200
                observer.kill()
                assert await ask(sockets, "orm") == ["1"] * 200

    run(scenario)


@pytest.mark.parametrize("on_postgres", [0], indirect=True)
def test_no_connection_is_held_a_while_after_the_last_use(
    on_postgres: Server, observer: Observer
) -> None:
    async def scenario() -> None:
        async with sockets_of(on_postgres, 200) as sockets:
            assert await ask(sockets, "orm") == ["1"] * 200
            await until_none(lambda: asyncio.to_thread(observer.backends))
            assert await ask(sockets, "orm") == ["1"] * 200

    run(scenario)


def test_two_hundred_sockets_use_four_connections_of_sqlite(on_sqlite: Server) -> None:
    async def scenario() -> None:
        before = await threads_of(on_sqlite)
        async with sockets_of(on_sqlite, 200) as sockets:
            for _ in range(5):
                assert await ask(sockets, "orm") == ["1"] * 200
                assert 1 <= await files_of(sockets[0]) <= 4
            await until_at_most(before + 4, on_sqlite)
            await until_none(lambda: files_of(sockets[0]))

    run(scenario)


@pytest.mark.parametrize("on_postgres", [0], indirect=True)
def test_three_blocking_sockets_do_not_delay_an_unrelated_one(on_postgres: Server) -> None:
    async def scenario() -> None:
        async with sockets_of(on_postgres, 3) as blocking, sockets_of(on_postgres, 20) as others:
            for socket in blocking:
                await socket.send("block")
            await asyncio.to_thread(on_postgres.wait_for_notes, "blocks", 3)
            for _ in range(5):
                assert await ask(others, "echo") == ["echo"] * 20
                assert await ask(others, "orm") == ["1"] * 20
            # All three still block: they wait for this.
            await others[0].send("release")
            assert [await socket.recv() for socket in blocking] == ["woken"] * 3

    run(scenario)


# Logouts


async def page(server: Server, path: str, cookie: str = "") -> str:
    """Get a page and return the cookie that it sets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        writer.write(f"{request}Cookie: {cookie}\r\n\r\n".encode())
        answer = (await reader.read()).decode()
    finally:
        writer.close()
    assert answer.startswith("HTTP/1.1 200"), answer
    cookies = [line for line in answer.splitlines() if line.lower().startswith("set-cookie:")]
    return cookies[0].partition(":")[2].partition(";")[0].strip() if cookies else ""


@pytest.mark.parametrize("on_postgres", [0], indirect=True)
def test_no_socket_survives_a_thousand_races_of_logout_against_connect(
    on_postgres: Server,
) -> None:
    server = on_postgres
    ends: Counter[int | None] = Counter()
    chance = random.Random(4401)
    head_start = 0.0  # seconds that the logout has: whoever won last gets less of a start

    async def race() -> None:
        nonlocal head_start
        cookie = await page(server, "/login/")
        start = head_start + chance.uniform(-0.01, 0.01)

        async def enter() -> int | None:
            await asyncio.sleep(max(start, 0))
            try:
                headers = {"Cookie": cookie}
                url = f"{server.url}/private/"
                async with connect(url, additional_headers=headers, proxy=None) as socket:
                    with contextlib.suppress(ConnectionClosed):
                        async with asyncio.timeout(DEADLINE):
                            while True:
                                await socket.recv()
                    return socket.close_code
            except InvalidStatus as exc:
                return exc.response.status_code

        async def leave() -> None:
            await asyncio.sleep(max(-start, 0))
            await page(server, "/logout/", cookie)

        end, _ = await asyncio.gather(enter(), leave())
        ends[end] += 1
        head_start += 0.002 if end == 4401 else -0.002

    async def racer() -> None:
        for _ in range(50):
            await race()

    async def scenario() -> None:
        await asyncio.gather(*(racer() for _ in range(20)))
        assert set(ends) <= {401, 4401}, ends
        assert sum(ends.values()) == 1000
        assert min(ends[401], ends[4401]) > 50, f"hardly a race: {ends}"
        async with connect(f"{server.url}/count/", proxy=None) as socket:
            assert await socket.recv() == "0"

    run(scenario)
