"""Any scope is answered: accepted, or denied for what is wrong with it; never a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import example, given
from hypothesis import strategies as st

from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.routing import path, re_path
from tests.kit.fake_server import no_pages

from .machine import DENIAL, Conversation, judge


async def curious(websocket, **kwargs):
    """Looks at everything that came with the handshake."""
    request = websocket.request
    request.build_absolute_uri()
    request.get_full_path()
    request.is_secure()
    request.get_port()
    list(request.GET.lists())
    list(request.COOKIES.items())
    list(request.headers.items())
    assert request.session.is_empty()
    repr(request)
    repr(websocket)
    str(websocket.state)
    await websocket.accept(next(iter(websocket.subprotocols), None))
    await websocket.send(websocket.path)


async def raw_curious(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})


ROUTES = [
    path("ws/", curious),
    path("ws/<int:number>/", curious),
    path("ws/<slug:name>/<str:rest>", curious),
    re_path("^raw/", raw_curious),
    path("<path:anything>", curious),
]

words = st.sampled_from(["ws", "raw", "1", "a-b", "ü", "%", "%2F", "..", "\x00", "\udcff", " "])
paths = st.one_of(
    st.lists(words, max_size=4).map(lambda parts: "/" + "/".join(parts)),
    st.text(max_size=20),
)
hosts = st.sampled_from(
    [
        b"testserver",
        b"testserver:80",
        b"evil.example",
        b"",
        b"a,b",
        b"\xff",
        b"[::1]:x",
        b"localhost",
    ]
)
origins = st.sampled_from(
    [
        b"http://testserver",
        b"https://testserver",
        b"http://testserver, http://testserver",
        b"null",
        b"",
        b"http://\xe9vil",
        b"http://[",
        b"http://testserver:99999",
        b"http://testserver.evil.example",
    ]
)
names = st.sampled_from(
    [b"cookie", b"x-forwarded-host", b"x-forwarded-proto", b"content-length", b"x", b"", b"\xff"]
)
headers = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([b"host", b"Host"]), hosts),
        st.tuples(st.sampled_from([b"origin", b"Origin"]), origins),
        st.tuples(names, st.binary(max_size=20)),
        st.tuples(st.just(b"cookie"), st.sampled_from([b"sessionid=x", b"=;;", b"sessionid=\xff"])),
    ),
    max_size=5,
)
addresses = st.sampled_from(
    [None, (), ("127.0.0.1", 80), ["127.0.0.1", "80"], ("/run/site.sock", None), ("::1",), "x", 7]
)
scopes = st.fixed_dictionaries(
    {"type": st.just("websocket")},
    optional={
        "path": paths,
        "raw_path": st.one_of(st.none(), st.binary(max_size=10)),
        "root_path": st.sampled_from(["", "/", "/ws", "/ws/", "ws", "//", "/\udcff", None]),
        "query_string": st.one_of(
            st.none(),
            st.binary(max_size=20),
            st.sampled_from([b"%ff", b"a=%zz", b"\xff=1", b"&&="]),
        ),
        "headers": st.one_of(headers, headers.map(lambda pairs: [list(pair) for pair in pairs])),
        "scheme": st.sampled_from(["ws", "wss", "http", "", None, "ftp"]),
        "client": addresses,
        "server": addresses,
        "subprotocols": st.one_of(st.none(), st.lists(st.text(max_size=5), max_size=3)),
        "extensions": st.sampled_from([None, {}, DENIAL, {"tls": {}}]),
        "state": st.sampled_from([None, {}, {"pool": 1}]),
        "http_version": st.sampled_from(["1.1", "2", None]),
        "asgi": st.sampled_from([{}, {"version": "3.0"}]),
    },
)


@pytest.fixture(scope="module")
def serve() -> Iterator[Any]:
    with (
        override_settings(WEBSOCKET_HANDLERS=ROUTES, ALLOWED_HOSTS=["testserver", "127.0.0.1"]),
        asyncio.Runner() as runner,
    ):
        application = WebSocketDispatcher(no_pages)

        def serve(conversation: Conversation) -> None:
            runner.run(conversation.run(application))

        yield serve


@given(scope=scopes)
@example(scope={"type": "websocket"})
def test_any_scope_is_answered(serve, scope):
    before = dict(scope)
    conversation = Conversation(scope, [])
    serve(conversation)
    judge(conversation)
    assert not conversation.errors, conversation.errors
    assert scope == before
    if conversation.sent[0]["type"] == "websocket.http.response.start":
        assert conversation.sent[0]["status"] in (400, 403, 404)


@given(origin=st.binary(min_size=1, max_size=40), scheme=st.sampled_from(["ws", "wss"]))
def test_no_strange_origin_reaches_a_handler(serve, origin, scheme):
    if origin == {"ws": b"http", "wss": b"https"}[scheme] + b"://testserver":
        return
    scope = {
        "type": "websocket",
        "path": "/ws/",
        "scheme": scheme,
        "headers": [(b"host", b"testserver"), (b"origin", origin)],
        "extensions": DENIAL,
    }
    conversation = Conversation(scope, [])
    serve(conversation)
    assert conversation.sent[0].get("status") == 403
