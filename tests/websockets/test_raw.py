"""The raw form: an ASGI application that is mounted unchanged."""

from __future__ import annotations

import asyncio

import pytest
from django.urls import re_path

from django_ws_dispatch.decorators import asgi_handler, subprotocols
from django_ws_dispatch.exceptions import WebSocketDisconnect

from ..handlers import raw_ping
from ..kit.fake_server import HABITS, hurry, only_socket, serving
from ..kit.members import text as text_message
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio

every_server = pytest.mark.parametrize("server_name", HABITS)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    hurry(monkeypatch)


@every_server
async def test_the_handler_that_a_site_has_written_by_hand_mounts_unchanged(server_name, caplog):
    async with serving(raw_ping, server=server_name) as server:
        server.message("ping", "other", b"ping", "ping")
        assert await server.sends(2) == ["pong!", "pong!"]
        server.leave()
        await server.ended()
        assert server.types == ["accept", "send", "send"]
    assert not caplog.records


@every_server
async def test_events_come_in_order_connect_messages_disconnect(server_name):
    async def handler(scope, receive, send):
        events.append(await receive())
        await send({"type": "websocket.accept"})
        while events[-1]["type"] != "websocket.disconnect":
            events.append(await receive())
        with pytest.raises(WebSocketDisconnect):
            await receive()

    events = []
    async with serving(handler, server=server_name) as server:
        server.message("a", b"b")
        await until(lambda: len(events) == 3)
        server.leave(4001, "bye")
        await server.ended()
    assert events == [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "a"},
        {"type": "websocket.receive", "bytes": b"b"},
        {"type": "websocket.disconnect", "code": 4001, "reason": "bye"},
    ]


async def test_one_that_accepts_before_it_receives_is_told_of_the_connect_first():
    async def handler(scope, receive, send):
        await send({"type": "websocket.accept"})
        while not events or events[-1]["type"] != "websocket.disconnect":
            events.append(await receive())

    events = []
    async with serving(handler) as server:
        server.message("a")
        await until(lambda: len(events) == 2)
        server.leave()
        await server.ended()
    assert [event["type"] for event in events] == [
        "websocket.connect",
        "websocket.receive",
        "websocket.disconnect",
    ]


async def test_messages_that_were_read_ahead_come_as_events():
    async def handler(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await go.wait()
        events.extend([await receive(), await receive()])

    go = asyncio.Event()
    events = []
    async with serving(handler) as server:
        server.message("a", b"b")
        await until(lambda: not server.unread)
        go.set()
        await server.ended()
    assert events == [
        {"type": "websocket.receive", "text": "a"},
        {"type": "websocket.receive", "bytes": b"b"},
    ]


async def test_a_second_receive_at_once_raises_runtime_error():
    async def handler(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        first = asyncio.create_task(receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="read already"):
            await receive()
        await first

    async with serving(handler) as server:
        await server.accepted()
        await asyncio.sleep(0.01)
        server.message("x")
        await server.ended()


@pytest.mark.parametrize(
    "event",
    [
        {"type": "websocket.send", "text": "early"},
        {"type": "websocket.http.response.body", "body": b""},
        {"type": "http.response.body", "body": b""},
        {"type": "websocket.nonsense"},
    ],
    ids=lambda event: event["type"],
)
async def test_before_the_accept_only_an_answer_may_be_sent(event):
    async def handler(scope, receive, send):
        await receive()
        with pytest.raises(RuntimeError, match="handshake"):
            await send(event)

    async with serving(handler) as server:
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] == 403


async def test_an_answer_as_to_a_page_is_a_denial(caplog):
    async def handler(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 404, "headers": [(b"x-a", b"b")]})
        await send({"type": "http.response.body", "body": b"Not Found"})

    async with serving(handler) as server:
        await server.ended()
        assert server.types == ["http.response.start", "http.response.body"]
        assert server.denied is not None
        assert server.denied[0] == 404
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("kind", ["websocket.accept", "websocket.http.response.start"])
async def test_after_the_accept_no_second_answer_may_be_sent(kind):
    async def handler(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        with pytest.raises(RuntimeError, match="accepted"):
            await send({"type": kind, "status": 200})

    async with serving(handler) as server:
        await server.ended()
        assert server.types == ["accept", "close"]


async def test_an_accept_goes_out_as_it_is():
    async def handler(scope, receive, send):
        await receive()
        await send(accept)

    accept = {"type": "websocket.accept", "subprotocol": "v1", "headers": [(b"x-one", b"1")]}
    async with serving(handler, scope={"subprotocols": ["v1"]}) as server:
        await server.ended()
        assert server.sent[0] == accept


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["v3", "v2", "v1"], "v2"), (["v3"], None), ([], None)]
)
async def test_an_accept_that_names_no_subprotocol_gets_the_first_declared_one(offered, chosen):
    @subprotocols("v1", "v2")
    async def handler(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept", "headers": []})

    async with serving(handler, scope={"subprotocols": offered}) as server:
        await server.ended()
        assert server.sent[0].get("subprotocol") == chosen


@pytest.mark.parametrize("header", [(b"x", b"a\r\nset-cookie: b=1"), (b"x\0", b"a"), (b"", b"a")])
async def test_an_accept_with_a_header_that_can_not_be_sent_is_a_value_error(header):
    async def handler(scope, receive, send):
        await receive()
        with pytest.raises(ValueError, match="can be sent"):
            await send({"type": "websocket.accept", "headers": [header]})
        await send({"type": "websocket.accept", "headers": None})

    async with serving(handler) as server:
        await server.ended()
        assert server.types == ["accept", "close"]


@every_server
async def test_a_close_before_the_accept_is_a_403(server_name):
    async def handler(scope, receive, send):
        await receive()
        await send({"type": "websocket.close", "code": 4000})

    async with serving(handler, server=server_name) as server:
        await server.ended()
        if server.habits.extensions:
            assert server.denied is not None
            assert server.denied[0] == 403
        else:
            assert server.types == ["close"]


async def test_a_denial_of_its_own_reaches_the_client_whole():
    async def handler(scope, receive, send):
        await receive()
        await send(
            {
                "type": "websocket.http.response.start",
                "status": 402,
                "headers": [
                    (b"X-Why", b"money"),
                    (b"set-cookie", b"a=1; Path=/; HttpOnly"),
                    (b"set-cookie", b"b=2"),
                ],
            }
        )
        await send({"type": "websocket.http.response.body", "body": b"pay ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"first"})

    async with serving(handler) as server:
        await server.ended()
        assert server.denied == (402, b"pay first")
        headers = server.sent[0]["headers"]
        assert (b"x-why", b"money") in headers
        cookies = sorted(value for name, value in headers if name == b"set-cookie")
        assert [cookie.split(b";")[0] for cookie in cookies] == [b"a=1", b"b=2"]
        assert b"HttpOnly" in cookies[0]


DENIAL = {"type": "websocket.http.response.start", "status": 403}


async def test_the_cookies_of_a_denial_go_out_as_they_are():
    async def handler(scope, receive, send):
        await receive()
        await send({**DENIAL, "headers": cookies})
        await send({"type": "websocket.http.response.body"})

    cookies = [
        (b"set-cookie", b"sid=; Path=/a; Max-Age=0"),
        (b"set-cookie", b"sid=; Path=/; Max-Age=0"),
        (b"set-cookie", b"p=1; Path=/; Secure; Partitioned"),
        (b"set-cookie", b'prefs={"a": 1}; Path=/'),
    ]
    async with serving(handler) as server:
        await server.ended()
        assert server.denied == (403, b"")
        assert server.sent[0]["headers"] == [*cookies, (b"content-length", b"0")]
    granian = {"extensions": {"websocket.http.response": {}, "http.response.pathsend": {}}}
    async with serving(handler, scope=granian) as server:
        await server.ended()
        assert server.sent[0]["headers"] == [cookies[-1], (b"content-length", b"0")]


async def test_a_denial_has_other_headers_once_and_none_of_the_connection():
    async def handler(scope, receive, send):
        await receive()
        await send({**DENIAL, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    headers = [
        (b"Vary", b"Cookie"),
        (b"vary", b"Origin"),
        (b"Connection", b"close"),
        (b"Content-Length", b"7"),
    ]
    async with serving(handler) as server:
        await server.ended()
        assert server.sent[0]["headers"] == [
            (b"vary", b"Cookie, Origin"),
            (b"content-length", b"2"),
        ]


@pytest.mark.parametrize("header", [(b"x", b"a\r\nset-cookie: b=1"), (b"set-cookie", b"a=\0")])
async def test_a_denial_with_a_header_that_can_not_be_sent_is_a_value_error(header):
    async def handler(scope, receive, send):
        await receive()
        with pytest.raises(ValueError, match="can be sent"):
            await send({**DENIAL, "headers": [header]})
        await send({**DENIAL, "headers": None})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    async with serving(handler) as server:
        await server.ended()
        assert server.denied == (403, b"no")


@every_server
async def test_send_on_a_closed_socket_raises_an_oserror(server_name):
    async def handler(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000, "reason": "enough"})
        with pytest.raises(OSError, match="4000 enough"):
            await send({"type": "websocket.send", "text": "late"})
        await send({"type": "websocket.close", "code": 4001})

    async with serving(handler, server=server_name) as server:
        await server.ended()
        assert server.types == ["accept", "close"]
        assert server.closed == (4000, "enough")


async def test_a_close_without_a_code_or_reason_is_1000():
    async def handler(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": None, "reason": None})

    async with serving(handler) as server:
        await server.ended()
        assert server.closed == (1000, "")


async def test_a_close_code_that_may_not_be_sent_is_a_value_error():
    async def handler(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        with pytest.raises(ValueError, match="close code"):
            await send({"type": "websocket.close", "code": 1006})

    async with serving(handler) as server:
        await server.ended()
        assert server.closed == (1000, "")


async def test_group_messages_reach_a_socket_whose_handler_is_raw():
    async with serving(raw_ping) as server:
        await server.accepted()
        only_socket().connection.writer.deliver(text_message("news", 4))
        server.message("ping")
        assert await server.sends(2) == ["news", "pong!"]


async def test_the_scope_is_a_copy_with_the_arguments_of_the_route():
    async def handler(scope, receive, send):
        seen.append(scope)
        scope["mine"] = True
        await receive()

    seen = []
    async with serving(handler, "/ws/a/b/", route="ws/<str:one>/<str:two>/") as server:
        await server.ended()
        assert seen[0]["url_route"] == {"args": (), "kwargs": {"one": "a", "two": "b"}}
        assert "mine" not in server.scope
        assert "url_route" not in server.scope


@pytest.mark.parametrize(
    ("root_path", "path", "expected"),
    [
        ("", "/mount/deep/er/", ("/mount", "/mount/deep/er/")),
        ("/sub", "/sub/mount/deep/", ("/sub/mount", "/sub/mount/deep/")),  # as uvicorn has it
        ("/sub", "/mount/deep/", ("/sub/mount", "/sub/mount/deep/")),  # as the others have it
        ("", "/mount/", ("/mount", "/mount/")),
    ],
)
async def test_an_unanchored_re_path_is_a_mount(root_path, path, expected):
    async def handler(scope, receive, send):
        seen.append((scope["root_path"], scope["path"]))
        await receive()

    seen = []
    async with serving(
        None, path, route=[re_path("mount/", handler)], scope={"root_path": root_path}
    ) as server:
        await server.ended()
    assert seen == [expected]


async def test_an_anchored_re_path_is_no_mount():
    async def handler(scope, receive, send):
        seen.append((scope["root_path"], scope["path"], scope["url_route"]))
        await receive()

    seen = []
    async with serving(None, "/r/7/", route=[re_path(r"r/(\d+)/$", handler)]) as server:
        await server.ended()
    assert seen == [("", "/r/7/", {"args": ("7",), "kwargs": {}})]


async def test_an_object_with_an_async_call_is_an_application():
    class Application:
        async def __call__(self, scope, receive, send):
            await raw_ping(scope, receive, send)

    async with serving(asgi_handler(Application())) as server:
        server.message("ping")
        assert await server.sends(1) == ["pong!"]


async def test_a_raw_handler_that_is_busy_after_a_read_may_finish(monkeypatch):
    async def handler(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        busy.set()
        await go.wait()
        got.append(await receive())
        got.append(await receive())

    busy, go, got = asyncio.Event(), asyncio.Event(), []
    async with serving(handler) as server:
        server.message("work")
        await busy.wait()
        server.message("left over")
        server.leave(1001)
        await until(lambda: only_socket().close_code == 1001)
        await asyncio.sleep(0.05)
        go.set()
        await server.ended()
    assert got == [
        {"type": "websocket.receive", "text": "left over"},
        {"type": "websocket.disconnect", "code": 1001, "reason": ""},
    ]
