"""What everybody but the handler sees of a socket."""

from __future__ import annotations

import asyncio

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.dispatch import Signal

from django_ws_dispatch.auth.watched import Watched
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.groups.tokens import encode
from django_ws_dispatch.websockets import WebSocket, WebSocketState

from ..kit.fake_server import hurry, only_socket, serving
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    hurry(monkeypatch)


async def test_what_the_handshake_brought():
    async def handler(websocket, room):
        assert room == "7"
        request = websocket.request
        assert request is websocket.request
        assert (request.method, request.path) == ("GET", "/ws/rooms/7/")
        assert request.GET["a"] == "1"
        assert request.COOKIES == {"c": "2"}
        assert request.headers["X-Three"] == "3"
        assert request.get_host() == "testserver"
        assert request.build_absolute_uri("/x/") == "http://testserver/x/"
        assert request.resolver_match.kwargs == {"room": "7"}
        assert request.session is websocket.session
        assert websocket.scope["type"] == "websocket"
        assert websocket.state == {"pool": 1}
        assert len(websocket.id) >= 16
        assert websocket.id == websocket.id
        assert websocket.ready_state is WebSocketState.CONNECTING
        assert websocket.close_code is None
        with pytest.raises(SynchronousOnlyOperation):
            str(websocket.user)
        ids.append(websocket.id)

    ids = []
    for _ in range(2):
        async with serving(
            handler,
            "/ws/rooms/7/",
            route="ws/rooms/<str:room>/",
            scope={
                "query_string": b"a=1",
                "state": {"pool": 1},
                "headers": [(b"host", b"testserver"), (b"cookie", b"c=2"), (b"x-three", b"3")],
            },
        ) as server:
            await server.ended()
    assert len(set(ids)) == 2


async def reads(websocket):
    async for _ in websocket:
        pass


async def test_it_shows_its_path_and_how_it_stands_and_nothing_of_what_it_came_with():
    async with serving(reads, scope={"query_string": b"token=secret"}) as server:
        await server.accepted()
        socket = only_socket()
        assert repr(socket) == "<WebSocket /ws/ OPEN>"
        server.leave()
        await server.ended()
        assert repr(socket) == "<WebSocket /ws/ CLOSED>"


async def test_a_path_is_shown_escaped_and_cut():
    async with serving(any_path, "/ws/\x1b" + "x" * 5000, route="ws/<path:any>") as server:
        await server.accepted()
        path = only_socket().path
        assert path.startswith("/ws/\\x1bxxx")
        assert len(path) < 300


async def any_path(websocket, any):
    await reads(websocket)


async def test_what_the_client_offered_is_a_list_of_the_callers_own():
    async with serving(reads, scope={"subprotocols": ("a", "b")}) as server:
        await server.accepted()
        socket = only_socket()
        socket.subprotocols.append("c")
        assert socket.subprotocols == ["a", "b"]
        assert socket.subprotocol is None


async def test_what_the_client_offered_of_this_package_is_not_in_the_list():
    token = encode({"room:a": "1.2-3"})
    offered = ("a", "django-ws-dispatch.v1", f"since.{token}", "since.other", "b")
    async with serving(reads, scope={"subprotocols": offered}) as server:
        await server.accepted()
        socket = only_socket()
        assert socket.subprotocols == ["a", "b"]
        assert socket.subprotocol is None
        assert socket.scope["subprotocols"] == offered


async def test_where_its_client_says_that_it_is():
    token = encode({"room:a": "1.2-3", "<user>": "4.5-6"}, ["former"])
    offered = ["django-ws-dispatch.v1", f"since.{token}"]
    async with serving(reads, scope={"subprotocols": offered}) as server:
        await server.accepted()
        assert only_socket().since == {"room:a": "1.2-3", "<user>": "4.5-6"}


@pytest.mark.parametrize(
    "offered", [[], ["a"], [f"since.{encode({'a': '1'})}"], ["django-ws-dispatch.v1"]]
)
async def test_a_client_that_brings_nothing_is_nowhere(offered):
    async with serving(reads, scope={"subprotocols": offered}) as server:
        await server.accepted()
        assert only_socket().since == {}


async def test_it_may_be_asked_what_it_came_with_once_it_is_over():
    token = encode({"room:a": "1.2-3"})
    offered = ["a", "django-ws-dispatch.v1", f"since.{token}"]
    async with serving(reads, scope={"subprotocols": offered}) as server:
        await server.accepted()
        socket = only_socket()
        server.leave()
        await server.ended()
        assert (socket.subprotocols, socket.subprotocol) == (["a"], None)
        assert socket.since in ({}, {"room:a": "1.2-3"})


async def test_without_a_lifespan_its_state_is_empty():
    async with serving(reads) as server:
        await server.accepted()
        assert only_socket().state == {}


async def test_it_is_between_reads_while_its_handler_does_something_with_a_message():
    go_on = asyncio.Event()

    async def works(websocket):
        async for _ in websocket:
            await go_on.wait()

    async with serving(works) as server:
        await server.accepted()
        socket = only_socket()
        await until(lambda: socket.connection.reader.is_waiting)
        assert not socket.is_between_reads
        server.message("work")
        await until(lambda: socket.is_between_reads)
        go_on.set()
        await until(lambda: not socket.is_between_reads)


async def test_it_is_over_once_it_is_closing():
    async with serving(reads) as server:
        await server.accepted()
        socket = only_socket()
        assert not socket.is_over
        socket.kick(4000, "enough")
        assert socket.is_over
        assert (socket.close_code, socket.close_reason) == (4000, "enough")


@pytest.mark.parametrize(
    ("client", "same"), [(("10.0.0.1", 1), True), (("10.0.0.2", 1), False), (None, False)]
)
async def test_sockets_of_one_address_are_one_client_until_it_is_known_who_they_are(client, same):
    scope = {"client": ("10.0.0.1", 5)}
    async with serving(reads, scope=scope) as one:
        await one.accepted()
        first = only_socket()
        async with serving(reads, scope={"client": client}) as other:
            await other.accepted()
            (second,) = set(connections.local().sockets) - {first}
            assert (first.lane_client == second.lane_client) is same
            for socket in (first, second):
                socket.watched = Watched(user="7")
            assert first.lane_client == second.lane_client == first.lane_user


async def test_a_user_of_another_namespace_is_another_user():
    async with serving(reads) as server:
        await server.accepted()
        socket = only_socket()
        assert socket.lane_user is None
        socket.watched = Watched(user="7")
        users = set()
        for namespace in ("red", "blue"):
            socket.namespace = namespace
            users.add(socket.lane_user)
        assert len(users) == 2


async def test_what_a_receiver_of_a_signal_raises_is_logged_with_the_path(caplog):
    signal, heard = Signal(), []

    def fails(**named):
        raise LookupError("no statistics")

    def hears(**named):
        heard.append(named)

    signal.connect(fails)
    signal.connect(hears)
    async with serving(reads) as server:
        await server.accepted()
        socket = only_socket()
        await socket.send_signal(signal, code=7)
    (named,) = heard
    assert (named["sender"], named["websocket"], named["code"]) == (WebSocket, socket, 7)
    # Django's own line does not say which socket it was.
    (record,) = (one for one in caplog.records if one.name.startswith("django_ws_dispatch"))
    assert "/ws/" in record.getMessage()
    assert "no statistics" in caplog.text
