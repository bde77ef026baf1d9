"""The server's side of a client: how a handler begins, fails and ends."""

import asyncio

import pytest
from django.test import override_settings

from django_ws_dispatch.exceptions import WebSocketDisconnect
from django_ws_dispatch.testing import HandshakeDenied, WebSocketClient
from tests.kit.waiting import until

from .loops import run
from .sockets import HANDLERS, events


@pytest.fixture(autouse=True)
def _site():
    events.clear()
    with override_settings(WEBSOCKET_HANDLERS=HANDLERS):
        yield


@run
async def test_a_handshake_without_an_answer_says_where_the_handler_is():
    with pytest.raises(TimeoutError, match=r"did not answer the handshake within 0\.05 s") as e:
        async with WebSocketClient().connect("/ws/never_answers/", timeout=0.05):
            pass
    assert "await asyncio.Event().wait()" in str(e.value)


@run
async def test_a_handler_that_never_reads_is_cancelled_when_the_block_is_left():
    async with WebSocketClient().connect("/ws/deaf/"):
        pass
    assert events == ["cancelled"]


@run
async def test_a_handler_that_hangs_is_cancelled_and_complained_about():
    with pytest.raises(TimeoutError, match="was cancelled") as e:
        async with WebSocketClient().connect("/ws/hangs/", timeout=0.5) as socket:
            await socket.send("go")
    assert "await asyncio.Event().wait()" in str(e.value)
    assert events == ["cancelled"]


@run
async def test_a_hang_does_not_hide_what_the_test_raised():
    async def test():
        async with WebSocketClient().connect("/ws/hangs/", timeout=0.5) as socket:
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
