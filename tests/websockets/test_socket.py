"""What everybody but the handler sees of a socket."""

from __future__ import annotations

import pytest
from django.core.exceptions import SynchronousOnlyOperation

from django_ws_dispatch.websockets import WebSocketState

from ..kit.fake_server import hurry, serving

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
