"""Routes in several languages: a socket's path is found as a page's is, whoever made it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextvars import Context
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.test import override_settings
from django.urls import NoReverseMatch
from django.urls.resolvers import LocalePrefixPattern, RoutePattern, URLResolver
from django.utils import translation
from django.utils.functional import lazystr
from django.utils.translation import gettext_lazy, trans_real

from django_ws_dispatch import checks
from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.routing import include, path, re_path, reverse
from django_ws_dispatch.routing.languages import Languages, in_language
from django_ws_dispatch.routing.routes import Routes, current_routes
from django_ws_dispatch.testing import HandshakeDenied, WebSocketClient

from ..kit.fake_server import no_pages, serving
from .test_routes import A, B, C, anything

CODES = ["en", "de", "fr"]
LOCALE = "django.middleware.locale.LocaleMiddleware"


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    languages = [("en", "English"), ("de", "German"), ("fr", "French")]
    with override_settings(USE_I18N=True, LANGUAGE_CODE="en", LANGUAGES=languages):
        yield


def said(en: str, de: str, fr: str | None = None) -> Any:
    """A text that is another one in each language."""
    texts = {"en": en, "de": de, "fr": en if fr is None else fr}

    class Said:
        def __str__(self) -> str:
            return texts[translation.get_language() or "en"]

    return lazystr(Said())


def scope(route: str, language: str | None = None, **more: Any) -> dict[str, Any]:
    headers = [] if language is None else [(b"accept-language", language.encode())]
    return {"type": "websocket", "path": route, "headers": headers, **more}


def found(routes: Routes, route: str, language: str | None = None, **more: Any) -> Any:
    match = routes.find(scope(route, language, **more))
    return match and match.handler.callback


def active() -> Any:
    """The language that is active, and not the one that would be by default."""
    return getattr(trans_real._active, "value", None)


# What reverse() hands out


def prefixed() -> list[Any]:
    return i18n_patterns(path("ws/<slug:room>/", anything, name="x"), path("ws/", A))


def prefixed_but_for_the_default() -> list[Any]:
    return i18n_patterns(path("ws/<slug:room>/", anything, name="x"), prefix_default_language=False)


def translated() -> list[Any]:
    return [path(said("rooms/<slug:room>/", "raeume/<slug:room>/"), anything, name="x")]


def translated_without_a_converter() -> list[Any]:
    return [path(said("rooms/", "raeume/", "salles/"), anything, {"room": "lobby"}, name="x")]


def translated_and_prefixed() -> list[Any]:
    inner = path(said("rooms/<slug:room>/", "raeume/<slug:room>/"), anything, name="x")
    return i18n_patterns(path("ws/", include([inner])))


def translated_around() -> list[Any]:
    return [path(said("sockets/", "buchsen/"), include([path("<slug:room>/", anything, name="x")]))]


def translated_in_a_literal() -> list[Any]:
    inner = path(said("rooms/<slug:room>/", "raeume/<slug:room>/"), anything, name="x")
    return [path("ws/", include([path("ping/", A), inner])), path("pong/", B)]


def translated_expression() -> list[Any]:
    route = said(r"^rooms/(?P<room>\w+)/$", r"^raeume/(?P<room>\w+)/$")
    return [re_path(route, anything, name="x")]


def of_django_s_own_catalogs() -> list[Any]:
    return [path(gettext_lazy("Yes"), anything, {"room": "lobby"}, name="x")]


def in_a_namespace() -> list[Any]:
    inner = [path(said("rooms/<slug:room>/", "raeume/<slug:room>/"), anything, name="x")]
    return [*i18n_patterns(path("ws/", include((inner, "chat")))), path("ping/", A)]


KINDS = [
    prefixed,
    prefixed_but_for_the_default,
    translated,
    translated_without_a_converter,
    translated_and_prefixed,
    translated_around,
    translated_in_a_literal,
    translated_expression,
    of_django_s_own_catalogs,
    in_a_namespace,
]
kinds = pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])


@kinds
@pytest.mark.parametrize("asked", [*CODES, None, "xx", "de-AT,de;q=0.9"])
def test_what_reverse_makes_in_any_language_is_found_whatever_the_handshake_asks_for(
    kind: Any, asked: str | None
) -> None:
    with override_settings(WEBSOCKET_HANDLERS=kind()):
        routes = current_routes()
        made = set()
        for code in CODES:
            with translation.override(code):
                for name in ("x", "chat:x"):
                    for kwargs in ({"room": "lobby"}, {}):
                        try:
                            made.add(reverse(name, kwargs=kwargs))
                        except NoReverseMatch:
                            continue
        assert len(made) >= 2
        for route in made:
            match = routes.find(scope(route, asked))
            assert match is not None, route
            assert match.handler.callback is anything
            assert match.resolver_match.kwargs == {"room": "lobby"}
            assert found(routes, f"/sub{route}", asked, root_path="/sub") is anything
        for nowhere in ("/", "/xx/", "/de/", "/ws", "/de/nowhere/", "nowhere", "/de", "//de/ws/"):
            assert found(routes, nowhere, asked) is None


@kinds
def test_no_language_is_active_after_a_path_was_looked_for(kind: Any) -> None:
    def look() -> Any:
        with override_settings(WEBSOCKET_HANDLERS=kind()):
            routes = current_routes()
            for route in ("/de/ws/lobby/", "/raeume/lobby/", "/nowhere/"):
                found(routes, route, "de")
            return active()

    assert Context().run(look) is None


# The order


def test_the_language_of_the_handshake_comes_first() -> None:
    routes = Routes([path(said("a/", "b/"), A), path(said("b/", "a/"), B)])
    assert found(routes, "/a/", "en") is A
    assert found(routes, "/a/", "de") is B
    assert found(routes, "/a/", "de;q=0.5, en;q=0.1") is B
    cookie = [(b"cookie", b"django_language=de"), (b"accept-language", b"en")]
    assert found(routes, "/a/", headers=cookie) is B


def test_the_site_s_language_comes_second_and_then_the_others() -> None:
    routes = Routes([path(said("a/", "x/", "b/"), A), path(said("y/", "b/", "z/"), B)])
    assert found(routes, "/b/", "en") is B  # German is listed before French
    assert found(routes, "/b/", "fr") is A
    with override_settings(LANGUAGE_CODE="fr"):
        routes = Routes([path(said("a/", "x/", "b/"), A), path(said("y/", "b/", "z/"), B)])
        assert found(routes, "/b/") is A
        assert found(routes, "/b/", "en") is A
        assert found(routes, "/b/", "de") is B


def test_the_prefix_says_the_language_whatever_else_is_asked_for() -> None:
    routes = Routes(i18n_patterns(path(said("a/", "b/"), A), path(said("b/", "a/"), B)))
    for asked in CODES:
        assert found(routes, "/en/a/", asked) is A
        assert found(routes, "/de/a/", asked) is B
        assert found(routes, "/a/", asked) is None


def test_without_the_prefix_it_is_the_site_s_language_where_that_has_none() -> None:
    patterns = i18n_patterns(
        path(said("a/", "b/"), A), path(said("b/", "a/"), B), prefix_default_language=False
    )
    routes = Routes(patterns)
    for asked in CODES:
        assert found(routes, "/a/", asked) is A
        assert found(routes, "/de/a/", asked) is B
        assert found(routes, "/en/a/", asked) is None


def test_a_language_without_a_catalog_has_its_prefix() -> None:
    with override_settings(LANGUAGES=[("en", "English"), ("tlh", "Klingon")]):
        routes = Routes(i18n_patterns(path("ws/", A)))
        assert found(routes, "/tlh/ws/", "en") is A


def test_a_language_of_no_page_s_is_no_prefix() -> None:
    routes = Routes(i18n_patterns(path("ws/", A)))
    assert found(routes, "/es/ws/", "es") is None


def test_a_prefix_where_django_does_not_look_for_one_is_found_all_the_same() -> None:
    inner = URLResolver(LocalePrefixPattern(), [path("ws/", A)])  # type: ignore[arg-type]
    routes = Routes([URLResolver(RoutePattern("in/"), [inner])])  # type: ignore[arg-type]
    for code in CODES:
        assert found(routes, f"/in/{code}/ws/", "en") is A


def test_i18n_patterns_in_an_include_is_refused_as_in_django(monkeypatch: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="i18n_patterns in an included URLconf"):
        include(i18n_patterns(path("ws/", A)))
    module = SimpleNamespace(urlpatterns=i18n_patterns(path("ws/", A)))
    monkeypatch.setattr("django_ws_dispatch.routing.routes.import_module", lambda name: module)
    with pytest.raises(ImproperlyConfigured, match="i18n_patterns in an included URLconf"):
        Routes([path("in/", include("chat.urls"))])


def test_a_module_of_routes_may_be_included_behind_the_prefix(monkeypatch: Any) -> None:
    module = SimpleNamespace(urlpatterns=[path(said("a/", "b/"), A)])
    monkeypatch.setattr("django_ws_dispatch.routing.routes.import_module", lambda name: module)
    routes = Routes(i18n_patterns(path("in/", include("chat.urls"))))
    assert found(routes, "/de/in/b/") is A
    assert found(routes, "/en/in/a/", "de") is A


def test_a_mount_behind_the_prefix_has_the_rest_of_the_path() -> None:
    routes = Routes(i18n_patterns(re_path("^files/", A)))
    match = routes.find(scope("/de/files/a/b"))
    assert match is not None
    assert match.rest == "a/b"


def test_a_translated_expression_may_be_a_mount_in_one_language_only() -> None:
    routes = Routes([re_path(said("^files/$", "^dateien/"), A)])
    whole, mounted = (routes.find(scope(route)) for route in ("/files/", "/dateien/a"))
    assert whole is not None
    assert mounted is not None
    assert (whole.rest, mounted.rest) == (None, "a")


def test_without_i18n_there_is_one_language() -> None:
    with override_settings(USE_I18N=False):
        routes = Routes([*i18n_patterns(path("ws/", A)), path(gettext_lazy("Yes"), B)])
        assert found(routes, "/ws/", "de") is A
        assert found(routes, "/Yes", "de") is B
        assert found(routes, "/Ja", "de") is None
        assert found(routes, "/de/ws/", "de") is None
    with override_settings(USE_I18N=True):
        patterns = i18n_patterns(path("ws/", A))
    with override_settings(USE_I18N=False):
        routes = Routes(patterns)
        assert found(routes, "/en/ws/", "de") is A
        assert found(routes, "/de/ws/", "de") is None


def test_what_is_no_request_is_still_said_to_be_none() -> None:
    routes = Routes([path(said("a/", "b/"), A)])
    assert found(routes, "/b/", query_string=b"\xff") is A


# What it costs


def test_a_site_without_such_routes_asks_for_no_language(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any) -> Any:
        raise AssertionError("nothing here depends on a language")

    monkeypatch.setattr("django_ws_dispatch.routing.languages.build_request", never)
    monkeypatch.setattr("django_ws_dispatch.routing.languages.translation.activate", never)
    routes = Routes([path("ws/<slug:a>/", anything), re_path("^m/", include([path("", A)]))])
    routes.learn_languages()
    assert not Languages([])
    assert routes.urlconf is None
    assert found(routes, "/ws/a/") is anything
    assert found(routes, "/m/") is A
    assert found(routes, "/nowhere/") is None


def test_literal_routes_beside_the_prefix_are_one_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = Routes(
        [
            *i18n_patterns(path("ws/<slug:room>/", A), prefix_default_language=False),
            path("ping/", B),
            path("ws/lobby/", B),
            path("de/", B),
        ]
    )
    assert found(routes, "/ws/lobby/") is A
    assert found(routes, "/de/") is B
    monkeypatch.setattr(routes, "_find", None)
    assert found(routes, "/ping/") is B


def test_a_literal_route_below_a_translated_one_follows_the_language() -> None:
    routes = Routes([path(said("a/", "b/"), A), path("a/", B), path("b/", C)])
    assert found(routes, "/a/", "en") is A
    assert found(routes, "/a/", "de") is B
    assert found(routes, "/b/", "de") is A
    assert found(routes, "/b/", "en") is C


def test_languages_in_which_nothing_differs_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def note(language: str, function: Any, *args: Any) -> Any:
        tried.append(language)
        return in_language(language, function, *args)

    routes = Routes([path(said("a/", "b/"), A)])  # as the English one in French
    routes.learn_languages()
    monkeypatch.setattr("django_ws_dispatch.routing.index.in_language", note)
    assert found(routes, "/nowhere/", "en") is None
    assert tried == ["en", "de"]
    tried.clear()
    routes = Routes(i18n_patterns(path(said("a/", "b/", "c/"), A)))
    assert found(routes, "/nowhere/", "en") is None
    assert found(routes, "/fr/nowhere/", "en") is None
    assert tried == ["en", "fr", "en"]


def test_the_catalogs_are_read_when_the_application_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with override_settings(WEBSOCKET_HANDLERS=translated()):
        application = WebSocketDispatcher(no_pages)
        monkeypatch.setattr(Languages, "learn", None)
        assert found(application.site.routes, "/nowhere/") is None


# What is wrong


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: path(said("a/<slug:room>/", "b/<slug:raum>/"), anything), "captures something el"),
        (lambda: path(said("a/<slug:room>/", "b/"), anything), "which captures something else"),
        (lambda: path(said("a/<slug:room>/", "b/<rohr:room>/"), anything), "can not be compiled"),
        (lambda: re_path(said("a/", "b(/"), anything), "which can not be compiled"),
        (lambda: re_path(said("a/", "b(/)"), anything), "which captures something else"),
    ],
)
def test_a_translation_that_can_not_fit_is_told_of_and_not_met(make: Any, what: str) -> None:
    for value in ([make()], i18n_patterns(make())):
        with override_settings(WEBSOCKET_HANDLERS=value):
            with pytest.raises(ImproperlyConfigured) as raised:
                WebSocketDispatcher(no_pages)
            (error,) = checks.check_websockets()
        assert what in str(raised.value)
        assert "In the language 'de' the route is 'b" in str(raised.value)
        assert "Correct its translation" in str(raised.value)
        assert error.id == "ws_dispatch.E002"
        assert error.obj.startswith("WEBSOCKET_HANDLERS['")
        assert what in error.msg


@kinds
def test_checks_find_nothing_wrong_with_them(kind: Any) -> None:
    with override_settings(WEBSOCKET_HANDLERS=kind()):
        assert checks.check_websockets() == []


def shown(kind: Any) -> list[str]:
    output = StringIO()
    with override_settings(WEBSOCKET_HANDLERS=kind()):
        call_command("showwebsockets", json=True, stdout=output)
    return [row["route"] for row in json.loads(output.getvalue())]


@pytest.mark.parametrize("code", [None, *CODES])
def test_routes_are_shown_in_the_language_of_the_site(code: str | None) -> None:
    with translation.override(code):
        assert shown(translated_and_prefixed) == ["en/ws/rooms/<slug:room>/"]
        assert shown(prefixed_but_for_the_default) == ["ws/<slug:room>/"]


# Middleware


async def hello(websocket: Any, **kwargs: Any) -> None:
    request = websocket.request
    await websocket.send_json(
        {
            "active": active() and translation.get_language(),
            "LANGUAGE_CODE": getattr(request, "LANGUAGE_CODE", None),
            "urlconf": hasattr(request, "urlconf"),
        }
    )
    await websocket.wait_closed()


async def heard(route: str, language: str = "fr", **settings: Any) -> tuple[Any, str | None]:
    headers = {"Accept-Language": language}
    with override_settings(**settings):
        async with WebSocketClient().connect(route, headers=headers) as socket:
            said_by_handler = await socket.receive_json()
            return said_by_handler, socket.response_headers.get("Content-Language")


@pytest.mark.asyncio
async def test_a_handler_without_middleware_has_no_language() -> None:
    routes = [*i18n_patterns(path("ws/", hello)), path(said("a/", "b/"), hello)]
    for route in ("/de/ws/", "/b/"):
        told, language = await heard(route, WEBSOCKET_HANDLERS=routes)
        assert told == {"active": None, "LANGUAGE_CODE": None, "urlconf": False}
        assert language is None


@pytest.mark.asyncio
async def test_locale_middleware_finds_the_prefix_that_only_sockets_have() -> None:
    for default in (True, False):
        routes = i18n_patterns(path("ws/", hello), prefix_default_language=default)
        settings = {"WEBSOCKET_HANDLERS": routes, "WEBSOCKET_MIDDLEWARE": [LOCALE]}
        for code in CODES if default else CODES[1:]:
            told, language = await heard(f"/{code}/ws/", **settings)
            assert told == {"active": code, "LANGUAGE_CODE": code, "urlconf": True}
            assert language == code
    told, _ = await heard("/ws/", "fr", **settings)
    assert told["active"] == "en"


@pytest.mark.asyncio
async def test_locale_middleware_asks_the_browser_where_there_is_no_prefix() -> None:
    settings = {"WEBSOCKET_HANDLERS": [path(said("a/", "b/", "c/"), hello)]}
    told, _ = await heard("/b/", "fr", WEBSOCKET_MIDDLEWARE=[LOCALE], **settings)
    assert told == {"active": "fr", "LANGUAGE_CODE": "fr", "urlconf": False}


@pytest.mark.asyncio
async def test_the_middleware_of_a_whole_site_lets_a_prefixed_socket_through() -> None:
    middleware = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        LOCALE,
        "django.middleware.common.CommonMiddleware",
    ]
    settings = {
        "WEBSOCKET_HANDLERS": i18n_patterns(path("ws", hello)),  # CommonMiddleware adds a slash
        "WEBSOCKET_MIDDLEWARE": middleware,
        "ROOT_URLCONF": SimpleNamespace(urlpatterns=[path("<path:page>/", hello)]),
    }
    for order in (middleware, middleware[::-1]):
        settings["WEBSOCKET_MIDDLEWARE"] = order
        told, _ = await heard("/de/ws", **settings)
        assert told["active"] == "de"


@pytest.mark.asyncio
async def test_what_a_middleware_says_of_the_urlconf_wins() -> None:
    settings = {
        "WEBSOCKET_HANDLERS": i18n_patterns(path("ws/", hello)),
        "WEBSOCKET_MIDDLEWARE": [f"{__name__}.other_urlconf", LOCALE],
    }
    told, _ = await heard("/de/ws/", "fr", **settings)
    assert told["active"] == "fr"


def other_urlconf(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        request.urlconf = "tests.urls"
        return get_response(request)

    return middleware


@pytest.mark.asyncio
async def test_a_path_of_no_language_is_a_404() -> None:
    with override_settings(WEBSOCKET_HANDLERS=prefixed()), pytest.raises(HandshakeDenied) as denied:
        async with WebSocketClient().connect("/xx/ws/lobby/"):
            pass
    assert denied.value.status_code == 404


@pytest.mark.asyncio
async def test_a_query_string_that_is_not_utf_8_is_a_400_in_every_language() -> None:
    for route in ("/raeume/a/", "/nowhere/"):
        more = {"scope": {"query_string": b"\xff"}}
        async with serving(None, route, route=translated(), **more) as server:
            await server.ended()
            assert server.denied is not None
            assert server.denied[0] == 400
