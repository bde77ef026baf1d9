"""The system checks: every mistake, once, with its remedy, and never a crash."""

from __future__ import annotations

import functools
import re
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.decorators import login_required as views_login_required
from django.core.asgi import get_asgi_application as django_application
from django.core.checks import Error
from django.core.management import call_command, get_commands
from django.core.management.base import SystemCheckError
from django.db import connections
from django.test import override_settings
from django.urls import path as django_path

from django_ws_dispatch import checks, groups
from django_ws_dispatch.asgi import get_asgi_application
from django_ws_dispatch.checks.values import SETTING_CHECKS
from django_ws_dispatch.conf import SETTINGS
from django_ws_dispatch.decorators import allowed_origins
from django_ws_dispatch.routing import include, path, re_path

from ..handlers import ping, raw_ping, room


async def one(websocket: Any) -> None:
    """A handler of its own for each test that decorates."""


async def one_room(websocket: Any, a: str) -> None: ...


async def other_room(websocket: Any, b: str) -> None: ...


def plain(websocket: Any) -> None:
    """Not a coroutine function."""


class Consumer:
    @classmethod
    def as_asgi(cls) -> Any:
        return raw_ping


class BrokenMiddleware:
    def __init__(self, get_response: Any) -> None:
        raise RuntimeError("no key")


decorated = views_login_required(plain)
django_app = django_application()


def found(**changed: Any) -> list[Any]:
    with override_settings(**changed):
        return checks.check_websockets()


def ids(messages: list[Any]) -> list[str]:
    return [message.id.removeprefix("ws_dispatch.") for message in messages]


def deployment(**changed: Any) -> list[Any]:
    with override_settings(**changed):
        return checks.check_deployment()


def test_a_right_site_has_nothing_to_say():
    assert found() == []


def test_each_id_in_the_code_is_in_the_table_once():
    table = re.findall(r"^ws_dispatch\.([EW]\d{3})", checks.__doc__ or "", re.MULTILINE)
    assert len(table) == len(set(table))
    files = Path(checks.__file__).parent.glob("*.py")
    code = "".join(file.read_text().partition('"""\n\nfrom')[2] for file in files)
    assert set(table) == set(re.findall(r'"(?:ws_dispatch\.)?([EW]\d{3})"', code))


def test_every_setting_has_an_id_of_its_own():
    numbers = [number for number, _ in SETTING_CHECKS.values()]
    assert set(SETTING_CHECKS) == set(SETTINGS)
    assert len(numbers) == len(set(numbers))


WRONG = {
    "WEBSOCKET_HANDLERS": ("E001", 5),
    "WEBSOCKET_ALLOWED_ORIGINS": ("E003", ["example.com"]),
    "WEBSOCKET_MIDDLEWARE": ("E004", "one.string"),
    "WEBSOCKET_MAX_MESSAGE_SIZE": ("E005", "1"),
    "WEBSOCKET_RATE_LIMIT": ("E006", 20),
    "WEBSOCKET_IDLE_TIMEOUT": ("E007", -1),
    "WEBSOCKET_MAX_CONNECTIONS": ("E008", 0),
    "WEBSOCKET_OUTBOX_SIZE": ("E009", 1.5),
    "WEBSOCKET_SYNC_THREADS": ("E010", None),
    "WEBSOCKET_BROKERS": ("E011", {"other": {}}),
    "WEBSOCKET_LIFESPAN": ("E012", 5),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_one_error_that_names_it_with_a_hint(name):
    number, value = WRONG[name]
    (error,) = found(**{name: value})
    assert isinstance(error, Error)
    assert ids([error]) == [number]
    assert name in error.msg
    assert error.hint.startswith(f"Write {name} = ")


def test_all_wrong_settings_are_reported_at_once():
    messages = found(**{name: value for name, (_, value) in WRONG.items()})
    assert sorted(ids(messages)) == sorted(number for number, _ in WRONG.values())


def test_manage_py_check_reports_what_is_wrong_and_does_not_crash():
    wrong = {name: value for name, (_, value) in WRONG.items()}
    with override_settings(**wrong), pytest.raises(SystemCheckError) as caught:
        call_command("check", deploy=True, stdout=StringIO(), stderr=StringIO())
    for number, _ in WRONG.values():
        assert f"ws_dispatch.{number}" in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "no.such.module",
        "tests.handlers",
        {5: "tests.handlers.ping"},
        {"ws/<nope:x>/": "tests.handlers.ping"},
        {"ws/": None},
        {"ws/": ["tests.handlers.ping"]},
        ["ws/"],
        [None],
        [re_path("(", "tests.handlers.ping")],
        [path("ws/", include("no.such.module"))],
        [django_path("ws/", lambda request: None)],
        SimpleNamespace(),
        object,
    ],
    ids=repr,
)
def test_no_value_of_websocket_handlers_crashes_the_check(value):
    messages = found(WEBSOCKET_HANDLERS=value)
    assert len(messages) == 1
    assert ids(messages)[0] in ("E001", "E002")
    assert messages[0].hint


def test_a_missing_websocket_handlers_is_named():
    with override_settings():
        del settings.WEBSOCKET_HANDLERS
        (error,) = checks.check_websockets()
    assert error.id == "ws_dispatch.E001"
    assert "WEBSOCKET_HANDLERS is not set" in error.msg


def test_every_broken_route_is_reported_where_it_stands():
    messages = found(
        WEBSOCKET_HANDLERS={
            "a/": "tests.handlers.nothing",
            "b/": plain,
            "c/": Consumer,
            "d/": decorated,
            "e/": room,
            "f/": ping,
            "g/": "tests.checks.broken_sockets.ping",
        }
    )
    assert [message.obj for message in messages] == [
        f"WEBSOCKET_HANDLERS['{route}/']" for route in "abcdeg"
    ]
    assert set(ids(messages)) == {"E002"}
    hints = [message.hint for message in messages]
    assert "async def" in hints[1]
    assert hints[2] == "Pass Consumer.as_asgi()."
    assert "django_ws_dispatch.decorators" in hints[3]
    assert hints[4] == "It is called with (websocket)."
    assert "ZeroDivisionError" in messages[5].msg


def test_a_wrong_limit_is_not_said_again_for_each_route():
    messages = found(
        WEBSOCKET_HANDLERS={"a/": ping, "b/": ping, "c/": plain}, WEBSOCKET_OUTBOX_SIZE=0
    )
    assert ids(messages) == ["E009", "E002"]
    assert messages[1].obj == "WEBSOCKET_HANDLERS['c/']"


def test_routes_inside_an_include_are_checked():
    (message,) = found(WEBSOCKET_HANDLERS=[path("in/", include([path("x/", plain)]))])
    assert (message.id, message.obj) == ("ws_dispatch.E002", "WEBSOCKET_HANDLERS['in/x/']")


def test_each_middleware_that_can_not_be_used_is_reported():
    messages = found(
        WEBSOCKET_MIDDLEWARE=[
            "no.such.Middleware",
            "django.middleware.locale.LocaleMiddleware",
            "tests.checks.test_checks.BrokenMiddleware",
        ]
    )
    assert ids(messages) == ["E004", "E004"]
    assert "'no.such.Middleware'" in messages[0].msg
    assert "RuntimeError: no key" in messages[1].msg


def test_each_broker_that_does_not_take_its_configuration_is_reported():
    memory = "django_ws_dispatch.brokers.memory.MemoryBroker"
    messages = found(
        WEBSOCKET_BROKERS={
            "default": {"BACKEND": memory},
            "a": {"BACKEND": "no.such.Broker"},
            "b": {"BACKEND": "django_ws_dispatch.conf.Conf"},
            "c": {"BACKEND": memory, "OPTIONS": {"colour": "red"}},
            "d": {"BACKEND": "django_ws_dispatch.brokers.BaseBroker"},
            "e": {"BACKEND": "tests.brokers.test_brokers.Narrow"},
            "f": {"BACKEND": memory, "OPTIONS": {"timeout": 10**400}},
        }
    )
    assert ids(messages) == ["E011"] * 6
    for alias, message in zip("abcdef", messages, strict=True):
        assert f"WEBSOCKET_BROKERS['{alias}']" in message.msg


def test_a_location_that_does_not_parse_is_reported_without_a_connection():
    pytest.importorskip("redis")
    redis = "django_ws_dispatch.brokers.redis.RedisBroker"
    configs = {
        "default": {"BACKEND": redis, "LOCATION": "redis://127.0.0.1:1/0"},
        "other": {"BACKEND": redis, "LOCATION": "127.0.0.1:6379"},
    }
    (message,) = found(WEBSOCKET_BROKERS=configs)
    assert message.id == "ws_dispatch.E011"
    assert "'other'" in message.msg


@pytest.mark.parametrize(
    "value", ["no.such.lifespan", "tests.handlers.ping", "tests.checks.test_checks.Consumer"]
)
def test_a_lifespan_that_is_none_is_an_error(value):
    (error,) = found(WEBSOCKET_LIFESPAN=value)
    assert ids([error]) == ["E012"]
    assert f"WEBSOCKET_LIFESPAN: {value!r}" in error.msg


def test_a_class_of_context_managers_is_a_lifespan():
    assert found(WEBSOCKET_LIFESPAN="contextlib.AsyncExitStack") == []


# Routes that work, and not as meant


@pytest.mark.parametrize(
    "route", [path("/ws/", ping), re_path("^/ws/$", ping), re_path(r"\/ws$", ping)], ids=str
)
def test_a_leading_slash_is_a_warning_with_the_remedy(route):
    (message,) = found(WEBSOCKET_HANDLERS=[route])
    assert message.id == "ws_dispatch.W004"
    assert "Remove the slash" in message.hint


def test_a_slash_that_joins_an_include_is_none():
    assert found(WEBSOCKET_HANDLERS=[path("ws", include([path("/ping/", ping)]))]) == []


def test_two_routes_that_differ_in_the_slash_at_the_end_are_a_warning():
    (message,) = found(
        WEBSOCKET_HANDLERS={"ws/<slug:a>/": one_room, "ws/<slug:b>": other_room, "x/": ping}
    )
    assert message.id == "ws_dispatch.W005"
    assert message.obj == "WEBSOCKET_HANDLERS['ws/<slug:a>/']"
    assert "'ws/<slug:b>'" in message.msg


@pytest.mark.parametrize(
    "routes",
    [
        (re_path("^y$", ping), re_path("^y/$", ping)),
        (path("y", ping), re_path(r"^y/\Z", ping)),
        (re_path("^y$", ping), path("y/", ping)),
        (re_path(r"^y/(?P<a>\w+)$", one_room), re_path(r"^y/(?P<a>\w+)/$", one_room)),
        (path("in/", include([re_path("^y$", ping), re_path("^y/$", ping)])),),
    ],
)
def test_regular_expressions_that_differ_in_the_slash_at_the_end_are_a_warning(routes):
    (message,) = found(WEBSOCKET_HANDLERS=routes)
    assert message.id == "ws_dispatch.W005"


@pytest.mark.parametrize(
    "routes",
    [
        (re_path("^y$", ping), re_path("^y/", raw_ping)),
        (re_path("^y$", ping), re_path("^y", raw_ping)),
        (re_path("^y.$", ping), path("y./", ping)),
        (re_path(r"^y\$", raw_ping), re_path("^y/$", ping)),
    ],
)
def test_a_mount_and_another_expression_look_like_nothing_else(routes):
    assert found(WEBSOCKET_HANDLERS=routes) == []


def test_a_route_that_is_there_twice_is_a_warning():
    routes = [path("ws/<a>/", one_room), path("ws/<str:b>/", other_room), path("ws/", ping)]
    (message,) = found(WEBSOCKET_HANDLERS=routes)
    assert message.id == "ws_dispatch.W006"
    assert message.obj == "WEBSOCKET_HANDLERS['ws/<str:b>/']"
    assert "'ws/<a>/'" in message.msg


def test_a_regular_expression_for_one_text_is_that_route_again():
    (message,) = found(WEBSOCKET_HANDLERS=[path("y/", ping), re_path("^y/$", ping)])
    assert message.id == "ws_dispatch.W006"
    assert message.obj == "WEBSOCKET_HANDLERS['^y/$']"


def test_a_named_route_by_a_dotted_path_is_not_there_twice():
    assert found(WEBSOCKET_HANDLERS=[path("ws/", "tests.handlers.ping", name="ping")]) == []


def test_djangos_own_checks_of_patterns_run():
    messages = found(
        WEBSOCKET_HANDLERS=[
            path("ws/a/$", ping),
            path("ws/b/", ping, name="a:b"),
            re_path("^in/$", include([path("c/", ping)])),
        ]
    )
    assert ids(messages) == ["2_0.W001", "urls.W003", "urls.W001"]


# The application


def test_an_application_path_that_nothing_says_is_a_warning():
    (message,) = found(ASGI_APPLICATION=None, ROOT_URLCONF=None)
    assert message.id == "ws_dispatch.W001"
    assert "ASGI_APPLICATION = " in message.hint


@pytest.mark.parametrize("value", ["no.such.asgi.application", "tests.asgi.other", 5])
def test_an_application_that_is_not_there_is_a_warning_with_the_line_to_write(value):
    (message,) = found(ASGI_APPLICATION=value)
    assert message.id == "ws_dispatch.W001"
    assert "ASGI_APPLICATION = " in message.hint


def test_an_application_path_without_a_module_is_a_warning_that_names_it():
    (message,) = found(ASGI_APPLICATION="asgi")
    assert message.id == "ws_dispatch.W001"
    assert message.msg.startswith("ASGI_APPLICATION = 'asgi' names no application in a module.")
    assert "into ," not in message.msg


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("from os import nothing", "ImportError: cannot import name 'nothing' from 'os'"),
        (
            "from django.core.exceptions import *; raise ImproperlyConfigured('SOME_SETTING: no.')",
            "ImproperlyConfigured: SOME_SETTING: no.",
        ),
    ],
)
def test_an_asgi_py_whose_import_fails_is_a_warning_that_says_what(
    code, said, tmp_path, monkeypatch
):
    (tmp_path / "failing_asgi.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    (message,) = found(ASGI_APPLICATION="failing_asgi.application")
    assert message.id == "ws_dispatch.W001"
    assert said in message.msg
    assert "ASGI_APPLICATION" not in message.msg + message.hint
    assert 'python -c "import failing_asgi"' in message.hint


@pytest.mark.parametrize("value", ["HTTP_X_FORWARDED_PROTO", ("HTTP_X_PROTO",), 5, (5, "https")])
def test_a_wrong_proxy_header_is_an_error_and_not_blamed_on_asgi_py(value):
    (error,) = found(SECURE_PROXY_SSL_HEADER=value)
    assert (error.id, type(error)) == ("ws_dispatch.E013", Error)
    assert "SECURE_PROXY_SSL_HEADER must be a tuple" in error.msg
    assert error.hint.startswith("Write SECURE_PROXY_SSL_HEADER = ")


def test_an_asgi_py_left_unchanged_is_a_warning_with_the_remedy():
    (message,) = found(ASGI_APPLICATION="tests.checks.test_checks.django_app")
    assert message.id == "ws_dispatch.W002"
    assert "tests.checks.test_checks.django_app (ASGIHandler) leads to no" in message.msg
    assert "django_ws_dispatch.asgi" in message.hint


def test_a_wrong_setting_is_not_blamed_on_asgi_py():
    messages = found(
        WEBSOCKET_SYNC_THREADS=0, ASGI_APPLICATION="tests.checks.test_checks.django_app"
    )
    assert ids(messages) == ["E010"]


def test_a_check_does_not_make_the_process_one_that_serves(monkeypatch):
    monkeypatch.setattr(groups.group, "unheard", True)
    assert found() == []
    get_asgi_application()
    assert groups.group.unheard


RUNSERVERS = {
    "derived": "from django_ws_dispatch.management.commands.runserver import Command as Ours\n"
    "class Command(Ours): pass\n",
    "theirs": "from django.core.management.commands.runserver import Command\n",
    "broken": "raise ImportError\n",
}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that checks a site with these apps; those in ``RUNSERVERS`` have that command."""
    for name, text in RUNSERVERS.items():
        commands = tmp_path / name / "management" / "commands"
        commands.mkdir(parents=True)
        for package in (commands.parent.parent, commands.parent, commands):
            (package / "__init__.py").touch()
        (commands / "runserver.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    def check(*names):
        get_commands.cache_clear()
        return found(INSTALLED_APPS=names)

    yield check
    get_commands.cache_clear()


@pytest.mark.parametrize("other", ["django.contrib.staticfiles", "theirs"])
def test_another_apps_runserver_above_ours_is_a_warning(installed, other):
    (message,) = installed(other, "django_ws_dispatch")
    assert message.id == "ws_dispatch.W003"
    assert repr(other) in message.msg
    assert message.hint == "Put 'django_ws_dispatch' first."
    assert installed("django_ws_dispatch", other) == []


def test_a_runserver_that_is_ours_and_more_is_fine(installed):
    # Such as whitenoise.runserver_nostatic, which derives from the next app's.
    assert installed("derived", "django_ws_dispatch") == []


def test_a_runserver_that_can_not_be_imported_is_no_crash(installed):
    assert installed("broken", "django_ws_dispatch") == []


def test_the_checks_are_registered_with_the_app():
    with override_settings(WEBSOCKET_SYNC_THREADS=0), pytest.raises(SystemCheckError, match="E010"):
        call_command("check", tags=["websockets"], stdout=StringIO(), stderr=StringIO())


# Origins


def test_an_origin_that_no_browser_sends_is_a_warning_with_the_right_spelling():
    messages = found(WEBSOCKET_ALLOWED_ORIGINS=["wss://a.example", "https://a.example", "app://."])
    assert ids(messages) == ["W010"]
    assert (
        messages[0].msg
        == "WEBSOCKET_ALLOWED_ORIGINS has 'wss://a.example', which no browser sends."
    )
    assert messages[0].hint.startswith('Write "https://a.example". Where a native client sends it')
    assert messages[0].obj is None


def test_an_origin_of_one_handler_that_no_browser_sends_is_a_warning_that_names_its_route():
    native = allowed_origins("http://a.example/", "file://")(functools.partial(one))
    messages = found(WEBSOCKET_HANDLERS={"ws/": ping, "native/": native})
    assert ids(messages) == ["W010"]
    assert messages[0].obj == "WEBSOCKET_HANDLERS['native/']"
    assert "@allowed_origins() has 'http://a.example/'" in messages[0].msg


def test_any_origin_is_none_that_no_browser_sends():
    assert found(WEBSOCKET_ALLOWED_ORIGINS=["*", "https://*.a.example"]) == []


# For production

redis_brokers = {
    "default": {
        "BACKEND": "django_ws_dispatch.brokers.redis.RedisBroker",
        "LOCATION": "redis://127.0.0.1:1/0",
    }
}


def test_the_memory_broker_is_a_warning_for_production_only():
    assert ids(deployment()) == ["W009"]
    pytest.importorskip("redis")
    assert deployment(WEBSOCKET_BROKERS=redis_brokers) == []


def test_an_origin_check_that_is_off_is_a_warning():
    messages = deployment(WEBSOCKET_ALLOWED_ORIGINS=["*"])
    assert ids(messages) == ["W007", "W009"]


def test_an_origin_check_that_is_off_for_one_handler_is_a_warning_that_names_it():
    open_handler = allowed_origins("*")(functools.partial(one))
    messages = deployment(WEBSOCKET_HANDLERS={"ws/": ping, "open/": open_handler})
    assert ids(messages) == ["W007", "W009"]
    assert messages[0].obj == "WEBSOCKET_HANDLERS['open/']"


def test_any_host_with_credentials_is_a_warning():
    assert ids(deployment(ALLOWED_HOSTS=["*"])) == ["W008", "W009"]


def test_any_host_is_no_matter_where_the_origins_are_named_or_there_are_no_credentials():
    origins = ["https://example.com"]
    named = deployment(ALLOWED_HOSTS=["*"], WEBSOCKET_ALLOWED_ORIGINS=origins)
    assert ids(named) == ["W009"]
    without = deployment(ALLOWED_HOSTS=["*"], INSTALLED_APPS=["django_ws_dispatch"])
    assert ids(without) == ["W009"]


def test_deployment_leaves_wrong_settings_to_the_other_check():
    assert deployment(**{name: value for name, (_, value) in WRONG.items()}) == []
    broken = {"default": {"BACKEND": "no.such.Broker"}}
    assert deployment(WEBSOCKET_BROKERS=broken) == []


# Tenants, and pools


def test_a_site_of_tenants_that_says_nothing_of_them_is_told_what_to_write():
    (message,) = found(TENANT_MODEL="customers.Client")
    assert message.id == "ws_dispatch.W013"
    for line in ("tenant_context(websocket.request.tenant)", "request.tenant.schema_name"):
        assert line in message.hint
    for name in ("WEBSOCKET_SYNC_CONTEXT", "WEBSOCKET_NAMESPACE", "NamespaceMiddleware"):
        assert name in message.hint


def test_a_site_of_tenants_that_says_so_is_left_alone():
    for name in ("WEBSOCKET_SYNC_CONTEXT", "WEBSOCKET_NAMESPACE"):
        assert found(TENANT_MODEL="customers.Client", **{name: "builtins.id"}) == []


@pytest.mark.parametrize(
    ("pool", "most"),
    [
        (True, 4),
        ({"max_size": 3}, 3),
        ({"min_size": 2}, 2),
        ({"min_size": 1, "max_size": 4}, 4),
        ({"timeout": 3}, 4),
        ({"min": 1, "max": 2}, 2),
    ],
)
def test_a_pool_that_the_sockets_may_use_up_is_too_small(pool, most, monkeypatch):
    monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "pool", pool)
    (message,) = found()
    assert message.id == "ws_dispatch.W011"
    assert f"has {most} connections" in message.msg
    assert '"max_size": 8' in message.hint


@pytest.mark.parametrize("pool", [None, False, {}, {"max_size": 5}, {"min_size": 5}])
def test_a_pool_that_leaves_some_to_the_pages_or_none_is_right(pool, monkeypatch):
    monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "pool", pool)
    assert found() == []


def test_middleware_has_as_many_connections_of_a_pool_again(monkeypatch):
    monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "pool", {"max_size": 8})
    middleware = ["django.contrib.sessions.middleware.SessionMiddleware"]
    (message,) = found(WEBSOCKET_MIDDLEWARE=middleware)
    assert message.id == "ws_dispatch.W011"
    assert "8 of them at once (WEBSOCKET_SYNC_THREADS and WEBSOCKET_MIDDLEWARE)" in message.msg
    assert '"max_size": 12' in message.hint


def test_fewer_threads_leave_some_of_the_pool_to_the_pages(monkeypatch):
    monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "pool", True)
    assert found(WEBSOCKET_SYNC_THREADS=3) == []
