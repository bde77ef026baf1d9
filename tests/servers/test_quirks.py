"""What servers can not do, without them: known by the ``send`` that they hand out."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from django_ws_dispatch import servers
from django_ws_dispatch.codes import CloseCode
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.dispatcher.lifespan import Lifespan
from django_ws_dispatch.servers import quirks
from tests.kit.fake_server import hurry, serving
from tests.kit.waiting import until

from .table import PAGE, page


class Stream:
    """As hypercorn's: its context says that the server stops."""

    def __init__(self) -> None:
        self.context = SimpleNamespace(terminated=asyncio.Event())

    async def send(self, event: object) -> None:
        """The server's ``send()``."""


def test_a_server_is_told_to_exit_where_it_handles_the_signal(monkeypatch):
    class Server:
        should_exit = False

        def handle_exit(self, number, frame):
            self.should_exit = True

    server = Server()
    monkeypatch.setattr(quirks.signal, "getsignal", lambda number: server.handle_exit)
    assert not servers.is_told_to_exit()
    server.handle_exit(15, None)
    assert servers.is_told_to_exit()
    for handler in (None, 0, print):
        monkeypatch.setattr(quirks.signal, "getsignal", lambda number, one=handler: one)
        assert not servers.is_told_to_exit()


def test_a_close_code_is_a_plain_int():
    # autobahn, below daphne, compares types.
    assert type(quirks.Daphne(Stream().send, None, {}).close_code(CloseCode.DONE)) is int


def test_a_server_that_waits_for_its_connections_is_known_by_its_context():
    stream = Stream()
    server = quirks.Hypercorn(stream.send, stream, {})
    assert not server.is_stopping
    stream.context.terminated.set()
    assert server.is_stopping


@pytest.mark.asyncio
async def test_sockets_are_closed_with_1012_when_the_server_waits_for_them(monkeypatch):
    told = []

    async def handler(websocket):
        async for _ in websocket:
            pass
        told.append(websocket.close_code)

    hurry(monkeypatch)
    stopping = asyncio.Event()
    monkeypatch.setattr(quirks.Server, "is_stopping", property(lambda self: stopping.is_set()))
    async with serving(handler) as fake:
        await fake.accepted()
        stopping.set()
        await fake.ended()
        assert fake.closed == (1012, "")
    assert told == [1012]


@pytest.mark.asyncio
async def test_handlers_end_before_the_lifespan_where_the_server_does_not_wait(monkeypatch):
    ends = []

    async def handler(websocket, how):
        await websocket.accept()
        try:
            if how == "reads":
                await websocket.receive()
            else:
                await asyncio.sleep(3600)
        finally:
            ends.append(websocket.close_code)

    hurry(monkeypatch, STOP_GRACE=0.02)
    for how in "reads", "sleeps":
        async with serving(handler, f"/{how}/", route="<how>/", server="granian") as fake:
            await fake.accepted()
            await Lifespan(None).stop()
            assert ends.pop() == 1012
            assert fake.closed is None
            await until(lambda: not connections.local().sockets)


def test_the_page_of_the_documentation_is_made_from_the_table():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.servers.table"
