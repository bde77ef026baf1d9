"""The client's side of a socket: what it sends, receives, and is told when it is over."""

import pytest
from django.test import override_settings

from django_ws_dispatch.exceptions import WebSocketDisconnect
from django_ws_dispatch.testing import HandshakeDenied, WebSocketClient

from .loops import run
from .sockets import HANDLERS, events


@pytest.fixture(autouse=True)
def _site():
    events.clear()
    with override_settings(WEBSOCKET_HANDLERS=HANDLERS):
        yield


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
async def test_the_chosen_subprotocol_and_the_accepts_headers_are_seen():
    client = WebSocketClient()
    async with client.connect("/ws/chosen/", subprotocols=["chat.v1", "chat.v0"]) as socket:
        assert socket.subprotocol == "chat.v1"
        assert socket.response_headers["X-NODE"] == "a"


@run
async def test_a_denial_has_status_headers_and_body():
    with pytest.raises(HandshakeDenied) as denied:
        async with WebSocketClient().connect("/ws/denies/"):
            pytest.fail("the block was entered")
    assert denied.value.status_code == 418
    assert denied.value.headers["x-why"] == "tea"
    assert denied.value.body == b"not here"


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
