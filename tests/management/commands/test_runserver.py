"""What ``manage.py runserver`` does without a server; ``tests/live`` has the rest."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import CommandError
from django.test import override_settings

from django_ws_dispatch.management.commands import runserver

REMEDY = 'pip install "django-ws-dispatch[uvicorn]"'


def test_it_is_the_runserver_of_a_site_that_has_the_app_first():
    assert get_commands()["runserver"] == "django_ws_dispatch"
    command: Any = load_command_class("django_ws_dispatch", "runserver")
    parser = command.create_parser("manage.py", "runserver")
    options = parser.parse_args(["--nostatic", "--insecure", "-6", "--noreload", "[::1]:8001"])
    assert (options.use_static_handler, options.insecure_serving) == (False, True)
    assert (options.use_ipv6, options.use_reloader, options.addrport) == (True, False, "[::1]:8001")


@pytest.mark.parametrize("missing", [{"uvicorn"}, {"websockets", "wsproto"}])
@pytest.mark.parametrize("options", [(), ("--noreload",)])
def test_without_uvicorn_or_its_websockets_the_remedy_is_said_at_once(
    missing, options, monkeypatch
):
    monkeypatch.setattr(
        runserver, "find_spec", lambda name: None if name in missing else find_spec(name)
    )
    with pytest.raises(CommandError) as caught, override_settings(DEBUG=True):
        call_command("runserver", *options)
    assert REMEDY in str(caught.value)


def test_without_websockets_its_remedy_is_said_although_wsproto_is_there(monkeypatch):
    pytest.importorskip("uvicorn")
    monkeypatch.delitem(sys.modules, "django_ws_dispatch.uvicorn", raising=False)
    for name in [one for one in sys.modules if one.startswith("django_ws_dispatch.uvicorn.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "websockets.exceptions", None)
    with pytest.raises(CommandError) as caught, override_settings(DEBUG=True):
        call_command("runserver", "--noreload")
    assert "needs the package websockets" in str(caught.value)
    assert REMEDY in str(caught.value)


@pytest.mark.parametrize("options", [(), ("--noreload",)])
def test_a_wrong_protocol_is_refused_with_the_remedy(options):
    pytest.importorskip("uvicorn")
    with pytest.raises(CommandError) as caught, override_settings(DEBUG=True):
        call_command("runserver", "--ws", "nowhere:WebSocketProtocol", *options)
    assert str(caught.value).startswith("--ws: 'nowhere:WebSocketProtocol' is no WebSocket")
    assert "Take one of auto, " in str(caught.value)


# What "auto" is on an old uvicorn is deprecated by websockets.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "ws"),
    [((), "django_ws_dispatch.uvicorn:WebSocketProtocol"), (("--ws", "auto"), "auto")],
)
def test_the_server_gets_the_protocol_that_the_option_names(options, ws, monkeypatch):
    pytest.importorskip("websockets")
    given = []

    def inner_run(self, *args, **kwargs):
        server = self.make_server(("127.0.0.1", 0))
        server.socket.close()
        given.append(server.ws)

    monkeypatch.setattr(runserver.Command, "inner_run", inner_run)
    with override_settings(DEBUG=True):
        call_command("runserver", "--noreload", *options)
    assert given == [ws]


def test_its_module_imports_no_uvicorn():
    code = (
        "import sys; from django.conf import settings; settings.configure(INSTALLED_APPS=[]);"
        "import django; django.setup();"
        "import django_ws_dispatch.management.commands.runserver as module;"
        "assert module.Command.__mro__[1].__module__.startswith('django.core');"
        "assert 'uvicorn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("address", "shown"), [("127.0.0.1", "127.0.0.1"), ("0", "0.0.0.0"), ("::1", "[::1]")]
)
def test_the_banner_names_the_address_and_the_number_of_routes(address, shown, monkeypatch):
    monkeypatch.setenv("DJANGO_RUNSERVER_HIDE_WARNING", "true")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.settings")
    command = runserver.Command(stdout=StringIO(), no_color=True)
    command.addr, command._raw_ipv6 = address, ":" in address
    command.get_handler(use_static_handler=False)
    with override_settings(SETTINGS_MODULE="mysite.settings"):
        command.on_bind(8001)
    lines = command.stdout.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[1].endswith("using settings 'mysite.settings'")
    assert lines[2] == f"Starting ASGI development server (uvicorn) at http://{shown}:8001/"
    assert lines[3] == "Serving 3 WebSocket routes."
    assert len(lines) == 5


@override_settings(WEBSOCKET_HANDLERS={"ws/": "tests.handlers.ping"})
def test_one_route_is_no_plural():
    command = runserver.Command()
    command.get_handler(use_static_handler=False)
    assert command.sockets_line() == "Serving 1 WebSocket route."


def test_without_a_protocol_the_banner_says_that_no_sockets_are_served():
    command = runserver.Command()
    command.get_handler(use_static_handler=False)
    command.ws = "none"
    assert command.sockets_line() == "Serving no WebSockets: --ws is none."
