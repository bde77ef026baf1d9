"""What ``manage.py runserver`` does without a server; ``tests/live`` has the rest."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from importlib.util import find_spec
from io import StringIO
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import CommandError
from django.test import override_settings

from django_ws_dispatch import servers
from django_ws_dispatch.management import reload
from django_ws_dispatch.management.access_log import AccessLog
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


# A server that is bound


def test_an_address_that_can_not_be_had_is_an_oserror_and_leaves_nothing_open():
    server = pytest.importorskip("django_ws_dispatch.management.server")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        server.DevelopmentServer(taken.getsockname())


def test_stopping_a_server_that_has_not_started_returns_at_once():
    server = pytest.importorskip("django_ws_dispatch.management.server")
    bound = server.DevelopmentServer(("127.0.0.1", 0))
    assert bound.server_port > 0
    bound.stop()
    bound.socket.close()
    runserver.Command().stop()


# Whose fault it is


def test_the_import_error_behind_a_wrong_route_is_raised_where_a_module_is_to_blame(tmp_path):
    (tmp_path / "module_with_a_mistake.py").write_text("import no_such_module")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with pytest.raises(ModuleNotFoundError, match="no_such_module"), reload.blaming_modules():
            wrong("module_with_a_mistake.handler")


def test_a_dotted_path_that_is_wrong_stays_a_wrong_setting():
    with pytest.raises(ImproperlyConfigured), reload.blaming_modules():
        wrong("no_such_module.handler")
    with pytest.raises(ImproperlyConfigured), reload.blaming_modules():
        wrong("tests.handlers.nothing")


def wrong(path: str) -> None:
    from django_ws_dispatch.routing.routes import Routes

    Routes({"ws/": path})


class Serving:
    """A process that does not end."""

    def __init__(self, *waits: BaseException) -> None:
        self.waits = iter(waits)
        self.got: list[str] = []

    def wait(self, timeout: float) -> None:
        raise next(self.waits)

    def terminate(self) -> None:
        self.got.append("SIGTERM")

    def kill(self) -> None:
        self.got.append("SIGKILL")


@pytest.mark.parametrize(
    "end", [KeyboardInterrupt(), subprocess.TimeoutExpired("runserver", 1)], ids=["ctrl-c", "time"]
)
def test_a_process_that_does_not_end_is_killed_at_the_next_ctrl_c_or_in_time(end):
    process: Any = Serving(end)
    reload.finish(process)
    assert process.got == ["SIGTERM", "SIGKILL"]


# The log


def answered(scope: dict[str, Any], *events: dict[str, Any], received: Any = None) -> Any:
    """Let an application answer a scope, behind the log."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if received is not None:
            await receive()
        for event in events:
            await send(event)

    async def receive() -> Any:
        return received

    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    asyncio.run(AccessLog(application)(scope, receive, send))
    assert sent == list(events)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    logger = logging.getLogger("django.server")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "django.server")
    yield lambda: [(record.levelname, record.getMessage()) for record in caplog.records]
    logger.removeHandler(caplog.handler)


def test_what_a_client_writes_into_a_url_can_not_forge_a_line(lines):
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/\x1b[31m\r\n\xff",
        "query_string": b"a=\n\xe9",
        "http_version": "1.1",
    }
    answered(
        scope,
        {"type": "http.response.start", "status": 500},
        {"type": "http.response.body", "body": b"12", "more_body": True},
        {"type": "http.response.body", "body": b"3"},
    )
    assert lines() == [
        ("ERROR", r'"GET /\x1b[31m\r\n\xff?a=\n\xe9 HTTP/1.1" 500 3'),
    ]


def test_what_a_client_writes_into_a_url_is_cut(lines):
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/" + "a" * 5000,
        "query_string": b"b" * 5000,
        "http_version": "1.1",
    }
    answered(scope, {"type": "http.response.start", "status": 404})
    answered({**SOCKET, "path": "/" + "a" * 5000}, {"type": "websocket.close"})
    url = f"/{'a' * 199}..."
    assert [text for _, text in lines()] == [
        f'"GET {url}?{"b" * 200}... HTTP/1.1" 404 0',
        f'"WebSocket {url}" 403',
    ]


SOCKET = {"type": "websocket", "path": "/ws/é/", "query_string": b"token=secret"}
ACCEPT = {"type": "websocket.accept"}
SHOWN = r'"WebSocket /ws/\xc3\xa9/"'


def test_a_socket_is_logged_when_it_opens_and_when_it_is_over(lines):
    close = {"type": "websocket.close", "code": 4401}
    answered(SOCKET, ACCEPT, {"type": "websocket.send", "text": "1"}, close)
    assert lines() == [("INFO", f"{SHOWN} 101"), ("INFO", f"{SHOWN} closed 4401")]


def test_a_socket_that_the_client_closes_is_logged_with_its_code(lines):
    answered(SOCKET, ACCEPT, received={"type": "websocket.disconnect", "code": 1001})
    assert lines() == [("INFO", f"{SHOWN} 101"), ("INFO", f"{SHOWN} closed 1001")]


def test_a_denial_is_logged_with_its_status(lines):
    answered(SOCKET, {"type": "websocket.close"})
    answered(SOCKET, {"type": "websocket.http.response.start", "status": 503})
    assert lines() == [("WARNING", f"{SHOWN} 403"), ("ERROR", f"{SHOWN} 503")]


def test_an_answer_that_never_came_and_the_lifespan_are_not_logged(lines):
    answered({**SOCKET, "type": "http"})
    answered({"type": "lifespan"}, {"type": "lifespan.startup.complete"})
    assert lines() == []


def test_a_client_that_is_stuck_can_be_cut_off_through_the_log():
    class Transport(asyncio.Transport):
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    class Protocol:
        transport = Transport()

        async def send(self, event: Any) -> None: ...

    Protocol.__module__ = "uvicorn.protocols.websockets"
    protocol = Protocol()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert servers.of(send, {}).abort()

    async def receive() -> Any: ...

    asyncio.run(AccessLog(application)(SOCKET, receive, protocol.send))
    assert protocol.transport.aborted
