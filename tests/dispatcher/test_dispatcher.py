"""One scope type each to Django, to the lifespan, to a handler."""

from __future__ import annotations

import inspect

import pytest
from asgiref.compatibility import is_double_callable
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import got_request_exception
from django.test import override_settings
from django.urls import get_script_prefix, include, reverse
from django.urls import path as django_path

from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.routing import path, re_path

from ..handlers import ping
from ..kit.fake_server import HABITS, FakeServer, hurry, serving

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    hurry(monkeypatch)


async def nothing(scope, receive, send):
    raise AssertionError("not called")


# http, and what is neither


async def test_http_passes_with_the_very_same_objects():
    calls = []

    async def pages(scope, receive, send):
        calls.append((scope, receive, send))

    async def receive():
        raise AssertionError("not called")

    async def send(event):
        raise AssertionError("not called")

    scope = {"type": "http", "path": "/"}
    await WebSocketDispatcher(pages)(scope, receive, send)
    assert calls[0][0] is scope
    assert calls[0][1] is receive
    assert calls[0][2] is send
    assert scope == {"type": "http", "path": "/"}


async def test_servers_take_it_for_an_asgi_3_application():
    dispatcher = WebSocketDispatcher(nothing)
    # As hypercorn asks, and as asgiref does for daphne.
    assert inspect.iscoroutinefunction(dispatcher.__call__)
    assert not is_double_callable(dispatcher)


@pytest.mark.parametrize("kind", ["telnet", "", "webtransport"])
async def test_another_type_of_scope_is_a_value_error_that_says_so(kind):
    with pytest.raises(ValueError, match="http, websocket and lifespan"):
        await WebSocketDispatcher(nothing)({"type": kind}, None, None)


async def test_a_wrong_setting_stops_the_building_of_the_application():
    for settings in (
        {"WEBSOCKET_HANDLERS": {"ws/": "tests.handlers.missing"}},
        {"WEBSOCKET_RATE_LIMIT": "fast"},
        {"WEBSOCKET_LIFESPAN": "tests.handlers.ping"},
        {"WEBSOCKET_MIDDLEWARE": ["tests.missing"]},
        {"WEBSOCKET_MAX_MESSAGE_SIZE": 0},
    ):
        with (
            override_settings(**settings),
            pytest.raises(ImproperlyConfigured, match=next(iter(settings))),
        ):
            WebSocketDispatcher(nothing)


async def test_changed_settings_count_from_the_next_connection_on():
    dispatcher = WebSocketDispatcher(nothing)
    for route in ("one/", "two/"):
        with override_settings(WEBSOCKET_HANDLERS={route: ping}):
            server = FakeServer(dispatcher, f"/{route}").start()
            server.message("ping")
            assert await server.sends(1) == ["pong!"]
            server.leave()
            await server.ended()


async def test_the_scope_is_not_touched():
    async with serving(ping, scope={"root_path": "/sub"}, path="/sub/ws/") as server:
        before = dict(server.scope)
        server.message("ping")
        await server.sends(1)
        assert server.scope == before


# Routes


@pytest.mark.parametrize("server_name", HABITS)
async def test_an_unknown_path_is_denied_with_404_and_one_line(server_name, caplog):
    async with serving(ping, "/other/", server=server_name) as server:
        await server.ended()
        if server.habits.extensions:
            assert server.denied is not None
            assert server.denied[0] == 404
        else:
            assert server.types == ["close"]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert (record.path, record.status_code) == ("/other/", 404)


async def test_what_a_route_captures_are_the_arguments():
    async def handler(websocket, *args, **kwargs):
        calls.append((args, kwargs))

    calls = []
    routes = [
        path("a/<slug:room>/<int:number>/", handler, {"more": True}),
        re_path(r"b/(?P<room>\w+)/$", handler),
        re_path(r"c/(\w+)/(\d+)/$", handler),
        django_path("d/<str:outer>/", include([path("<str:inner>/", handler)])),
    ]
    for asked in ("/a/x-y/7/", "/b/x/", "/c/x/7/", "/d/x/y/"):
        async with serving(None, asked, route=routes) as server:
            await server.ended()
    assert calls == [
        ((), {"room": "x-y", "number": 7, "more": True}),
        ((), {"room": "x"}),
        (("x", "7"), {}),
        ((), {"outer": "x", "inner": "y"}),
    ]


@pytest.mark.parametrize(
    ("root_path", "asked", "found"),
    [
        ("", "/ws/", True),
        ("/sub", "/sub/ws/", True),
        ("/sub/", "/sub/ws/", True),
        ("/sub", "/ws/", True),
        ("/sub", "/subws/", False),
        ("/su", "/sub/ws/", False),
        (None, "/ws/", True),
    ],
)
async def test_the_root_path_is_stripped_at_a_boundary(root_path, asked, found):
    async def handler(websocket):
        await websocket.send(websocket.request.path)

    async with serving(handler, asked, scope={"root_path": root_path}) as server:
        await server.ended()
        if found:
            assert server.data == [(root_path or "").rstrip("/") + "/ws/"]
        else:
            assert server.denied is not None
            assert server.denied[0] == 404


async def test_the_script_prefix_is_set_for_the_handler_and_for_nobody_else():
    async def handler(websocket):
        await websocket.send(get_script_prefix())
        await websocket.send(reverse("page"))

    async with serving(handler, "/sub/ws/", scope={"root_path": "/sub"}) as server:
        await server.ended()
        assert server.data == ["/sub/", "/sub/page/"]
    assert get_script_prefix() == "/"
    async with serving(handler) as server:
        await server.ended()
        assert server.data == ["/", "/page/"]


async def test_routes_of_no_path_at_all():
    async def handler(websocket):
        await websocket.send("here")

    for route, asked, found in (
        ("", "/", True),
        ("", "/ws/", False),
        ([re_path("", handler)], "/any/thing/", True),
    ):
        async with serving(handler, asked, route=route) as server:
            await server.ended()
            assert server.data == ["here"] * found


# The handshake


async def test_a_host_that_is_not_allowed_is_a_400_even_without_a_route():
    for asked in ("/ws/", "/other/"):
        async with serving(ping, asked, scope={"headers": [(b"host", b"evil.example")]}) as server:
            await server.ended()
            assert server.denied is not None
            assert server.denied[0] == 400


async def test_an_origin_of_another_site_is_a_403():
    headers = [(b"host", b"testserver"), (b"origin", b"http://evil.example")]
    async with serving(ping, scope={"headers": headers}) as server:
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] == 403


async def test_a_client_that_is_gone_before_the_connect_is_nobodys_error(caplog):
    server = FakeServer(WebSocketDispatcher(nothing))
    await server.receive()
    server.feed({"type": "websocket.disconnect", "code": 1006})
    server.start()
    await server.ended()
    assert not server.sent
    assert not caplog.records


async def test_a_handshake_that_fails_is_a_500_one_traceback_and_the_signal(monkeypatch, caplog):
    def fails(scope):
        raise LookupError("the routes are broken")

    signals = []

    def note(sender, **kwargs):
        signals.append(sender)

    got_request_exception.connect(note)
    try:
        with override_settings(WEBSOCKET_HANDLERS={"ws/": ping}):
            dispatcher = WebSocketDispatcher(nothing)
            monkeypatch.setattr(dispatcher.site.routes, "find", fails)
            server = FakeServer(dispatcher).start()
            await server.ended()
    finally:
        got_request_exception.disconnect(note)
    assert server.denied is not None
    assert server.denied[0] == 500
    assert b"broken" not in server.denied[1]
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info
    assert len(signals) == 1
