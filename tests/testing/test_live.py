"""The live server, as a test of a site uses it."""

import asyncio
import gc
import json
import socket
import sys
import threading
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import override_settings
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import connect as aconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from django_ws_dispatch.groups import Group
from django_ws_dispatch.testing import ASGILiveServer, ASGILiveServerTestCase, WebSocketClient
from tests.kit.waiting import DEADLINE

from .sockets import HANDLERS, events

pytestmark = pytest.mark.slow

SITE = {"WEBSOCKET_HANDLERS": HANDLERS, "ROOT_URLCONF": "tests.testing.urls"}


@pytest.fixture(autouse=True)
def _site():
    events.clear()
    with override_settings(**SITE):
        yield


def get(url):
    with urlopen(url, timeout=DEADLINE) as response:
        return response.read()


def open_socket(server, path="/ws/echo/", **kwargs):
    return connect(server.websocket_url(path), **kwargs)


def server_threads():
    return [one for one in threading.enumerate() if one.name.startswith("asgi-live-server")]


# One connection for all


def test_pages_and_sockets_share_the_test_database(asgi_live_server):
    User.objects.create(username="test")
    with open_socket(asgi_live_server, "/ws/users/") as one:
        one.send("socket")
        assert json.loads(one.recv(DEADLINE)) == ["test", "socket"]
        page = json.loads(get(asgi_live_server.url + "/users/?name=page"))
        assert page["users"] == ["test", "socket", "page"]
        apage = json.loads(get(asgi_live_server.url + "/ausers/?name=apage"))
        assert apage["users"] == ["test", "socket", "page", "apage"]
        one.send("")
        assert json.loads(one.recv(DEADLINE)) == ["test", "socket", "page", "apage"]
    assert User.objects.count() == 4


def test_the_rows_of_another_test_are_gone(asgi_live_server):
    assert json.loads(get(asgi_live_server.url + "/users/"))["users"] == []


def test_all_sync_work_runs_in_one_thread_of_the_server(asgi_live_server):
    names = {json.loads(get(asgi_live_server.url + "/users/"))["thread"] for _ in range(3)}
    assert names == {"asgi-live-server-sync_0"}


def test_many_pages_and_sockets_at_once_find_no_locked_table(asgi_live_server):
    async def talk(number):
        async with aconnect(asgi_live_server.websocket_url("/ws/users/")) as one:
            for turn in range(5):
                await one.send(f"{number}-{turn}")
                await asyncio.wait_for(one.recv(), 20)

    def browse(number):
        for turn in range(5):
            get(f"{asgi_live_server.url}/users/?name=page-{number}-{turn}")

    async def everything():
        await asyncio.gather(
            *(talk(number) for number in range(5)),
            *(asyncio.to_thread(browse, number) for number in range(3)),
        )

    asyncio.run(everything())
    assert User.objects.count() == 5 * 5 + 3 * 5


def test_a_logged_in_user_is_known_to_the_server(asgi_live_server, client):
    client.force_login(User.objects.create(username="anna"))
    cookie = f"sessionid={client.cookies['sessionid'].value}"
    with open_socket(
        asgi_live_server, "/ws/private/", additional_headers={"Cookie": cookie}
    ) as one:
        assert one.recv(DEADLINE) == "anna"
    with pytest.raises(InvalidStatus, match="401"):
        open_socket(asgi_live_server, "/ws/private/")


@pytest.mark.django_db
def test_a_mark_without_transactions_does_not_win(asgi_live_server):
    from django.db import connection

    assert not connection.in_atomic_block


# Pages


def test_the_host_is_allowed_for_the_test(asgi_live_server):
    assert get(asgi_live_server.url + "/host/").decode() == asgi_live_server.url + "/host/"
    assert "127.0.0.1" in settings.ALLOWED_HOSTS


def test_static_files_are_served(asgi_live_server, tmp_path):
    (tmp_path / "site.js").write_text("let answer = 42;\n")
    with override_settings(STATICFILES_DIRS=[tmp_path]):
        assert get(asgi_live_server.url + "/static/site.js") == b"let answer = 42;\n"
        with pytest.raises(HTTPError, match="404"):
            get(asgi_live_server.url + "/static/nothing.js")


@pytest.mark.django_db(transaction=True)
def test_uploaded_files_are_served_and_what_is_none_is_a_page(tmp_path):
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a b.txt").write_text("uploaded")
    (tmp_path / "secret.txt").write_text("not uploaded")
    with override_settings(MEDIA_URL="/users/", MEDIA_ROOT=folder), ASGILiveServer() as server:
        assert get(server.url + "/users/a%20b.txt") == b"uploaded"
        for path in ("/users/b.txt", "/users/../secret.txt", "/users/%2e%2e/secret.txt"):
            with pytest.raises(HTTPError, match="404"):
                get(server.url + path)
        assert get(server.url + "/host/").decode() == server.url + "/host/"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("url", ["", "/media/"])
def test_without_a_folder_for_uploads_every_file_is_a_page(url):
    with override_settings(MEDIA_URL=url), ASGILiveServer() as server:
        for path in ("setup.cfg", "media/setup.cfg"):
            with pytest.raises(HTTPError, match="404"):
                get(f"{server.url}/{path}")


# Sockets


def test_a_group_message_of_the_test_reaches_the_servers_sockets(asgi_live_server):
    with open_socket(asgi_live_server, "/ws/rooms/lobby/") as one:
        one.send("nobody else is there")
        one.ping().wait(DEADLINE)
        with open_socket(asgi_live_server, "/ws/rooms/lobby/") as two:
            two.send("hello")
            assert one.recv(DEADLINE) == "hello"
            Group("lobby").send("from the test")
            assert (one.recv(DEADLINE), two.recv(DEADLINE)) == ("from the test", "from the test")


def test_a_stop_closes_the_open_sockets_with_1012_and_ends_their_handlers():
    with (
        ASGILiveServer() as server,
        open_socket(server) as reader,
        open_socket(server, "/ws/deaf/") as deaf,
    ):
        reader.send("x")
        assert reader.recv(DEADLINE) == "x"
        server.stop()
        for one in (reader, deaf):
            with pytest.raises(ConnectionClosed) as over:
                one.recv(DEADLINE)
            assert over.value.rcvd.code == 1012
    assert [event[:2] for event in events if event != "cancelled"] == [("left", 1012)]
    assert "cancelled" in events


@pytest.mark.django_db(transaction=True)
def test_a_stopped_server_leaves_no_thread_and_no_port():
    before = server_threads()
    with ASGILiveServer() as server:
        get(server.url + "/host/")
        port = int(server.url.rpartition(":")[2])
        assert len(server_threads()) > len(before)
    assert server_threads() == before
    with pytest.raises(RuntimeError, match="not started"):
        server.url  # noqa: B018
    socket.create_server(("127.0.0.1", port)).close()
    gc.collect()


@pytest.mark.django_db(transaction=True)
def test_two_servers_have_two_ports_and_can_be_started_again():
    with ASGILiveServer() as one, ASGILiveServer() as other:
        assert one.url != other.url
        assert get(one.url + "/host/") != get(other.url + "/host/")
    with one:
        assert get(one.url + "/host/").decode() == one.url + "/host/"


def test_a_second_start_is_refused_and_a_second_stop_is_not():
    with ASGILiveServer() as server:
        with pytest.raises(RuntimeError, match="started already"):
            server.start()
        server.stop()
        server.stop()


def test_a_taken_port_is_an_error_and_leaves_the_settings_alone():
    hosts = list(settings.ALLOWED_HOSTS)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = ASGILiveServer(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            server.__enter__()
    assert hosts == settings.ALLOWED_HOSTS


def test_a_lifespan_that_fails_fails_the_start():
    before = server_threads()
    with (
        override_settings(WEBSOCKET_LIFESPAN="tests.testing.sockets.broken_lifespan"),
        pytest.raises(RuntimeError, match="did not start"),
    ):
        ASGILiveServer().start()
    assert server_threads() == before


def test_the_servers_lifespan_is_not_the_clients():
    async def talk():
        async with WebSocketClient().connect("/ws/state/") as one:
            return await one.receive_json()

    with (
        override_settings(WEBSOCKET_LIFESPAN="tests.testing.sockets.lifespan"),
        ASGILiveServer() as server,
    ):
        with open_socket(server, "/ws/state/") as one:
            assert json.loads(one.recv(DEADLINE)) == {"number": 42}
        assert asyncio.run(talk()) == {"number": 42}
        assert events == ["started", "started", "stopped"]
        with open_socket(server, "/ws/state/") as one:
            assert json.loads(one.recv(DEADLINE)) == {"number": 42}
    assert events == ["started", "started", "stopped", "stopped"]


def test_an_application_can_be_given():
    async def application(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    with ASGILiveServer(application) as server:
        assert get(server.url + "/anything/") == b"/anything/"


async def named(scope, receive, send):
    """A socket that says which class serves it; a lifespan it has not."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": type(receive.__self__).__module__})
    await send({"type": "websocket.close"})


@pytest.mark.parametrize(
    ("options", "package"),
    [
        ({}, "django_ws_dispatch.uvicorn"),
        ({"ws": "websockets-sansio"}, "uvicorn.protocols.websockets"),
        ({"ws": WebSocketsSansIOProtocol}, "uvicorn.protocols.websockets"),
    ],
)
def test_the_class_that_serves_sockets_can_be_chosen(options, package):
    with ASGILiveServer(named, **options) as server, open_socket(server, "/") as one:
        assert one.recv(DEADLINE).startswith(f"{package}.")


def test_a_class_that_is_none_fails_the_start_with_the_remedy():
    server = ASGILiveServer(ws="nowhere:WebSocketProtocol")
    with pytest.raises(ValueError, match="Take one of auto, "):
        server.start()
    assert repr(server) == "<ASGILiveServer stopped>"


def test_without_websockets_the_start_fails_with_the_remedy(monkeypatch):
    for name in [one for one in sys.modules if one.startswith("django_ws_dispatch.uvicorn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "websockets.exceptions", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"websockets: pip install \"django-ws-dispatch\["
    ):
        ASGILiveServer().start()


def test_a_path_without_a_slash_is_refused(asgi_live_server):
    with pytest.raises(ValueError, match="begins with a slash"):
        asgi_live_server.websocket_url("ws/echo/")


@override_settings(**SITE)
class LiveCase(ASGILiveServerTestCase):
    def test_pages_and_sockets_are_served(self):
        User.objects.create(username="test")
        page = json.loads(get(self.live_server_url + "/users/"))
        assert page["users"] == ["test"]
        with connect(self.websocket_url("/ws/users/")) as one:
            one.send("socket")
            assert json.loads(one.recv(DEADLINE)) == ["test", "socket"]

    def test_the_rows_of_another_test_are_gone(self):
        assert User.objects.count() == 0

    async def test_an_async_test_works_as_well(self):
        await User.objects.acreate(username="test")
        async with aconnect(self.websocket_url("/ws/users/")) as one:
            await one.send("socket")
            assert json.loads(await one.recv()) == ["test", "socket"]


with socket.create_server(("127.0.0.1", 0)) as probe:
    PORT = probe.getsockname()[1]


@override_settings(**SITE)
class NamedCase(ASGILiveServerTestCase):
    host = "localhost"
    port = PORT
    ws = "websockets-sansio"

    def test_the_server_listens_where_the_class_says(self):
        assert self.live_server_url == f"http://localhost:{PORT}"
        assert self.websocket_url("/") == f"ws://localhost:{PORT}/"
        assert get(self.live_server_url + "/host/").decode() == self.live_server_url + "/host/"
        with connect(self.websocket_url("/ws/echo/")) as one:
            one.send("hello")
            assert one.recv(DEADLINE) == "hello"

    def test_its_sockets_are_served_by_what_the_class_says(self):
        assert self.live_server._ws == "websockets-sansio"
