"""The test client, as a test of a site uses it."""

import asyncio
import threading
from unittest import mock

import pytest
from asgiref.sync import SyncToAsync, async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_out
from django.db import connection
from django.test import SimpleTestCase, TestCase, TransactionTestCase, override_settings

from django_ws_dispatch import lanes
from django_ws_dispatch.auth.tell import end_session, verify_user
from django_ws_dispatch.exceptions import WebSocketDisconnect
from django_ws_dispatch.groups import Group
from django_ws_dispatch.testing import HandshakeDenied, WebSocketClient
from tests.kit.late_broker import LATE, late
from tests.kit.waiting import until

from .loops import run
from .sockets import HANDLERS, events


@pytest.fixture(autouse=True)
def _site():
    events.clear()
    with override_settings(WEBSOCKET_HANDLERS=HANDLERS):
        yield


# Messages


@run
async def test_a_group_reaches_the_others():
    client = WebSocketClient()
    async with (
        client.connect("/ws/rooms/lobby/") as one,
        client.connect("/ws/rooms/lobby/") as other,
        client.connect("/ws/rooms/garden/") as elsewhere,
    ):
        for socket in (one, other, elsewhere):
            await socket.receive_nothing(within=0.01)
        await one.send("hello")
        assert await other.receive() == "hello"
        await one.receive_nothing(within=0.01)
        await elsewhere.receive_nothing(within=0.01)
        await Group("garden").asend(b"rain")
        assert await elsewhere.receive() == b"rain"


@run
async def test_a_handler_that_joins_first_is_a_member_once_the_client_is_connected():
    with override_settings(WEBSOCKET_BROKERS=LATE):
        client = WebSocketClient()
        connecting = client.connect("/ws/rooms/lobby/")
        connected = asyncio.create_task(connecting.__aenter__())
        await until(lambda: late().asked)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not connected.done()
        late().acknowledge()
        socket = await connected
        await Group("lobby").asend("hello")
        assert await socket.receive() == "hello"
        await asyncio.to_thread(Group("lobby").send, "from a view")
        assert await socket.receive() == "from a view"
        await connecting.__aexit__(None, None, None)


# The handshake


@run
async def test_the_scope_is_that_of_a_server():
    client = WebSocketClient()
    async with client.connect("/ws/scope/?a=1&b=%C3%A4") as socket:
        seen = await socket.receive_json()
    assert seen["type"] == "websocket"
    assert seen["spec"] == "2.4"
    assert seen["scheme"] == "ws"
    assert seen["path"] == seen["raw_path"] == "/ws/scope/"
    assert seen["query"] == {"a": "1", "b": "ä"}
    assert seen["host"] == "testserver"
    assert seen["url"] == "http://testserver/ws/scope/?a=1&b=%C3%A4"
    assert not seen["secure"]
    assert seen["server"] == ["testserver", 80]
    assert seen["client"][0] == "127.0.0.1"
    assert seen["extensions"] == {"websocket.http.response": {}}
    assert seen["headers"]["upgrade"] == "websocket"
    assert seen["user"] == "AnonymousUser"
    assert "origin" not in seen["headers"]
    assert "cookie" not in seen["headers"]


@run
async def test_the_path_is_decoded_and_the_raw_path_is_not():
    seen = {}

    async def application(scope, receive, send):
        if scope["type"] == "websocket":
            seen.update(scope)
            await send({"type": "websocket.accept"})

    async with WebSocketClient(application=application).connect("/a%2Fb/ü/%41"):
        pass
    assert seen["path"] == "/a/b/ü/A"
    assert seen["raw_path"] == b"/a%2Fb/%C3%BC/%41"


@run
async def test_secure_makes_it_wss():
    async with WebSocketClient().connect("/ws/scope/", secure=True) as socket:
        seen = await socket.receive_json()
    assert (seen["scheme"], seen["secure"]) == ("wss", True)
    assert seen["server"] == ["testserver", 443]


@run
async def test_a_whole_url_gives_scheme_and_host():
    with override_settings(ALLOWED_HOSTS=["example.com"]):
        async with WebSocketClient().connect("wss://example.com:8443/ws/scope/") as socket:
            seen = await socket.receive_json()
    assert (seen["scheme"], seen["host"]) == ("wss", "example.com:8443")


@run
async def test_a_path_without_a_slash_is_refused():
    with pytest.raises(ValueError, match="begins with a slash"):
        async with WebSocketClient().connect("ws/echo/"):
            pass


@run
async def test_headers_of_the_client_and_of_the_call_are_sent():
    client = WebSocketClient(headers={"X-One": "1", "X-Two": "2"})
    async with client.connect("/ws/scope/", headers={"X-Two": "3", "X-Four": "4"}) as socket:
        headers = (await socket.receive_json())["headers"]
    assert (headers["x-one"], headers["x-two"], headers["x-four"]) == ("1", "3", "4")


@pytest.mark.asyncio
@pytest.mark.parametrize("headers", [{"X-N": 3}, {"X-N": b"3"}, {b"X-N": "3"}, {"X-N": None}])
async def test_a_header_that_is_not_str_is_refused(headers):
    with pytest.raises(TypeError, match=r"connect\(\) takes headers of str, not b?'X-N': "):
        async with WebSocketClient().connect("/ws/scope/", headers=headers):
            pass


@pytest.mark.asyncio
async def test_subprotocols_that_are_one_str_are_refused():
    with pytest.raises(TypeError, match=r"not a str: \['chat\.v1'\]"):
        async with WebSocketClient().connect("/ws/chosen/", subprotocols="chat.v1"):
            pass


@run
async def test_an_origin_of_another_site_is_denied():
    with pytest.raises(HandshakeDenied) as denied:
        async with WebSocketClient().connect("/ws/echo/", headers={"Origin": "http://evil.com"}):
            pass
    assert denied.value.status_code == 403


@run
async def test_cookies_of_an_accept_and_of_a_denial_go_into_the_jar_and_back():
    client = WebSocketClient()
    async with client.connect("/ws/chosen/"):
        assert client.cookies["seen"].value == "1"
    with pytest.raises(HandshakeDenied):
        async with client.connect("/ws/denies/"):
            pass
    assert client.cookies["denied"].value == "yes"
    async with client.connect("/ws/scope/") as socket:
        cookie = (await socket.receive_json())["headers"]["cookie"]
    assert cookie == "seen=1; denied=yes"


@run
async def test_an_unknown_path_is_a_404():
    with pytest.raises(HandshakeDenied, match="denied with 404"):
        async with WebSocketClient().connect("/ws/nowhere/"):
            pass


# The end


@run
async def test_leaving_the_block_is_a_page_that_is_left():
    async with WebSocketClient().connect("/ws/echo/"):
        pass
    assert events == [("left", 1001, "")]


# Failures


@run
async def test_a_wrong_setting_is_raised_by_connect():
    with (
        override_settings(WEBSOCKET_HANDLERS={"ws/echo/": "tests.nowhere"}),
        pytest.raises(Exception, match=r"tests\.nowhere"),
    ):
        async with WebSocketClient().connect("/ws/echo/"):
            pass


# Where sync work runs


@override_settings(WEBSOCKET_HANDLERS=HANDLERS)
class Transactions(TestCase):
    """Twice the same name: nothing of one test is there in the other."""

    async def test_handler_and_test_see_each_others_rows(self):
        await User.objects.acreate(username="test")
        async with WebSocketClient().connect("/ws/users/") as socket:
            await socket.send("handler")
            assert await socket.receive_json() == ["test", "handler"]
        assert await User.objects.acount() == 2

    async def test_nothing_of_another_test_is_there(self):
        await self.test_handler_and_test_see_each_others_rows()

    def test_with_async_to_sync(self):
        User.objects.create(username="test")

        @async_to_sync
        async def talk():
            async with WebSocketClient().connect("/ws/users/") as socket:
                await socket.send("handler")
                return await socket.receive_json()

        assert talk() == ["test", "handler"]
        assert User.objects.count() == 2

    async def test_a_logged_in_client_is_the_user_of_the_handshake(self):
        user = await User.objects.acreate(username="anna")
        client = WebSocketClient()
        with pytest.raises(HandshakeDenied, match="401"):
            async with client.connect("/ws/private/"):
                pass
        await client.aforce_login(user)
        async with client.connect("/ws/private/") as socket:
            assert await socket.receive() == "anna"
        await client.alogout()
        with pytest.raises(HandshakeDenied, match="401"):
            async with client.connect("/ws/private/"):
                pass

    async def test_alogin_works_as_well(self):
        await User.objects.acreate_user("anna", password="secret")
        client = WebSocketClient()
        assert await client.alogin(username="anna", password="secret")
        async with client.connect("/ws/private/") as socket:
            assert await socket.receive() == "anna"

    async def test_a_user_is_verified_in_the_tests_own_transaction(self):
        user = await User.objects.acreate(username="anna")
        client = WebSocketClient()
        await client.aforce_login(user)
        async with client.connect("/ws/private/") as socket:
            assert await socket.receive() == "anna"
            user.is_active = False
            await user.asave()
            verify_user(user)
            with pytest.raises(WebSocketDisconnect) as over:
                await socket.receive()
            assert over.value.code == 4401

    async def test_a_logout_elsewhere_is_heard_by_the_second_socket_of_a_loop_too(self):
        user = await User.objects.acreate(username="anna")
        for _ in range(2):
            client = WebSocketClient()
            await client.aforce_login(user)
            async with client.connect("/ws/private/") as socket:
                await socket.receive()
                end_session([client.cookies["sessionid"].value])
                with pytest.raises(WebSocketDisconnect) as over:
                    await socket.receive()
                assert over.value.code == 4401

    async def test_after_a_logout_was_told_of_its_session_is_nobodys_while_it_is_still_stored(self):
        # Django sends the signal, then flushes the session: a socket may come in between.
        client = WebSocketClient()
        await client.aforce_login(await User.objects.acreate(username="anna"))
        refused = 0

        def before_the_flush(sender, request, **kwargs):
            @async_to_sync
            async def connect():
                nonlocal refused
                try:
                    async with client.connect("/ws/private/"):
                        pass
                except HandshakeDenied as exc:
                    refused = exc.status_code

            connect()

        user_logged_out.connect(before_the_flush)
        try:
            await sync_to_async(client.logout)()
        finally:
            user_logged_out.disconnect(before_the_flush)
        assert refused == 401

    async def test_no_lane_is_started_and_no_connection_closed(self):
        with mock.patch.object(lanes.Lane, "run_call", side_effect=AssertionError("a lane")):
            await self.test_a_logged_in_client_is_the_user_of_the_handshake()
        assert not [t for t in threading.enumerate() if t.name.startswith("websocket-lane")]


@override_settings(WEBSOCKET_HANDLERS=HANDLERS)
class Rows(TransactionTestCase):
    async def test_handler_and_test_see_each_others_rows(self):
        await User.objects.acreate(username="test")
        async with WebSocketClient().connect("/ws/users/") as socket:
            await socket.send("handler")
            assert await socket.receive_json() == ["test", "handler"]
        assert await User.objects.acount() == 2


@override_settings(WEBSOCKET_HANDLERS=HANDLERS)
class Simple(SimpleTestCase):
    async def test_a_site_without_a_database(self):
        async with WebSocketClient().connect("/ws/echo/") as socket:
            await socket.send("hello")
            assert await socket.receive() == "hello"


@pytest.mark.asyncio
@pytest.mark.parametrize("turn", [1, 2])
async def test_under_pytest_asyncio_nothing_is_left(turn):
    before = asyncio.all_tasks()
    async with WebSocketClient().connect("/ws/rooms/lobby/") as socket:
        await socket.receive_nothing(within=0.01)
        await Group("lobby").asend("hello")
        assert await socket.receive() == "hello"
    assert asyncio.all_tasks() == before


@pytest.fixture
def _close_asgirefs_connection():
    """Django never closes a database in memory, and this one belongs to asgiref's own thread."""
    yield

    def close():
        connection.connection.close()
        connection.connection = None

    SyncToAsync.single_thread_executor.submit(close).result()


@pytest.mark.asyncio
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_close_asgirefs_connection")
async def test_under_pytest_asyncio_handler_and_test_see_each_others_rows():
    await User.objects.acreate(username="test")
    async with WebSocketClient().connect("/ws/users/") as socket:
        await socket.send("handler")
        assert await socket.receive_json() == ["test", "handler"]
    assert await User.objects.acount() == 2


@pytest.mark.django_db
def test_with_plain_pytest_and_async_to_sync():
    User.objects.create(username="test")

    @async_to_sync
    async def talk():
        async with WebSocketClient().connect("/ws/users/") as socket:
            await socket.send("handler")
            return await socket.receive_json()

    assert talk() == ["test", "handler"]
    assert User.objects.count() == 2


@run
async def test_pages_work_as_with_djangos_own_client():
    with override_settings(ROOT_URLCONF="tests.urls", ASGI_APPLICATION="tests.asgi.application"):
        assert (await WebSocketClient().get("/nowhere/")).status_code == 404
