"""From a path to a route: what is tried, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from django.urls import register_converter
from django.urls.converters import REGISTERED_CONVERTERS
from django.urls.resolvers import RoutePattern, URLResolver

from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.routing import include, path, re_path
from django_ws_dispatch.routing.routes import Routes
from tests.routing.finding import A, B, C, anything, application, find, found, handler

from ..kit.fake_server import FakeServer


@pytest.mark.parametrize(
    ("value", "route"),
    [
        ([path("ws/x/", A), path("ws/x/", B)], "/ws/x/"),
        ([path("ws/<slug:any>/", A), path("ws/x/", B)], "/ws/x/"),
        ([path("<path:any>", A), path("ws/x/", B)], "/ws/x/"),
        ([re_path(r"^ws/", A), path("ws/x/", B)], "/ws/x/"),
        ([re_path("", A), path("ws/x/", B)], "/ws/x/"),
        ([path("ws/", include([path("<slug:any>/", A)])), path("ws/x/", B)], "/ws/x/"),
        ([path("ws/", include([path("x/", A)])), path("ws/x/", B)], "/ws/x/"),
        ([path("<slug:any>/", include([path("x/", A)])), path("ws/x/", B)], "/ws/x/"),
        ([path("", include([path("<path:any>", A)])), path("ws/x/", B)], "/ws/x/"),
        ([path("ws/a/<slug:any>/", A), path("ws/<slug:b>/<slug:c>/", B)], "/ws/a/x/"),
        ([path("ws/<slug:b>/<slug:c>/", A), path("ws/a/<slug:any>/", B)], "/ws/a/x/"),
        ([path("ws/<path:any>", A), path("ws/a/<slug:any>/", B)], "/ws/a/x/"),
        ([re_path(r"^ws/.*$", A), path("ws/<slug:any>/", B), path("ws/x/", C)], "/ws/x/"),
        ([path("ws/no/", B), path("ws/<slug:any>/", A), re_path("", C)], "/ws/x/"),
    ],
)
def test_the_first_route_that_fits_wins(value: Any, route: str) -> None:
    assert found(value, route) is A


@pytest.mark.parametrize(
    ("route", "expected"),
    [("/", A), ("/ws/", None), ("//", None), ("/x", None), ("", A), ("x", None)],
)
def test_an_empty_route_fits_the_root_only(route: str, expected: Any) -> None:
    assert found({"": A}, route) is expected


@pytest.mark.parametrize("route", ["/", "/ws/", "/ws", "/a/b/c?d", "//", "/é/"])
def test_an_empty_regular_expression_fits_any_path(route: str) -> None:
    assert found([re_path("", application)], route) is application


@pytest.mark.parametrize(
    "route", ["/ws/ping", "/ws/ping//", "/ws//ping/", "/WS/ping/", "ws/ping/", "/ws/ping/ ", "/x"]
)
def test_a_literal_route_fits_its_path_to_the_letter(route: str) -> None:
    assert found({"ws/ping/": A}, route) is None


@pytest.fixture
def converted() -> Iterator[list[str]]:
    """What was given to the converter ``tags``, which makes a list and refuses ``refused``."""
    seen: list[str] = []

    class Tags:
        regex = "[^/]+"

        def to_python(self, value: str) -> list[str]:
            seen.append(value)
            if value == "refused":
                raise LookupError(value)
            return value.split(",")

        def to_url(self, value: list[str]) -> str:
            return ",".join(value)

    register_converter(Tags, "tags")
    yield seen
    del REGISTERED_CONVERTERS["tags"]


@pytest.mark.parametrize(
    ("above", "prefix"),
    [
        (lambda: path("t/<tags:tags>/", A), ""),
        (lambda: path("t/", include([path("<tags:tags>/", A)])), ""),
        (lambda: path("t/<tags:tags>/", include([path("", A)])), ""),
        (lambda: path("t", include([path("/<tags:tags>/", A)])), ""),
        (lambda: re_path("^t/", include([path("<tags:tags>/", A)])), ""),
        (lambda: path("<tags:tags>/", A), "t/"),
    ],
)
def test_a_converter_is_asked_at_each_connection_and_not_before(
    above: Any, prefix: str, converted: list[str]
) -> None:
    below = [path("t/all/", B), path("t/refused/", B), path("other/all/", C)]
    value = [above(), *below]
    if prefix:
        below = [path("all/", B), path("refused/", B)]
        value = [path(prefix, include([above(), *below])), path("other/all/", C)]
    routes = Routes(value)
    assert converted == []
    first, second = (find(routes, "/t/all/") for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.handler.callback is A
    assert first.resolver_match.kwargs["tags"] is not second.resolver_match.kwargs["tags"]
    with pytest.raises(LookupError, match="refused"):
        find(routes, "/t/refused/")
    assert found(routes, "/other/all/") is C
    assert converted == ["all", "all", "refused"]


@pytest.mark.parametrize("included", [False, True])
@pytest.mark.parametrize("end", ["/", ""])
def test_a_literal_among_a_thousand_routes_is_one_look_up(
    end: str, included: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = "" if included else "ws/"
    value = [path(f"{prefix}{number}{end}", handler(str(number))) for number in range(1000)]
    # Those that can not be for a number are no reason to look further.
    value.insert(0, path(f"{prefix}<int:number>/more/", anything))
    value.append(path(f"{prefix}<slug:room>{end}", anything))
    routes = Routes([path("ws/", include(value))] if included else value)

    def resolve(self: Any, path: str) -> None:
        raise AssertionError("Django's resolver is not asked")

    monkeypatch.setattr(URLResolver, "resolve", resolve)
    for number in (0, 500, 999):
        match = find(routes, f"/ws/{number}{end}")
        assert match is not None
        assert match.handler.name.endswith(str(number))
    with pytest.raises(AssertionError, match="is not asked"):
        find(routes, f"/ws/red{end}")


def test_the_literals_in_an_include_are_not_tried_against_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []
    match = RoutePattern.match

    def count(self: Any, path: str) -> Any:
        tried.append(self)
        return match(self, path)

    monkeypatch.setattr(RoutePattern, "match", count)
    Routes([path("ws/", include([path(f"{number}/", anything) for number in range(100)]))])
    assert len(tried) == 200


def test_only_routes_with_the_beginning_of_the_path_are_tried() -> None:
    value = [path(f"app{number}/<slug:room>/", anything) for number in range(1000)]
    routes = Routes(value)
    tried = []
    for pattern in routes._filed["app7/"]:
        tried.append(pattern)
    assert len(tried) == 1
    assert found(routes, "/app7/red/") is anything
    assert find(routes, "/nowhere/red/") is None


def test_an_unknown_path_does_not_fill_memory() -> None:
    routes = Routes({"ws/<slug:room>/": anything, "a/b/<slug:c>/": anything})
    for number in range(500):
        assert find(routes, f"/{number}/ws/{number}/") is None
        assert find(routes, f"/ws/{number}/") is not None
    assert routes._resolver.cache_info().currsize <= 3


def test_what_one_connection_does_to_its_kwargs_is_not_seen_by_the_next() -> None:
    seen: list[Any] = []

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["url_route"]["kwargs"]))
        scope["url_route"]["kwargs"]["spoiled"] = True

    async def scenario() -> None:
        with override_settings(WEBSOCKET_HANDLERS=[path("ws/", mounted, {"page": 1})]):
            dispatcher = WebSocketDispatcher(application)
            for _ in range(2):
                await FakeServer(dispatcher).start().ended()

    asyncio.run(scenario())
    assert seen == [{"page": 1}, {"page": 1}]
