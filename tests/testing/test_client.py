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
async def test_text_and_bytes_go_both_ways_in_order():
    async with WebSocketClient().connect("/ws/echo/") as socket:
        for message in ("a", b"b", "", b"", "c"):
            await socket.send(message)
        assert [await socket.receive() for _ in range(5)] == ["a", b"b", "", b"", "c"]


@run
async def test_json_goes_both_ways():
    async with WebSocketClient().connect("/ws/echo/") as socket:
        await socket.send_json({"a": [1, None]})
        assert await socket.receive_json() == {"a": [1, None]}


@run
async def test_what_is_not_json_is_an_assertion_error():
    async with WebSocketClient().connect("/ws/garbage/") as socket:
        with pytest.raises(AssertionError, match=r"/ws/garbage/ sent '{', which is not JSON"):
            await socket.receive_json()


@run
async def test_only_str_and_bytes_can_be_sent():
    async with WebSocketClient().connect("/ws/echo/") as socket:
        with pytest.raises(TypeError, match=r"send\(\) takes str or bytes, not dict"):
            await socket.send({})


@run
async def test_a_message_that_does_not_come_says_where_the_handler_is():
    async with WebSocketClient().connect("/ws/echo/") as socket:
        with pytest.raises(TimeoutError, match=r"within 0\.01 s") as e:
            await socket.receive(timeout=0.01)
    assert "No message from /ws/echo/" in str(e.value)
    assert "async for message in websocket" in str(e.value)
    assert "dispatcher.py" not in str(e.value)


@run
async def test_receive_nothing_passes_where_nothing_comes():
    async with WebSocketClient().connect("/ws/echo/") as socket:
        await socket.receive_nothing(within=0.01)


@run
async def test_receive_nothing_fails_where_something_comes():
    async with WebSocketClient().connect("/ws/echo/") as socket:
        await socket.send("hello")
        with pytest.raises(AssertionError, match="sent 'hello' where nothing was expected"):
            await socket.receive_nothing()


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
async def test_the_chosen_subprotocol_and_the_accepts_headers_are_seen():
    client = WebSocketClient()
    async with client.connect("/ws/chosen/", subprotocols=["chat.v1", "chat.v0"]) as socket:
        assert socket.subprotocol == "chat.v1"
        assert socket.response_headers["X-NODE"] == "a"


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
async def test_a_denial_has_status_headers_and_body():
    with pytest.raises(HandshakeDenied) as denied:
        async with WebSocketClient().connect("/ws/denies/"):
            pytest.fail("the block was entered")
    assert denied.value.status_code == 418
    assert denied.value.headers["x-why"] == "tea"
    assert denied.value.body == b"not here"


@run
async def test_an_unknown_path_is_a_404():
    with pytest.raises(HandshakeDenied, match="denied with 404"):
        async with WebSocketClient().connect("/ws/nowhere/"):
            pass


@run
async def test_a_handshake_without_an_answer_says_where_the_handler_is():
    with pytest.raises(TimeoutError, match=r"did not answer the handshake within 0\.05 s") as e:
        async with WebSocketClient().connect("/ws/never_answers/", timeout=0.05):
            pass
    assert "await asyncio.Event().wait()" in str(e.value)


# The end


@run
async def test_leaving_the_block_is_a_page_that_is_left():
    async with WebSocketClient().connect("/ws/echo/"):
        pass
    assert events == [("left", 1001, "")]


@run
async def test_close_tells_the_handler_code_and_reason():
    async with WebSocketClient().connect("/ws/echo/") as socket:
        await socket.close(4001, "tired")
        await socket.wait_closed()
        assert events == [("left", 4001, "tired")]
        with pytest.raises(WebSocketDisconnect):
            await socket.send("more")


@run
async def test_the_codes_of_a_page_that_is_left_of_no_code_and_of_no_frame_can_be_played():
    for code in (1001, 1005, 1006):
        async with WebSocketClient().connect("/ws/echo/") as socket:
            await socket.close(code)
    assert [event[1] for event in events] == [1001, 1005, 1006]


@run
async def test_a_close_that_no_client_can_send_is_refused_and_the_socket_stays_open():
    async with WebSocketClient().connect("/ws/echo/") as socket:
        for code in (5, 999, 1004, 1015, 2999, 999999, "x", None):
            with pytest.raises(ValueError, match="is not a close code that may be sent"):
                await socket.close(code)
        with pytest.raises(ValueError, match="at most 123 bytes"):
            await socket.close(reason="\u20ac" * 42)
        assert socket.close_code is None
        await socket.close(reason="\u20ac" * 41)
        assert socket.close_reason == "\u20ac" * 41


@run
async def test_a_close_of_the_application_comes_behind_its_messages():
    async with WebSocketClient().connect("/ws/closes/") as socket:
        await socket.wait_closed()
        assert await socket.receive() == "bye"
        for _ in range(2):
            with pytest.raises(WebSocketDisconnect) as over:
                await socket.receive()
            assert (over.value.code, over.value.reason) == (4321, "enough")
        with pytest.raises(WebSocketDisconnect):
            await socket.receive_nothing()
        assert (socket.close_code, socket.close_reason) == (4321, "enough")


@run
async def test_wait_closed_says_where_the_handler_is_when_it_is_not_over():
    async with WebSocketClient().connect("/ws/echo/") as socket:
        with pytest.raises(TimeoutError, match=r"(?s)is not over after 0\.01 s.*async for message"):
            await socket.wait_closed(timeout=0.01)


@run
async def test_a_handler_that_never_reads_is_cancelled_when_the_block_is_left():
    async with WebSocketClient().connect("/ws/deaf/"):
        pass
    assert events == ["cancelled"]


@run
async def test_a_handler_that_hangs_is_cancelled_and_complained_about():
    with pytest.raises(TimeoutError, match="was cancelled") as e:
        async with WebSocketClient().connect("/ws/hangs/", timeout=0.1) as socket:
            await socket.send("go")
    assert "await asyncio.Event().wait()" in str(e.value)
    assert events == ["cancelled"]


@run
async def test_a_hang_does_not_hide_what_the_test_raised():
    async def test():
        async with WebSocketClient().connect("/ws/hangs/", timeout=0.1) as socket:
            await socket.send("go")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as e:
        await test()
    assert "had not ended" in e.value.__notes__[0]


@run
async def test_a_cancelled_test_cancels_the_handler():
    inside = asyncio.Event()

    async def test():
        async with WebSocketClient().connect("/ws/deaf/"):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(test())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events == ["cancelled"]


# Failures


@run
async def test_a_failure_before_the_accept_is_raised_by_connect():
    with pytest.raises(LookupError, match="before the accept"):
        async with WebSocketClient().connect("/ws/fails/"):
            pytest.fail("the block was entered")


@run
async def test_a_failure_is_raised_by_the_receive_behind_the_last_message_and_once():
    async with WebSocketClient().connect("/ws/fails_later/") as socket:
        await socket.send("x")
        assert await socket.receive() == "one last word"
        with pytest.raises(LookupError, match="on x"):
            await socket.receive()
        with pytest.raises(WebSocketDisconnect):
            await socket.receive()
        await socket.wait_closed()


@run
async def test_a_failure_is_raised_by_wait_closed():
    async with WebSocketClient().connect("/ws/fails_later/") as socket:
        await socket.send("x")
        with pytest.raises(LookupError):
            await socket.wait_closed()


@run
async def test_a_failure_is_raised_by_a_send_on_the_closed_socket():
    async with WebSocketClient().connect("/ws/fails_later/") as socket:
        await socket.send("x")
        await socket.receive()
        async with asyncio.timeout(5):
            await until(lambda: socket.close_code is not None)
        with pytest.raises(LookupError):
            await socket.send("y")


@run
async def test_a_failure_is_raised_where_the_block_is_left():
    with pytest.raises(LookupError, match="at the end"):
        async with WebSocketClient().connect("/ws/fails_at_the_end/"):
            pass


@run
async def test_a_failure_is_noted_on_what_the_test_raised():
    with pytest.raises(ZeroDivisionError) as e:
        async with WebSocketClient().connect("/ws/fails_at_the_end/"):
            raise ZeroDivisionError
    assert e.value.__notes__ == [
        "The handler of /ws/fails_at_the_end/ failed: LookupError('at the end')"
    ]


@run
async def test_the_failure_of_one_socket_is_not_the_others():
    client = WebSocketClient()
    async with client.connect("/ws/fails_later/") as one, client.connect("/ws/echo/") as other:
        await one.send("x")
        with pytest.raises(LookupError):
            await one.wait_closed()
        await other.send("still here")
        assert await other.receive() == "still here"


@run
async def test_without_raise_request_exception_the_test_sees_what_a_client_sees():
    client = WebSocketClient(raise_request_exception=False)
    async with client.connect("/ws/fails_later/") as socket:
        await socket.send("x")
        await socket.receive()
        with pytest.raises(WebSocketDisconnect) as over:
            await socket.receive()
        assert over.value.code == 1011
    with pytest.raises(HandshakeDenied, match="denied with 500"):
        async with client.connect("/ws/fails/"):
            pass


@run
async def test_an_exception_that_means_something_is_no_failure():
    async with WebSocketClient().connect("/ws/forbids/") as socket:
        await socket.send("x")
        with pytest.raises(WebSocketDisconnect) as over:
            await socket.receive()
        assert over.value.code == 4403


@run
async def test_a_wrong_setting_is_raised_by_connect():
    with (
        override_settings(WEBSOCKET_HANDLERS={"ws/echo/": "tests.nowhere"}),
        pytest.raises(Exception, match=r"tests\.nowhere"),
    ):
        async with WebSocketClient().connect("/ws/echo/"):
            pass


@run
async def test_an_application_that_is_no_dispatcher_raises_in_the_test_too():
    async def application(scope, receive, send):
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await receive()
            await receive()
        raise LookupError("raw")

    async with WebSocketClient(application=application).connect("/") as socket:
        await socket.send("x")
        with pytest.raises(LookupError, match="raw"):
            await socket.receive()


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
