"""``manage.py runserver`` as a process: what it serves, how it ends, and every line it says."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from textwrap import dedent
from time import monotonic

import pytest

pytest.importorskip("uvicorn")
sync_client = pytest.importorskip("websockets.sync.client")
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402

from tests.kit.ports import free_port  # noqa: E402
from tests.kit.process import ROOT, Process  # noqa: E402
from tests.kit.waiting import DEADLINE, wait_until  # noqa: E402

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"),
]

# Django 5.2 leaves the body of a request open that is cut off.
UNCLOSED = ("-W", "ignore:Unclosed file:ResourceWarning")

FILES = {
    "manage.py": """
        import os, sys
        os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
        from django.core.management import execute_from_command_line
        execute_from_command_line(sys.argv)
    """,
    "site_settings.py": """
        import os
        SECRET_KEY = "tests-only"
        DEBUG = not os.environ.get("NO_DEBUG")
        ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
        INSTALLED_APPS = ["django_ws_dispatch", "django.contrib.staticfiles"]
        ROOT_URLCONF = "site_urls"
        ASGI_APPLICATION = "site_asgi.application"
        STATIC_URL = "/static/"
        STATICFILES_DIRS = [os.path.dirname(__file__) + "/static"]
        WEBSOCKET_HANDLERS = {
            "ws/echo/": "site_sockets.echo",
            "ws/raw/": "site_sockets.raw",
            "ws/sleep/": "site_sockets.sleep",
        }
    """,
    "site_asgi.py": """
        from django_ws_dispatch.asgi import get_asgi_application
        application = get_asgi_application()
    """,
    "site_urls.py": """
        import asyncio, os, time
        from django.http import HttpResponse, StreamingHttpResponse
        from django.urls import path

        async def events():
            yield "data: 1\\n\\n"
            await asyncio.sleep(3600)

        def busy(request):
            print("busy", flush=True)
            time.sleep(3600)

        urlpatterns = [
            path("page/", lambda request: HttpResponse("page")),
            path("pid/", lambda request: HttpResponse(str(os.getpid()))),
            path("events/", lambda request: StreamingHttpResponse(events())),
            path("busy/", busy),
        ]
    """,
    "site_sockets.py": """
        import asyncio

        VERSION = "first"

        async def echo(websocket):
            try:
                async for message in websocket:
                    await websocket.send(f"{VERSION} {message}")
            finally:
                print("echo cleaned up", flush=True)

        async def raw(scope, receive, send):
            try:
                while (await receive())["type"] != "websocket.disconnect":
                    await send({"type": "websocket.accept"})
            finally:
                print("raw cleaned up", flush=True)

        async def sleep(websocket):
            await websocket.accept()
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.3)
                print("sleep cleaned up", flush=True)
    """,
    "static/site.css": "a {}\n",
}


class Runserver(Process):
    """A process group, as a terminal has one."""

    def __init__(self, folder: Path, port: int, *options: str, **environment: str) -> None:
        self.port = port
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_COLORS": "nocolor",
            **environment,
        }
        # asyncio's debug mode tells of every slow callback.
        env.pop("PYTHONDEVMODE", None)
        program = [sys.executable, "-W", "error", *UNCLOSED, "manage.py", "runserver"]
        super().__init__([*program, str(port), *options], folder=folder, environment=env)
        self._clients = ExitStack()

    def change(self, path: Path, text: str) -> None:
        """Write a file, and again until the reloader has seen it: it may have yet to look first."""
        deadline = monotonic() + DEADLINE
        seen = f"{path} changed, reloading."
        before = self.log.count(seen)
        while True:
            path.write_text(text, encoding="utf-8")
            try:
                return self.wait_for_log(seen, before + 1, deadline=1.5)
            except TimeoutError:
                if monotonic() > deadline:
                    raise

    def ready(self) -> Runserver:
        def answers() -> bool:
            with socket.socket(socket.AF_INET) as probe:
                return not probe.connect_ex(("127.0.0.1", self.port))

        self.wait_for_log("Quit the server")
        wait_until(answers)
        return self

    def interrupt(self) -> None:
        """Ctrl-C: every process of the terminal's group gets it."""
        os.killpg(self.pid, signal.SIGINT)

    def kill(self) -> None:
        self._clients.close()
        super().kill()

    def connect(self, path: str) -> sync_client.ClientConnection:
        url = f"ws://127.0.0.1:{self.port}{path}"
        return self._clients.enter_context(sync_client.connect(url, close_timeout=DEADLINE))

    def request(self, path: str) -> http.client.HTTPResponse:
        """Ask for a page and return once its headers are there."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        self._clients.enter_context(closing(connection))
        connection.request("GET", path)
        return connection.getresponse()

    def get(self, path: str, host: str = "127.0.0.1") -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection(host, self.port, timeout=DEADLINE)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

    def closed(self, client: sync_client.ClientConnection) -> int | None:
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(timeout=DEADLINE)
        return caught.value.rcvd.code if caught.value.rcvd else None

    @property
    def said(self) -> list[str]:
        """What it says, without times."""
        return [re.sub(r"^\[[^]]*\] ", "", line) for line in self.lines]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    return tmp_path


@pytest.fixture
def runserver(folder: Path) -> Iterator[Callable[..., Runserver]]:
    started: list[Runserver] = []

    def start(*options: str, port: int = 0, **environment: str) -> Runserver:
        server = Runserver(folder, port or free_port(), *options, **environment)
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.kill()


both = pytest.mark.parametrize("options", [(), ("--noreload",)], ids=["reload", "noreload"])


@both
def test_it_serves_pages_sockets_and_static_files_and_says_so(runserver, options):
    server = runserver(*options).ready()
    client = server.connect("/ws/echo/?token=secret")
    client.send("hello")
    assert client.recv(timeout=DEADLINE) == "first hello"
    client.close()
    server.wait_for_log("closed 1000")
    with pytest.raises(InvalidStatus):
        server.connect("/nowhere/")
    server.wait_for_log('"WebSocket /nowhere/" 404')
    assert server.get("/page/?x=%20y") == (200, b"page")
    assert server.get("/static/site.css")[0] == 200
    assert server.get("/static/other.css")[0] == 404
    server.wait_for_log("other.css")
    server.interrupt()
    assert server.wait() == 0
    lines = server.said
    start = next(i for i, line in enumerate(lines) if line.startswith("Starting"))
    assert lines[start].endswith(f" server (uvicorn) at http://127.0.0.1:{server.port}/")
    assert lines[start + 1 : start + 3] == [
        "Serving 3 WebSocket routes.",
        "Quit the server with CONTROL-C.",
    ]
    served = lines[start + 5 :]
    assert [re.sub(r"404 \d+$", "404", line) for line in served if line] == [
        '"WebSocket /ws/echo/" 101',
        "echo cleaned up",
        '"WebSocket /ws/echo/" closed 1000',
        "Denied /nowhere/ with 404: no route fits.",
        '"WebSocket /nowhere/" 404',
        '"GET /page/?x=%20y HTTP/1.1" 200 4',
        '"GET /static/site.css HTTP/1.1" 200 5',
        '"GET /static/other.css HTTP/1.1" 404',
    ]


@both
def test_ctrl_c_ends_it_with_everything_open(runserver, options):
    server = runserver(*options).ready()
    clients = [server.connect(f"/ws/{name}/") for name in ("echo", "raw", "sleep", "sleep")]
    assert server.request("/events/").readline() == b"data: 1\n"
    assert server.request("/page/").read() == b"page"  # and stays connected
    server.interrupt()
    assert [server.closed(client) for client in clients] == [1012] * 4
    assert server.wait() == 0
    for name, count in (("echo", 1), ("raw", 1), ("sleep", 2)):
        assert server.log.count(f"{name} cleaned up") == count
    assert said_after_start(server) == {
        '"WebSocket /ws/echo/" 101',
        '"WebSocket /ws/raw/" 101',
        '"WebSocket /ws/sleep/" 101',
        '"GET /page/ HTTP/1.1" 200 4',
        '"GET /events/ HTTP/1.1" 200 9',
        "echo cleaned up",
        "raw cleaned up",
        "sleep cleaned up",
        '"WebSocket /ws/echo/" closed 1012',
        '"WebSocket /ws/raw/" closed 1012',
        '"WebSocket /ws/sleep/" closed 1012',
    }


def said_after_start(server: Runserver) -> set[str]:
    _, _, after = server.log.partition("howto/deployment/\n")
    return {re.sub(r"^\[[^]]*\] ", "", line) for line in after.splitlines() if line}


@both
def test_a_view_that_sleeps_in_a_thread_does_not_keep_it(runserver, options):
    server = runserver(*options).ready()
    with closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        connection.request("GET", "/busy/")
        server.wait_for_log("busy")
        server.interrupt()
        assert server.wait() == 0
    assert said_after_start(server) == {"busy"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_reloader_alone_ends_both_processes(runserver, number):
    server = runserver().ready()
    client = server.connect("/ws/sleep/")
    server.send_signal(number)
    assert server.closed(client) == 1012
    assert server.wait() == 0
    assert "sleep cleaned up" in server.log
    assert "Traceback" not in server.log


def test_a_second_signal_does_not_interrupt_the_clean_up(runserver):
    server = runserver().ready()
    client = server.connect("/ws/sleep/")
    pid = int(server.get("/pid/")[1])
    # It finds both at once: on a busy machine the reloader's may come before Ctrl-C was looked at.
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        os.kill(pid, number)
    assert server.closed(client) == 1012
    assert server.wait() == 0
    assert "sleep cleaned up" in server.log
    assert "Traceback" not in server.log


def test_sigterm_without_the_reloader_lets_handlers_clean_up(runserver):
    server = runserver("--noreload").ready()
    client = server.connect("/ws/sleep/")
    server.terminate()
    assert server.closed(client) == 1012
    assert server.wait() in (0, -signal.SIGTERM)
    assert "sleep cleaned up" in server.log
    assert "Traceback" not in server.log


def test_a_changed_file_restarts_it_with_sockets_open(runserver, folder):
    server = runserver().ready()
    clients = [server.connect(f"/ws/{name}/") for name in ("echo", "sleep")]
    handlers = folder / "site_sockets.py"
    server.change(handlers, handlers.read_text().replace("first", "second"))
    assert [server.closed(client) for client in clients] == [1012, 1012]
    server.wait_for_log("Quit the server", count=2)
    client = server.ready().connect("/ws/echo/")
    client.send("hello")
    assert client.recv(timeout=DEADLINE) == "second hello"
    assert "sleep cleaned up" in server.log
    server.interrupt()
    assert server.wait() == 0
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("def plain(websocket): pass\necho = plain", "(ws_dispatch.E002)"),
        ("from os import nothing", "ImportError: cannot import name 'nothing'"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def", "SyntaxError: invalid syntax"),
    ],
)
def test_a_mistake_is_told_and_its_correction_is_served(runserver, folder, mistake, said):
    handlers = folder / "site_sockets.py"
    correct = handlers.read_text()
    handlers.write_text(f"{correct}\n{mistake}\n")
    server = runserver()
    server.wait_for_log(said)
    server.change(handlers, correct)
    client = server.ready().connect("/ws/echo/")
    client.send("hello")
    assert client.recv(timeout=DEADLINE) == "first hello"


@both
def test_a_port_in_use_is_said_in_djangos_words(runserver, options):
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        server = runserver(*options, port=taken.getsockname()[1])
        assert server.wait() == 1
    assert "Error: That port is already in use." in server.log
    assert "Traceback" not in server.log


def test_an_asgi_py_left_unchanged_serves_pages_and_a_warning(runserver, folder):
    asgi = folder / "site_asgi.py"
    asgi.write_text(asgi.read_text().replace("django_ws_dispatch.asgi", "django.core.asgi"))
    server = runserver().ready()
    assert server.get("/page/") == (200, b"page")
    assert "ws_dispatch.W002" in server.log
    said = "Serving no WebSockets: site_asgi.application is not a WebSocketDispatcher."
    assert said in server.said
    server.interrupt()
    assert server.wait() == 0
    assert "Traceback" not in server.log


def test_nostatic_leaves_static_files_to_the_site(runserver):
    server = runserver("--nostatic", "--noreload").ready()
    assert server.get("/static/site.css")[0] == 404


def test_static_files_without_debug_are_served_with_insecure_only(runserver):
    server = runserver("--noreload", NO_DEBUG="1").ready()
    assert server.get("/static/site.css")[0] == 404
    server = runserver("--noreload", "--insecure", NO_DEBUG="1").ready()
    assert server.get("/static/site.css")[0] == 200


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_it_listens_on_ipv6(runserver):
    server = runserver("--ipv6", "--noreload")
    server.wait_for_log("Quit the server")
    assert f"http://[::1]:{server.port}/" in server.log
    assert server.get("/page/", host="::1") == (200, b"page")


@both
def test_a_start_up_that_fails_says_why_once(runserver, folder, options):
    with (folder / "site_settings.py").open("a") as settings:
        settings.write('WEBSOCKET_LIFESPAN = "site_sockets.lifespan"\n')
    with (folder / "site_sockets.py").open("a") as handlers:
        handlers.write(
            "from contextlib import asynccontextmanager\n"
            "@asynccontextmanager\n"
            "async def lifespan():\n"
            "    raise RuntimeError('no model to load')\n"
            "    yield\n"
        )
    server = runserver(*options)
    server.wait_for_log("no model to load")
    if options:
        assert server.wait() != 0
    else:
        server.interrupt()
        assert server.wait() == 0
    assert server.log.count("Traceback") == 1
