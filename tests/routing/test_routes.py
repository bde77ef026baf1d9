"""The routes of a site: what a handler gets, below which prefix, and what is wrong with them."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.urls import get_script_prefix, register_converter
from django.urls.converters import REGISTERED_CONVERTERS
from django.urls.resolvers import RegexPattern, URLResolver

from django_ws_dispatch.routing import include, path, re_path
from django_ws_dispatch.routing.handlers import HandlerError
from django_ws_dispatch.routing.routes import Routes
from tests.routing.finding import A, B, C, anything, application, captured, find, found

from ..kit.fake_server import serving


@pytest.mark.parametrize(
    ("route", "wanted", "args", "kwargs"),
    [
        (path("ws/<int:n>/", anything), "/ws/7/", (), {"n": 7}),
        (path("ws/<path:rest>", anything), "/ws/a/b", (), {"rest": "a/b"}),
        (path("ws/<str:a>-<str:b>/", anything), "/ws/x-y/", (), {"a": "x", "b": "y"}),
        (path("ws/<int:n>/", anything, {"page": 1}), "/ws/7/", (), {"n": 7, "page": 1}),
        (path("ws/", anything, {"page": 1}), "/ws/", (), {"page": 1}),
        (re_path(r"^ws/(\d+)/(\w+)/$", anything), "/ws/7/x/", ("7", "x"), {}),
        (re_path(r"^ws/(?P<n>\d+)/(\w+)/$", anything), "/ws/7/x/", (), {"n": "7"}),
        (re_path(r"^ws/(?P<n>\d+)?/?$", anything), "/ws/", (), {}),
        (re_path(r"^ws/(\d+)/$", anything, {"page": 1}), "/ws/7/", ("7",), {"page": 1}),
        (
            re_path(r"^(\w+)/", include([re_path(r"^(\d+)/$", anything)])),
            "/ws/7/",
            ("ws", "7"),
            {},
        ),
        (
            re_path(r"^(\w+)/", include([path("<int:n>/", anything)])),
            "/ws/7/",
            (),
            {"n": 7},
        ),
        (
            path("<slug:a>/", include([re_path(r"^(\d+)/$", anything)])),
            "/ws/7/",
            ("7",),
            {"a": "ws"},
        ),
        (
            path("<slug:a>/", include([path("<int:n>/", anything)]), {"x": 0}),
            "/ws/7/",
            (),
            {"a": "ws", "n": 7, "x": 0},
        ),
    ],
)
def test_a_handler_gets_what_django_would_give_a_view(
    route: Any, wanted: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    assert captured([route], wanted) == (args, kwargs)
    django = URLResolver(RegexPattern(r"^/"), [route]).resolve(wanted)
    assert (django.args, django.kwargs) == (args, kwargs)


async def takes_number(websocket: Any, number: str) -> None: ...


async def takes_number_and_page(websocket: Any, number: str, page: int) -> None: ...


async def takes_number_and_a(websocket: Any, number: str, a: str) -> None: ...


async def takes_two(websocket: Any, first: str, second: str) -> None: ...


async def takes_two_and_a(websocket: Any, first: str, second: str, a: str) -> None: ...


async def takes_n(websocket: Any, n: int) -> None: ...


@pytest.mark.parametrize(
    "route",
    [
        re_path(r"^ws/(\d+)/$", takes_number),
        re_path(r"^ws/(\d+)/$", takes_number_and_page, {"page": 1}),
        path("<slug:a>/", include([re_path(r"^(\d+)/$", takes_number_and_a)])),
        re_path(r"^(\w+)/", include([re_path(r"^(\d+)/$", takes_two)])),
        re_path(r"^(\w+)/", include([path("<int:n>/", takes_n)])),
        re_path(r"^(\w+)/", include([re_path(r"^(\d+)/$", takes_number_and_page, {"page": 1})])),
        re_path(r"^(\w+)/", include([re_path(r"^(\d+)/$", takes_number_and_page)]), {"page": 1}),
        path(
            "<slug:a>/",
            include([re_path(r"^(\d)", include([re_path(r"^(\d)/$", takes_two_and_a)]))]),
        ),
    ],
)
def test_the_check_of_a_signature_expects_what_the_handler_will_get(route: Any) -> None:
    match = find([route], "/ws/77/")
    assert match is not None
    resolved = match.resolver_match
    match.handler.callback(None, *resolved.args, **resolved.kwargs).close()  # type: ignore[attr-defined]


def test_converters_of_the_site_are_used() -> None:
    class Even:
        regex = "[0-9]+"

        def to_python(self, value: str) -> int:
            if int(value) % 2:
                raise ValueError
            return int(value)

        def to_url(self, value: int) -> str:
            return str(value)

    register_converter(Even, "even")
    try:
        value = [path("ws/<even:n>/", A), path("ws/<int:n>/", B)]
        assert captured(value, "/ws/8/") == ((), {"n": 8})
        assert found(value, "/ws/8/") is A
        assert found(value, "/ws/7/") is B
    finally:
        del REGISTERED_CONVERTERS["even"]


# What it is made of


def test_the_patterns_of_the_user_stay_as_they_were() -> None:
    inner = [path("<int:n>/", "tests.routing.finding.anything", name="inner")]
    value = [
        path("ws/x/", "tests.routing.finding.anything", {"page": 1}, name="x"),
        re_path(r"^mount/", application),
        path("ws/", include((inner, "chat"), namespace="talk")),
    ]

    def seen(patterns: Any) -> Any:
        return [
            (
                pattern,
                type(pattern),
                {
                    name: copy.copy(value) if isinstance(value, (dict, list)) else value
                    for name, value in vars(pattern).items()
                },
                seen(pattern.url_patterns) if isinstance(pattern, URLResolver) else None,
            )
            for pattern in patterns
        ]

    seen(value)  # Django keeps what was looked at
    before = seen(value)
    for _ in range(2):
        routes = Routes(value)
        find(routes, "/ws/x/")
        find(routes, "/ws/5/")
        find(routes, "/mount/y/")
    assert seen(value) == before


# Below a prefix

PREFIXED = {"ws/ping/": A, "ws/<slug:room>/": B, "": C}


@pytest.mark.parametrize(
    ("root_path", "route", "expected"),
    [
        ("/sub", "/sub/ws/ping/", A),
        ("/sub", "/ws/ping/", A),
        ("/sub/", "/sub/ws/ping/", A),
        ("/sub", "/sub/ws/red/", B),
        ("/sub", "/sub/", C),
        ("/sub", "/sub", C),
        ("/sub", "/subway/ws/ping/", None),
        ("/sub", "/subws/ping/", None),
        ("/a/b", "/a/b/ws/ping/", A),
        ("/a/b", "/a/ws/ping/", None),
        ("", "/ws/ping/", A),
    ],
)
def test_a_root_path_is_stripped_at_a_boundary(root_path: str, route: str, expected: Any) -> None:
    assert found(PREFIXED, route, root_path=root_path) is expected


@pytest.mark.parametrize(
    ("route", "expected"),
    [("/sub/ws/ping/", A), ("/ws/ping/", A), ("/sub/", C), ("/subway/ws/ping/", None)],
)
def test_the_forced_script_name_is_stripped_at_a_boundary(route: str, expected: Any) -> None:
    with override_settings(FORCE_SCRIPT_NAME="/sub"):
        assert found(PREFIXED, route) is expected


@pytest.mark.parametrize("server_prepends", [False, True])
@pytest.mark.parametrize("forced", [False, True])
def test_a_handler_reverses_below_the_prefix(server_prepends: bool, forced: bool) -> None:
    seen: list[str] = []

    async def prefix(websocket: Any) -> None:
        seen.append(get_script_prefix())

    async def scenario() -> None:
        scope = {} if forced else {"root_path": "/sub"}
        settings = {"FORCE_SCRIPT_NAME": "/sub"} if forced else {}
        route = "/sub/ws/" if server_prepends else "/ws/"
        async with serving(prefix, route, scope=scope, **settings) as server:
            await server.ended()
        assert get_script_prefix() == "/"

    asyncio.run(scenario())
    assert seen == ["/sub/"]


# Mounts


@pytest.mark.parametrize(
    ("route", "wanted", "root_path", "seen_root_path", "seen_path"),
    [
        ("^app/", "/app/ws/x", "", "/app", "/app/ws/x"),
        ("^app", "/app/ws/x", "", "/app", "/app/ws/x"),
        ("", "/app/ws/x", "", "", "/app/ws/x"),
        ("^app/", "/app/", "", "/app", "/app/"),
        ("^app/", "/sub/app/ws/x", "/sub", "/sub/app", "/sub/app/ws/x"),
        ("^app/", "/app/ws/x", "/sub", "/sub/app", "/sub/app/ws/x"),
        ("^app/", "/app/ws/x", "/sub/", "/sub/app", "/sub/app/ws/x"),
        ("", "/sub/ws/x", "/sub", "/sub", "/sub/ws/x"),
        ("", "/ws/x", "/sub", "/sub", "/sub/ws/x"),
        ("", "/sub", "/sub", "/sub", "/sub/"),
        (r"^t/(?P<tenant>\w+)/", "/t/red/ws/x", "", "/t/red", "/t/red/ws/x"),
        (r"^app/$", "/app/", "", "", "/app/"),
        (r"^app/$", "/sub/app/", "/sub", "/sub", "/sub/app/"),
    ],
)
def test_what_an_unanchored_route_matches_belongs_to_the_root_path(
    route: str, wanted: str, root_path: str, seen_root_path: str, seen_path: str
) -> None:
    scopes: list[Any] = []

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    async def scenario() -> None:
        handlers = [re_path(route, mounted)]
        scope = {"root_path": root_path}
        async with serving(mounted, wanted, route=handlers, scope=scope) as server:
            before = copy.deepcopy(server.scope)
            await server.ended()
            assert server.scope == before

    asyncio.run(scenario())
    (scope,) = scopes
    assert (scope["root_path"], scope["path"]) == (seen_root_path, seen_path)


def test_a_mount_below_an_include_and_a_forced_script_name() -> None:
    scopes: list[Any] = []

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    async def scenario(wanted: str) -> None:
        handlers = [path("<slug:tenant>/", include([re_path(r"^app/", mounted)]))]
        async with serving(mounted, wanted, route=handlers, FORCE_SCRIPT_NAME="/sub") as server:
            await server.ended()

    for wanted in ("/sub/red/app/x", "/red/app/x"):
        asyncio.run(scenario(wanted))
        scope = scopes.pop()
        assert (scope["root_path"], scope["path"]) == ("/sub/red/app", "/sub/red/app/x")
        assert scope["url_route"] == {"args": (), "kwargs": {"tenant": "red"}}


# What is wrong


async def no_arguments(websocket: Any) -> None: ...


def sync(websocket: Any) -> None: ...


@pytest.mark.parametrize(
    ("value", "where", "problem"),
    [
        ({"ws/<slug:room>/": no_arguments}, "ws/<slug:room>/", "does not fit its route"),
        ([path("a/", include([path("b/", sync)]))], "['a/b/']", "is not a coroutine function"),
        ([path("a/", "tests.nowhere.x")], "a/", "can not be imported"),
        ([re_path("^a/(b)/$", no_arguments)], "^a/(b)/$", "does not fit its route"),
        ({"a/": include([path("b/", A)])}, "a/", "include() is not a handler. Write WEBSOCKET_HA"),
        ({"a/": include("tests.urls")}, "a/", "as a list: [path('a/', include(...)), ...]."),
        ([re_path("(", A)], "(", "is not a valid regular expression: missing ), unterminated"),
        ([re_path("(", include([path("b/", A)]))], "(", "Correct its regular expression"),
        ([path("a/", include([re_path("[", A)]))], "a/[", "Correct its regular expression"),
        ([path("a/<int:x>/<int:x>/", A)], "<int:x>", "compiled: redefinition of group name 'x'"),
        ([A], "", "This is no route."),
        ([("a/", A)], "", "This is no route."),
    ],
)
def test_a_wrong_route_is_named_and_others_are_kept_for_the_checks(
    value: Any, where: str, problem: str
) -> None:
    with pytest.raises(ImproperlyConfigured) as raised:
        Routes(value)
    assert str(raised.value).startswith(("WEBSOCKET_HANDLERS['", 'WEBSOCKET_HANDLERS["'))
    assert where in str(raised.value)
    assert problem in str(raised.value)
    good = {"good/": A} if isinstance(value, dict) else [path("good/", A)]
    both = {**value, **good} if isinstance(value, dict) else [*value, *good]  # type: ignore[dict-item]
    routes = Routes(both, strict=False)
    bad, kept = routes.routes
    assert isinstance(bad.error, HandlerError)
    assert bad.handler is None
    assert kept.error is None
    assert found(routes, "/good/") is A


def test_a_converter_with_a_wrong_regular_expression_names_its_route() -> None:
    class Broken:
        regex = "["

    register_converter(Broken, "broken")
    try:
        with pytest.raises(ImproperlyConfigured) as raised:
            Routes([path("a/<broken:x>/", A)])
        where = "WEBSOCKET_HANDLERS['a/<broken:x>/']: The route can not be compiled: "
        assert str(raised.value).startswith(where)
        assert str(raised.value).endswith(
            "Correct its regular expression, or the one of its converter."
        )
    finally:
        del REGISTERED_CONVERTERS["broken"]


def test_every_route_is_listed_with_its_whole_route_and_name() -> None:
    routes = Routes(
        [path("a/", include([path("b/", A, name="b")])), re_path(r"^c/$", B), path("", C)]
    )
    assert [(route.route, route.name) for route in routes.routes] == [
        ("a/b/", "b"),
        ("^c/$", None),
        ("", None),
    ]
    assert [route.handler.callback for route in routes.routes if route.handler] == [A, B, C]


def test_a_handler_on_two_routes_is_one_handler() -> None:
    routes = Routes({"a/": "tests.routing.finding.anything", "b/": anything})
    first, second = routes.routes
    assert first.handler is second.handler


def test_a_route_is_listed_by_the_name_that_reverses_it():
    inner = [path("a/", "tests.handlers.ping", name="a"), path("b/", "tests.handlers.ping")]
    routes = Routes([path("in/", include((inner, "app"), namespace="space"))])
    assert [route.name for route in routes.routes] == ["space:a", None]
