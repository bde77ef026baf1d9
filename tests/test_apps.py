"""The app: what it registers."""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.apps import AppConfig, apps
from django.core.checks import registry
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_ws_dispatch.apps import WebSocketDispatchConfig
from django_ws_dispatch.asgi import get_asgi_application
from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.typing import Receive, Scope, Send

DJANGO = ["django.contrib.auth", "django.contrib.contenttypes"]


class SitesConfig(WebSocketDispatchConfig):
    """As a site may have it, for a name of its own in the admin."""

    verbose_name = "Sockets"


class HalfConfig(WebSocketDispatchConfig):
    def ready(self) -> None:
        """Something else, and not what it has to do."""


class ForeignConfig(AppConfig):
    name = "django_ws_dispatch"


class OtherConfig(AppConfig):
    """An app below another name is another app."""

    name = "tests.management"
    label = "django_ws_dispatch"


async def pages(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("not called")


def test_the_app_is_found_by_its_name_alone():
    config = apps.get_app_config("django_ws_dispatch")
    assert (config.name, config.verbose_name) == ("django_ws_dispatch", "WebSockets")


def test_its_checks_have_a_tag():
    assert registry.registry.tag_exists("websockets", include_deployment_checks=True)


def test_a_site_without_auth_and_without_a_database_starts():
    code = (
        "import django; from django.conf import settings;"
        "settings.configure(INSTALLED_APPS=['django_ws_dispatch'], WEBSOCKET_HANDLERS={},"
        " ROOT_URLCONF='tests.urls', ASGI_APPLICATION='tests.asgi.application');"
        "django.setup();"
        "from django.core.management import call_command; call_command('check');"
        "call_command('showwebsockets')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        "System check identified no issues (0 silenced).\nWEBSOCKET_HANDLERS has no routes.\n"
    )


@pytest.mark.parametrize(
    "entry",
    [
        "django_ws_dispatch",
        "django_ws_dispatch.apps.WebSocketDispatchConfig",
        "tests.test_apps.SitesConfig",
    ],
)
def test_an_application_is_built_with_the_app_however_it_is_named(entry):
    with override_settings(INSTALLED_APPS=[*DJANGO, entry]):
        get_asgi_application()
        WebSocketDispatcher(pages)


@pytest.mark.parametrize("others", [[], ["tests.test_apps.OtherConfig"]])
@pytest.mark.parametrize("build", [get_asgi_application, lambda: WebSocketDispatcher(pages)])
def test_without_the_app_no_application_is_built_and_the_line_to_write_is_named(others, build):
    installed = [*DJANGO, *others]
    with override_settings(INSTALLED_APPS=installed), pytest.raises(ImproperlyConfigured) as raised:
        build()
    assert 'INSTALLED_APPS = ["django_ws_dispatch", ...]' in str(raised.value)
    assert "close the sockets of who logs out" in str(raised.value)


@pytest.mark.parametrize("name", ["HalfConfig", "ForeignConfig"])
def test_a_config_that_connects_nothing_is_no_app(name):
    with (
        override_settings(INSTALLED_APPS=[*DJANGO, f"tests.test_apps.{name}"]),
        pytest.raises(ImproperlyConfigured, match=rf"{name}, .* super\(\)\.ready\(\)"),
    ):
        get_asgi_application()


def test_a_dispatcher_that_is_built_before_the_apps_are_loaded_says_what_to_call():
    code = (
        "from django.conf import settings;"
        "settings.configure(INSTALLED_APPS=['django_ws_dispatch'], WEBSOCKET_HANDLERS={});"
        "from django_ws_dispatch.dispatcher import WebSocketDispatcher;"
        "WebSocketDispatcher(None)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    assert last.startswith("django.core.exceptions.ImproperlyConfigured: The apps are not loaded")
    assert "django.setup()" in last
