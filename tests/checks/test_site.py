"""The checks of what is around the sockets: Django's side of the site."""

from __future__ import annotations

import pytest
from django.core.checks import Error
from django.core.management import get_commands
from django.db import connections

from tests.checks.sites import deployment, found, ids


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
    (message,) = found(ASGI_APPLICATION="tests.checks.sites.django_app")
    assert message.id == "ws_dispatch.W002"
    assert "tests.checks.sites.django_app (ASGIHandler) leads to no" in message.msg
    assert "django_ws_dispatch.asgi" in message.hint


def test_a_wrong_setting_is_not_blamed_on_asgi_py():
    messages = found(WEBSOCKET_SYNC_THREADS=0, ASGI_APPLICATION="tests.checks.sites.django_app")
    assert ids(messages) == ["E010"]


redis_brokers = {
    "default": {
        "BACKEND": "django_ws_dispatch.brokers.redis.RedisBroker",
        "LOCATION": "redis://127.0.0.1:1/0",
    }
}

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


def test_the_memory_broker_is_a_warning_for_production_only():
    assert ids(deployment()) == ["W009"]
    pytest.importorskip("redis")
    assert deployment(WEBSOCKET_BROKERS=redis_brokers) == []


def test_any_host_with_credentials_is_a_warning():
    assert ids(deployment(ALLOWED_HOSTS=["*"])) == ["W008", "W009"]


def test_any_host_is_no_matter_where_the_origins_are_named_or_there_are_no_credentials():
    origins = ["https://example.com"]
    named = deployment(ALLOWED_HOSTS=["*"], WEBSOCKET_ALLOWED_ORIGINS=origins)
    assert ids(named) == ["W009"]
    without = deployment(ALLOWED_HOSTS=["*"], INSTALLED_APPS=["django_ws_dispatch"])
    assert ids(without) == ["W009"]


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
