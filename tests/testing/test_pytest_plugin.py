"""The pytest plugin and the package it lies in, as pytest loads them."""

import os
import subprocess
import sys

import pytest

import django_ws_dispatch.testing
from django_ws_dispatch.testing import WebSocketClient

pytestmark = pytest.mark.slow


def run(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )


def test_loading_the_plugin_imports_nothing_of_django():
    result = run(
        "import sys, django_ws_dispatch.testing.pytest_plugin\n"
        "sys.exit([name for name in sys.modules if name.split('.')[0] in ('django', 'asgiref')])"
    )
    assert (result.returncode, result.stderr) == (1, "[]\n")


def test_the_tools_need_no_pytest_and_no_uvicorn():
    result = run(
        "import sys; sys.modules.update(pytest=None, uvicorn=None)\n"
        "from django.conf import settings; settings.configure(INSTALLED_APPS=[])\n"
        "from django_ws_dispatch.testing import *\n"
        "assert WebSocketClient and ASGILiveServer and assert_sent"
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_every_name_is_there_and_no_other():
    for name in django_ws_dispatch.testing.__all__:
        assert getattr(django_ws_dispatch.testing, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'TestClient'"):
        django_ws_dispatch.testing.TestClient  # noqa: B018


@pytest.mark.asyncio
async def test_websocket_client_is_a_client(websocket_client):
    assert isinstance(websocket_client, WebSocketClient)
    async with websocket_client.connect("/ws/ping/") as socket:
        await socket.send("ping")
        assert await socket.receive() == "pong!"


TESTS = """
import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django_ws_dispatch"],
    SECRET_KEY="x",
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF="django.contrib.auth.urls",
    ASGI_APPLICATION=__name__ + ".application",
    WEBSOCKET_HANDLERS={},
)
django.setup()

from django_ws_dispatch.asgi import get_asgi_application
from websockets.sync.client import connect

async def ping(websocket):
    async for message in websocket:
        await websocket.send("pong!")

settings.WEBSOCKET_HANDLERS = {"ws/ping/": ping}
application = get_asgi_application()

def test_the_live_server(asgi_live_server):
    with connect(asgi_live_server.websocket_url("/ws/ping/")) as socket:
        socket.send("ping")
        assert socket.recv(50) == "pong!"

def test_it_is_the_same(asgi_live_server):
    assert asgi_live_server.url.startswith("http://127.0.0.1:")
"""

CHOOSING = """
import pytest

@pytest.fixture(scope="session")
def asgi_live_server_ws():
    return "websockets-sansio"

def test_the_class_is_the_one_that_was_chosen(asgi_live_server):
    assert asgi_live_server._ws == "websockets-sansio"
"""


@pytest.mark.parametrize(("added", "passed"), [("", 2), (CHOOSING, 3)])
def test_the_fixtures_work_without_pytest_django(added, passed, tmp_path):
    (tmp_path / "test_site.py").write_text(TESTS + added)
    plugin = "django_ws_dispatch.testing.pytest_plugin"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", plugin, "test_site.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        },
    )
    assert f"{passed} passed" in result.stdout, result.stdout + result.stderr
