"""The app: what it registers."""

from __future__ import annotations

import subprocess
import sys

from django.apps import apps
from django.core.checks import registry


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
