"""Every setting: its default, what it may be, and what is said of what it may not be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_ws_dispatch.conf import MEMORY_BROKER, SETTINGS, conf
from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.lanes.executors import executor
from django_ws_dispatch.limits import Rate
from django_ws_dispatch.routing.routes import current_routes

from .kit.fake_server import FakeServer

DEFAULTS = {
    "WEBSOCKET_ALLOWED_ORIGINS": None,
    "WEBSOCKET_MIDDLEWARE": [],
    "WEBSOCKET_MAX_MESSAGE_SIZE": 1024 * 1024,
    "WEBSOCKET_RATE_LIMIT": None,
    "WEBSOCKET_IDLE_TIMEOUT": None,
    "WEBSOCKET_MAX_CONNECTIONS": None,
    "WEBSOCKET_OUTBOX_SIZE": 1024 * 1024,
    "WEBSOCKET_SYNC_THREADS": 4,
    "WEBSOCKET_BROKERS": {"default": {"BACKEND": MEMORY_BROKER}},
    "WEBSOCKET_DRAIN": 0.0,
    "WEBSOCKET_GROUPS": {},
    "WEBSOCKET_LIFESPAN": None,
    "WEBSOCKET_NAMESPACE": None,
    "WEBSOCKET_SYNC_CONTEXT": None,
}

NOTHING = {"history": 0, "ttl": 3600.0, "presence": 0, "linger": 10.0, "broker": "default"}

RIGHT: list[tuple[str, Any, Any]] = [
    ("WEBSOCKET_HANDLERS", {}, {}),
    ("WEBSOCKET_HANDLERS", [], []),
    ("WEBSOCKET_HANDLERS", "tests.urls", "tests.urls"),
    ("WEBSOCKET_ALLOWED_ORIGINS", [], []),
    ("WEBSOCKET_ALLOWED_ORIGINS", ["*"], ["*"]),
    ("WEBSOCKET_ALLOWED_ORIGINS", ("https://a.example",), ["https://a.example"]),
    ("WEBSOCKET_MIDDLEWARE", ("a.B",), ["a.B"]),
    ("WEBSOCKET_MAX_MESSAGE_SIZE", 1, 1),
    ("WEBSOCKET_RATE_LIMIT", "20/s", Rate(20, 1)),
    ("WEBSOCKET_IDLE_TIMEOUT", 60, 60.0),
    ("WEBSOCKET_IDLE_TIMEOUT", 0.5, 0.5),
    ("WEBSOCKET_MAX_CONNECTIONS", 1000, 1000),
    ("WEBSOCKET_DRAIN", 20, 20.0),
    ("WEBSOCKET_DRAIN", 0.5, 0.5),
    ("WEBSOCKET_DRAIN", 10**400, 1e9),
    ("WEBSOCKET_GROUPS", {"a": {}}, {"a": NOTHING}),
    *(
        ("WEBSOCKET_GROUPS", {"a": {"presence": value}}, {"a": {**NOTHING, "presence": most}})
        for value, most in ((True, 200), (False, 0), (1, 1), (1000, 1000))
    ),
    *(
        ("WEBSOCKET_GROUPS", {"a": {"linger": value}}, {"a": {**NOTHING, "linger": value}})
        for value in (0, 0.5, 300)
    ),
    (
        "WEBSOCKET_GROUPS",
        {"room:*": {"history": 100_000, "ttl": 1.5}, "<user>": {"broker": "default", "ttl": 1}},
        {
            "room:*": {**NOTHING, "history": 100_000, "ttl": 1.5},
            "<user>": {**NOTHING, "ttl": 1.0},
        },
    ),
    ("WEBSOCKET_LIFESPAN", "mysite.lifespan.life", "mysite.lifespan.life"),
]

WRONG: list[tuple[str, Any, str]] = [
    ("WEBSOCKET_HANDLERS", None, 'Add it to the settings, for example WEBSOCKET_HANDLERS = {"ws/'),
    ("WEBSOCKET_HANDLERS", 1, "a dict of route -> handler, a list of path"),
    ("WEBSOCKET_HANDLERS", {"ws/"}, "a dict of route -> handler, a list of path"),
    ("WEBSOCKET_HANDLERS", "", "the dotted path of a module with urlpatterns, not ''"),
    ("WEBSOCKET_HANDLERS", ".urls", "the dotted path of a module with urlpatterns, not '.urls'"),
    ("WEBSOCKET_HANDLERS", object(), "the dotted path of a module with urlpatterns"),
    ("WEBSOCKET_DRAIN", -1, "a number of seconds, or 0, not -1"),
    ("WEBSOCKET_DRAIN", None, "a number of seconds, or 0, not None"),
    ("WEBSOCKET_DRAIN", True, "a number of seconds, or 0, not True"),
    ("WEBSOCKET_DRAIN", float("nan"), "a number of seconds, or 0, not nan"),
    ("WEBSOCKET_GROUPS", None, "must be a dict of pattern -> options such as {"),
    ("WEBSOCKET_GROUPS", ["room:*"], "must be a dict of pattern -> options such as {"),
    ("WEBSOCKET_GROUPS", {"": {}}, "['']: a pattern is a str that is not empty"),
    ("WEBSOCKET_GROUPS", {1: {}}, "[1]: a pattern is a str"),
    ("WEBSOCKET_GROUPS", {"a": 100}, "['a'] must be a dict of options such as {"),
    (
        "WEBSOCKET_GROUPS",
        {"a": {"present": True, 1: 1}},
        "['a'] takes 'history', 'ttl', 'presence', 'linger', 'broker'; remove 'present', 1.",
    ),
    *(
        ("WEBSOCKET_GROUPS", {"a": {"presence": value}}, "['a']['presence'] must be True, False, o")
        for value in (0, 1001, -1, 1.0, "1", None)
    ),
    *(
        ("WEBSOCKET_GROUPS", {"a": {"linger": value}}, "['a']['linger'] must be a number of second")
        for value in (-1, 301, True, "1", None, float("nan"))
    ),
    *(
        ("WEBSOCKET_GROUPS", {"a": {"history": value}}, "['a']['history'] must be a whole number")
        for value in (-1, 100_001, True, 1.0, "1", None)
    ),
    *(
        ("WEBSOCKET_GROUPS", {"a": {"ttl": value}}, "['a']['ttl'] must be a number of seconds fr")
        for value in (0, 0.5, 31_536_001, 10**400, True, "1", None, float("nan"), float("inf"))
    ),
    *(
        ("WEBSOCKET_GROUPS", {"a": {"broker": value}}, "an alias of WEBSOCKET_BROKERS, one of 'de")
        for value in ("other", None, ["default"], 1)
    ),
    ("WEBSOCKET_ALLOWED_ORIGINS", "https://a.example", 'a list of origins such as "https://'),
    ("WEBSOCKET_ALLOWED_ORIGINS", "*", 'a list of origins such as "https://'),
    ("WEBSOCKET_ALLOWED_ORIGINS", [1], 'a list of origins such as "https://'),
    ("WEBSOCKET_ALLOWED_ORIGINS", {"https://a.example"}, 'a list of origins such as "https://'),
    ("WEBSOCKET_MIDDLEWARE", "a.B", "a list of dotted paths of Django middleware, not 'a.B'"),
    ("WEBSOCKET_MIDDLEWARE", None, "a list of dotted paths of Django middleware, not None"),
    ("WEBSOCKET_MIDDLEWARE", [object], "a list of dotted paths of Django middleware"),
    ("WEBSOCKET_MAX_MESSAGE_SIZE", 0, "a positive whole number of bytes, not 0"),
    ("WEBSOCKET_MAX_MESSAGE_SIZE", None, "a positive whole number of bytes, not None"),
    ("WEBSOCKET_MAX_MESSAGE_SIZE", "1M", "a positive whole number of bytes, not '1M'"),
    ("WEBSOCKET_MAX_MESSAGE_SIZE", 1.5, "a positive whole number of bytes, not 1.5"),
    ("WEBSOCKET_MAX_MESSAGE_SIZE", True, "a positive whole number of bytes, not True"),
    ("WEBSOCKET_RATE_LIMIT", 20, 'a rate is written like "20/s"'),
    ("WEBSOCKET_RATE_LIMIT", "20", 'a rate is written like "20/s"'),
    ("WEBSOCKET_RATE_LIMIT", "0/s", 'a rate is written like "20/s"'),
    ("WEBSOCKET_RATE_LIMIT", "9" * 400 + "/s", "a rate has at most 1000000000 messages, not '999"),
    ("WEBSOCKET_RATE_LIMIT", "", 'a rate is written like "20/s"'),
    ("WEBSOCKET_IDLE_TIMEOUT", 0, "a positive number of seconds or None, not 0"),
    ("WEBSOCKET_IDLE_TIMEOUT", -1, "a positive number of seconds or None, not -1"),
    ("WEBSOCKET_IDLE_TIMEOUT", "60", "a positive number of seconds or None, not '60'"),
    ("WEBSOCKET_IDLE_TIMEOUT", True, "a positive number of seconds or None, not True"),
    ("WEBSOCKET_IDLE_TIMEOUT", float("nan"), "a positive number of seconds or None, not nan"),
    ("WEBSOCKET_MAX_CONNECTIONS", 0, "a positive whole number of open sockets or None, not 0"),
    ("WEBSOCKET_MAX_CONNECTIONS", "9", "a positive whole number of open sockets or None"),
    ("WEBSOCKET_OUTBOX_SIZE", 0, "a positive whole number of bytes, not 0"),
    ("WEBSOCKET_OUTBOX_SIZE", None, "a positive whole number of bytes, not None"),
    ("WEBSOCKET_SYNC_THREADS", 0, "a positive whole number of threads, 10000 at most, not 0"),
    ("WEBSOCKET_SYNC_THREADS", 2.0, "a positive whole number of threads, 10000 at most, not 2.0"),
    ("WEBSOCKET_SYNC_THREADS", 10001, "whole number of threads, 10000 at most, not 10001"),
    ("WEBSOCKET_BROKERS", {}, 'a dict of alias -> options with an alias "default"'),
    ("WEBSOCKET_BROKERS", [], 'a dict of alias -> options with an alias "default"'),
    (
        "WEBSOCKET_BROKERS",
        {"other": {"LOCATION": "redis://:secret@host"}, "chat": {}},
        "a dict of alias -> options with an alias \"default\", not one of 'other', 'chat'.",
    ),
    ("WEBSOCKET_BROKERS", "redis://:secret@host", 'an alias "default", not str.'),
    ("WEBSOCKET_BROKERS", {"default": MEMORY_BROKER}, "must be a dict with a BACKEND"),
    ("WEBSOCKET_BROKERS", {"default": {}}, f'a broker class such as "{MEMORY_BROKER}"'),
    (
        "WEBSOCKET_BROKERS",
        {"default": {"BACKEND": MEMORY_BROKER, "HOST": "x"}},
        "takes BACKEND, LOCATION and OPTIONS (a dict); remove or move 'HOST'",
    ),
    (
        "WEBSOCKET_BROKERS",
        {"default": {"BACKEND": MEMORY_BROKER, "OPTIONS": []}},
        "takes BACKEND, LOCATION and OPTIONS (a dict); remove or move OPTIONS",
    ),
    ("WEBSOCKET_LIFESPAN", len, "the dotted path of an @asynccontextmanager function"),
    ("WEBSOCKET_NAMESPACE", len, "the dotted path of a function of the request, or None"),
    ("WEBSOCKET_SYNC_CONTEXT", len, "the dotted path of a function of the websocket that"),
]


def attribute(setting: str) -> Any:
    return getattr(conf, setting.removeprefix("WEBSOCKET_").lower())


@asynccontextmanager
async def of_an_app(app: Any) -> AsyncIterator[None]:
    yield


@contextmanager
def sync_life() -> Iterator[None]:
    yield


async def no_pages(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("this is no request for a page")


async def ping(websocket: Any) -> None:
    await websocket.send("ping")


async def pong(websocket: Any) -> None:
    await websocket.send("pong")


def test_every_setting_has_a_property_with_its_name() -> None:
    assert set(SETTINGS.values()) == {*DEFAULTS, "WEBSOCKET_HANDLERS"}
    for name, setting in SETTINGS.items():
        assert f"``{setting}``" in str(getattr(type(conf), name).__doc__)


@pytest.mark.parametrize("setting", DEFAULTS)
def test_a_setting_that_is_not_set_has_its_default(setting: str) -> None:
    assert attribute(setting) == DEFAULTS[setting]


@pytest.mark.parametrize(("setting", "value", "meaning"), RIGHT)
def test_a_right_setting_is_read_at_every_access(setting: str, value: Any, meaning: Any) -> None:
    before = attribute(setting)
    with override_settings(**{setting: value}):
        assert attribute(setting) == meaning
    assert attribute(setting) == before


@pytest.mark.parametrize(("setting", "value", "remedy"), WRONG)
def test_a_wrong_setting_names_itself_and_the_remedy(setting: str, value: Any, remedy: str) -> None:
    with override_settings(**{setting: value}), pytest.raises(ImproperlyConfigured) as raised:
        attribute(setting)
    assert str(raised.value).startswith(setting)
    assert remedy in str(raised.value)


@pytest.mark.parametrize(("setting", "value", "remedy"), WRONG)
def test_a_wrong_setting_stops_the_building_of_the_application(
    setting: str, value: Any, remedy: str
) -> None:
    with override_settings(**{setting: value}), pytest.raises(ImproperlyConfigured) as raised:
        WebSocketDispatcher(no_pages)
    assert setting in str(raised.value)
    assert remedy in str(raised.value)


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("WEBSOCKET_HANDLERS", "tests.nowhere", "Write the dotted path of one, a dict"),
        ("WEBSOCKET_HANDLERS", "tests.handlers", "Write the dotted path of one, a dict"),
        ("WEBSOCKET_HANDLERS", {"ws/": "tests.nowhere.ping"}, "Write the dotted path of a corout"),
        ("WEBSOCKET_HANDLERS", {"ws/": "ping"}, "Write the dotted path of a coroutine function"),
        ("WEBSOCKET_HANDLERS", {"ws/": None}, "Give a coroutine function, an ASGI application, or"),
        ("WEBSOCKET_HANDLERS", {1: ping}, "Write it as for django.urls.path()"),
        ("WEBSOCKET_HANDLERS", {"ws/<nope:x>/": ping}, "Write it as for django.urls.path()"),
        ("WEBSOCKET_HANDLERS", ["ws/"], "Use path(), re_path() and include() from"),
        ("WEBSOCKET_ALLOWED_ORIGINS", ["a.example"], "'a.example' is not an origin. Write scheme"),
        ("WEBSOCKET_MIDDLEWARE", ["tests.nowhere.Middleware"], "Write dotted paths of Django mid"),
        ("WEBSOCKET_MIDDLEWARE", ["os.sep"], "Write dotted paths of Django middleware"),
        ("WEBSOCKET_MIDDLEWARE", ["django.utils.timezone.now"], "Write dotted paths of Django mid"),
        ("WEBSOCKET_LIFESPAN", "tests.nowhere.life", "Write the dotted path of an @asynccontext"),
        ("WEBSOCKET_LIFESPAN", "tests.handlers.ping", "Decorate an async generator function"),
        ("WEBSOCKET_LIFESPAN", "tests.test_conf.of_an_app", "Remove its parameters"),
        ("WEBSOCKET_LIFESPAN", "tests.test_conf.sync_life", "Decorate an async generator function"),
        (
            "WEBSOCKET_BROKERS",
            {"default": {"BACKEND": "tests.nowhere.Broker"}},
            "Write the dotted path of a broker class",
        ),
    ],
)
def test_what_can_not_be_built_stops_the_building_of_the_application(
    setting: str, value: Any, remedy: str
) -> None:
    with override_settings(**{setting: value}), pytest.raises(ImproperlyConfigured) as raised:
        WebSocketDispatcher(no_pages)
    assert setting in str(raised.value)
    assert remedy in str(raised.value)


def connect(application: WebSocketDispatcher, path: str = "/ws/", **scope: Any) -> FakeServer:
    """Connect, and wait for what becomes of it."""

    async def scenario() -> FakeServer:
        server = FakeServer(application, path, **scope).start()
        await server.ended()
        return server

    return asyncio.run(scenario())


def test_routes_are_rebuilt_after_a_change() -> None:
    with override_settings(WEBSOCKET_HANDLERS={"ws/": ping}):
        application = WebSocketDispatcher(no_pages)
        assert connect(application).data == ["ping"]
        with override_settings(WEBSOCKET_HANDLERS={"ws/": pong}):
            assert connect(application).data == ["pong"]
        assert connect(application).data == ["ping"]
        with override_settings(WEBSOCKET_HANDLERS={}):
            assert connect(application).denied == (404, b"Not Found")


def test_routes_are_built_once_between_changes() -> None:
    routes = current_routes()
    assert current_routes() is routes
    with override_settings(WEBSOCKET_MAX_MESSAGE_SIZE=5):
        assert current_routes() is not routes


def test_limits_are_rebuilt_after_a_change() -> None:
    async def read_one(websocket: Any) -> None:
        await websocket.receive()

    async def closed(application: WebSocketDispatcher) -> Any:
        server = FakeServer(application).start()
        server.message("hello")
        await server.ended()
        return server.closed

    with override_settings(WEBSOCKET_HANDLERS={"ws/": read_one}):
        application = WebSocketDispatcher(no_pages)
        assert asyncio.run(closed(application)) == (1000, "")
        with override_settings(WEBSOCKET_MAX_MESSAGE_SIZE=4):
            assert asyncio.run(closed(application)) == (1009, "max message size")
        assert asyncio.run(closed(application)) == (1000, "")


@pytest.mark.parametrize(
    "changes",
    [
        {"WEBSOCKET_ALLOWED_ORIGINS": ["https://a.example"]},
        {"CSRF_TRUSTED_ORIGINS": ["https://a.example"]},
        {"ALLOWED_HOSTS": ["a.example"], "SECURE_PROXY_SSL_HEADER": ("HTTP_X_PROTO", "https")},
    ],
)
def test_the_origin_check_is_rebuilt_after_a_change(changes: dict[str, Any]) -> None:
    host = b"a.example" if "ALLOWED_HOSTS" in changes else b"testserver"
    headers = [(b"host", host), (b"origin", b"https://a.example"), (b"x-proto", b"https")]
    with override_settings(WEBSOCKET_HANDLERS={"ws/": ping}):
        application = WebSocketDispatcher(no_pages)
        assert connect(application, headers=headers).denied is not None
        with override_settings(**changes):
            assert connect(application, headers=headers).data == ["ping"]
        assert connect(application, headers=headers).denied is not None


def test_middleware_is_rebuilt_after_a_change() -> None:
    with override_settings(WEBSOCKET_HANDLERS={"ws/": ping}):
        application = WebSocketDispatcher(no_pages)
        assert connect(application).data == ["ping"]
        with override_settings(
            WEBSOCKET_MIDDLEWARE=["django.middleware.security.SecurityMiddleware"],
            SECURE_SSL_REDIRECT=True,
        ):
            denied = connect(application).denied
            assert denied is not None
            assert denied[0] == 301
        assert connect(application).data == ["ping"]


def test_the_number_of_lanes_follows_its_setting() -> None:
    with override_settings(WEBSOCKET_SYNC_THREADS=2):
        assert not executor.pools
        assert conf.sync_threads == 2


def test_a_setting_made_wrong_later_is_a_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(WEBSOCKET_HANDLERS={"ws/": ping}):
        application = WebSocketDispatcher(no_pages)
        with override_settings(WEBSOCKET_MAX_MESSAGE_SIZE=0):
            denied = connect(application).denied
    assert denied == (500, b"Internal Server Error")
    assert "WEBSOCKET_MAX_MESSAGE_SIZE must be" in caplog.text
