"""The WebSocket, as a handler sees it."""

from __future__ import annotations

import asyncio
import datetime
import threading

import pytest
from asgiref.sync import sync_to_async

from django_ws_dispatch.decorators import subprotocols
from django_ws_dispatch.exceptions import WebSocketDisconnect
from django_ws_dispatch.groups import Group
from django_ws_dispatch.websockets import CloseCode, WebSocketState

from ..kit.fake_server import HABITS, hurry, only_socket, serving
from ..kit.members import text as text_message
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio

every_server = pytest.mark.parametrize("server_name", HABITS)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    hurry(monkeypatch)


# Accepting


async def by_receive(websocket):
    await websocket.receive()


async def by_iteration(websocket):
    async for _ in websocket:
        pass


async def by_iter_json(websocket):
    async for _ in websocket.iter_json():
        pass


async def by_send(websocket):
    await websocket.send("x")


async def by_send_json(websocket):
    await websocket.send_json({})


async def by_join(websocket):
    async with websocket.join("lobby"):
        pass


async def by_send_each(websocket):
    async def nothing():
        return
        yield

    await websocket.send_each(nothing())


async def by_wait_closed(websocket):
    await websocket.wait_closed()


async def by_accept(websocket):
    await websocket.accept()


ways = pytest.mark.parametrize(
    "handler",
    [
        by_receive,
        by_iteration,
        by_iter_json,
        by_send,
        by_send_json,
        by_join,
        by_send_each,
        by_wait_closed,
        by_accept,
    ],
    ids=lambda handler: handler.__name__,
)


@ways
async def test_the_first_use_accepts_once(handler):
    async with serving(handler) as server:
        await server.accepted()
        server.message("{}")
        server.leave()
        await server.ended()
        assert server.types[0] == "accept"
        assert server.types.count("accept") == 1


@ways
async def test_every_way_to_accept_chooses_the_first_offered_among_the_declared(handler):
    @subprotocols("v1", "v2")
    async def declared(websocket):
        await handler(websocket)
        chosen.append(websocket.subprotocol)

    chosen = []
    async with serving(declared, scope={"subprotocols": ["v3", "v2", "v1"]}) as server:
        await server.accepted()
        assert server.sent[0]["subprotocol"] == "v2"


@subprotocols("v1")
async def speaks_v1(websocket):
    assert websocket.subprotocols == ["v3", "v2"]
    await websocket.accept()
    assert websocket.subprotocol is None


async def test_no_subprotocol_is_chosen_where_none_fits():
    async with serving(speaks_v1, scope={"subprotocols": ["v3", "v2"]}) as server:
        await server.ended()
        assert server.sent[0].get("subprotocol") is None


async def test_the_subprotocol_of_this_package_is_answered_where_no_other_is_chosen():
    async def handler(websocket):
        assert websocket.subprotocols == ["v3"]
        await websocket.accept(headers={"X-One": "1"})
        assert websocket.subprotocol is None
        await websocket.send("hi")
        await websocket.send_json([1])

    offered = ["v3", "django-ws-dispatch.v1", "since.e30"]
    async with serving(handler, scope={"subprotocols": offered}) as server:
        await server.ended()
        assert server.sent[0] == {
            "type": "websocket.accept",
            "subprotocol": "django-ws-dispatch.v1",
            "headers": [(b"x-one", b"1")],
        }
        assert server.data[1:] == ["\nhi", "\n[1]"]
        assert server.closed == (1000, "")


async def test_accept_takes_a_subprotocol_that_was_offered_and_no_other():
    async def handler(websocket):
        with pytest.raises(ValueError, match="did not offer"):
            await websocket.accept("v9")
        assert websocket.ready_state is WebSocketState.CONNECTING
        await websocket.accept("v2")
        assert websocket.subprotocol == "v2"

    async with serving(handler, scope={"subprotocols": ["v3", "v2"]}) as server:
        await server.ended()
        assert server.sent[0]["subprotocol"] == "v2"


async def test_accepting_twice_is_an_error_of_the_caller():
    async def handler(websocket):
        await websocket.accept()
        with pytest.raises(RuntimeError, match="accepted already"):
            await websocket.accept()

    async with serving(handler) as server:
        await server.ended()
        assert server.closed == (1000, "")


@pytest.mark.parametrize(
    "headers", [{"X-One": "1"}, [("X-One", "1")], [(b"X-One", b"1")], (("X-One", b"1"),)]
)
async def test_accept_sends_headers_with_lower_case_names(headers):
    async def handler(websocket):
        await websocket.accept(headers=headers)

    async with serving(handler) as server:
        await server.ended()
        assert server.sent[0]["headers"] == [(b"x-one", b"1")]


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-WebSocket-Protocol": "v1"},
        {"X": "a\r\nY: b"},
        {"X": "a\0b"},
        {"X\r\nY": "b"},
        {"X\0": "b"},
        {"X(": "b"},
        {"": "b"},
    ],
)
async def test_accept_refuses_headers_that_can_not_be_sent(headers):
    async def handler(websocket):
        with pytest.raises(ValueError, match="header"):
            await websocket.accept(headers=headers)

    async with serving(handler) as server:
        await server.ended()
        assert "accept" not in server.types


async def test_accept_says_what_a_header_is_made_of():
    async def handler(websocket):
        with pytest.raises(TypeError, match="str or bytes, not 5"):
            await websocket.accept(headers={"X-Count": 5})

    async with serving(handler) as server:
        await server.ended()
        assert "accept" not in server.types


async def test_a_header_loses_the_blanks_around_its_value():
    async def handler(websocket):
        await websocket.accept(headers={"X-One": " 1\t"})

    async with serving(handler) as server:
        await server.ended()
        assert server.sent[0]["headers"] == [(b"x-one", b"1")]


async def test_an_accept_that_the_server_refuses_is_none():
    async def handler(websocket):
        server.error = LookupError("refused")
        with pytest.raises(LookupError):
            await websocket.accept()
        server.error = None
        assert websocket.ready_state is WebSocketState.CONNECTING
        raise ValueError

    async with serving(handler) as server:
        await server.ended()
        assert server.denied == (500, b"Internal Server Error")


@ways
async def test_no_way_to_accept_works_once_the_handshake_was_denied(handler):
    async def denies(websocket):
        await websocket.close()
        with pytest.raises(WebSocketDisconnect):
            await websocket.accept()
        try:
            await handler(websocket)
        except WebSocketDisconnect:
            pass

    async with serving(denies) as server:
        await server.ended()
        assert "accept" not in server.types
        assert server.denied is not None
        assert server.denied[0] == 403


# Receiving


async def test_receive_returns_text_as_str_and_binary_as_bytes():
    async def handler(websocket):
        got.append(await websocket.receive())
        got.append(await websocket.receive())
        got.append(await websocket.receive_text())
        got.append(await websocket.receive_bytes())
        got.append(await websocket.receive_json())
        got.append(await websocket.receive_json())
        got.append(await websocket.receive())
        got.append(await websocket.receive())

    got = []
    async with serving(handler) as server:
        server.message("a", b"b", "c", b"d", '{"e": 1}', b"[2]", "", b"")
        await server.ended()
    assert got == ["a", b"b", "c", b"d", {"e": 1}, [2], "", b""]


@pytest.mark.parametrize("empty", [{"text": None, "bytes": b"x"}, {"text": "x", "bytes": None}])
async def test_a_server_may_send_both_keys_of_a_message(empty):
    async def handler(websocket):
        await websocket.send(await websocket.receive())

    async with serving(handler) as server:
        server.feed({"type": "websocket.receive", **empty})
        await server.ended()
        assert server.data in (["x"], [b"x"])


@pytest.mark.parametrize(
    ("method", "message", "code"),
    [
        ("receive_text", b"x", 1003),
        ("receive_bytes", "x", 1003),
        ("receive_json", "{", 1007),
        ("receive_json", "", 1007),
        ("receive_json", b"\xff\xfe\xfd", 1007),
        ("receive_json", "[" * 100_000, 1007),
    ],
)
async def test_what_a_receive_can_not_take_closes_the_socket_with_one_log_line(
    method, message, code, caplog
):
    async def handler(websocket):
        await getattr(websocket, method)()

    async with serving(handler) as server:
        server.message(message)
        await server.ended()
        assert server.closed is not None
        assert server.closed[0] == code
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert not record.exc_info


async def test_iterations_end_quietly_when_the_client_goes():
    async def handler(websocket):
        async for message in websocket:
            got.append(message)
        async for message in websocket:
            got.append(message)
        async for message in websocket.iter_json():
            got.append(message)
        got.append(websocket.close_code)

    got = []
    async with serving(handler) as server:
        server.message("a", b"b")
        await until(lambda: len(got) == 2)
        server.leave(1001)
        await server.ended()
    assert got == ["a", b"b", 1001]


async def test_iter_json_closes_with_1007_for_what_is_not_json():
    async def handler(websocket):
        async for item in websocket.iter_json():
            got.append(item)
        got.append(websocket.close_code)

    got = []
    async with serving(handler) as server:
        server.message('{"a": 1}', "nonsense", "2")
        await server.ended()
        assert server.closed is not None
        assert server.closed[0] == 1007
    assert got == [{"a": 1}, 1007]


async def test_a_disconnect_knows_its_code_and_reason():
    async def handler(websocket):
        with pytest.raises(WebSocketDisconnect) as caught:
            await websocket.receive()
        assert (caught.value.code, caught.value.reason) == (4001, "bye")
        assert (websocket.close_code, websocket.close_reason) == (4001, "bye")
        assert websocket.ready_state is WebSocketState.CLOSED
        with pytest.raises(WebSocketDisconnect):
            await websocket.send("x")
        await websocket.close()

    async with serving(handler) as server:
        await server.accepted()
        server.leave(4001, "bye")
        await server.ended()
        assert server.types == ["accept"]


@pytest.mark.parametrize("code", [None, 1005])
async def test_a_server_without_a_code_means_1005(code):
    async def handler(websocket):
        with pytest.raises(WebSocketDisconnect) as caught:
            await websocket.receive()
        assert (caught.value.code, caught.value.reason) == (1005, "")

    async with serving(handler) as server:
        await server.accepted()
        server.feed({"type": "websocket.disconnect", "code": code, "reason": None})
        await server.ended()


# Sending


async def test_send_takes_text_and_bytes_and_nothing_else():
    async def handler(websocket):
        await websocket.send("a")
        await websocket.send(b"b")
        await websocket.send(bytearray(b"c"))
        await websocket.send(memoryview(b"d"))
        for wrong in (1, None, ["x"]):
            with pytest.raises(TypeError, match="send_json"):
                await websocket.send(wrong)
        await websocket.send_json({"at": datetime.date(2026, 11, 22), "name": "é"})

    async with serving(handler) as server:
        await server.ended()
        assert server.data == [
            "a",
            b"b",
            b"c",
            b"d",
            '{"at":"2026-11-22","name":"\\u00e9"}',
        ]


@every_server
async def test_send_after_close_raises_and_nothing_goes_out(server_name):
    async def handler(websocket):
        await websocket.send("a")
        await websocket.close(4000, "enough")
        assert (websocket.close_code, websocket.close_reason) == (4000, "enough")
        with pytest.raises(WebSocketDisconnect) as caught:
            await websocket.send("b")
        assert (caught.value.code, caught.value.reason) == (4000, "enough")
        with pytest.raises(WebSocketDisconnect):
            await websocket.receive()
        await websocket.close(4001)  # once is enough

    async with serving(handler, server=server_name) as server:
        await server.ended()
        assert server.types == ["accept", "send", "close"]
        assert server.closed == (4000, "enough")


@every_server
async def test_a_read_in_another_task_ends_when_the_socket_is_closed(server_name, monkeypatch):
    hurry(monkeypatch, WAKE_GRACE=0.02, BUSY_GRACE=0.02)

    async def handler(websocket):
        async def read():
            async for _ in websocket:
                pass
            seen.append("the end")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            await asyncio.sleep(0.01)
            await websocket.close(4000)

    seen = []
    async with serving(handler, server=server_name) as server:
        await server.ended()
        assert server.closed == (4000, "")


async def test_waiting_for_the_end_gives_the_lane_back():
    async def handler(websocket):
        await websocket.receive()
        await sync_to_async(lambda: None)()
        assert websocket.is_between_reads
        assert websocket.lane is not None
        called.set()
        await websocket.wait_closed()

    called = asyncio.Event()
    async with serving(handler) as server:
        server.message("go")
        await called.wait()
        await until(lambda: only_socket().lane is None)
        assert not only_socket().is_between_reads
        server.leave()
        await server.ended()


async def test_what_send_each_sends_keeps_its_lane_between_two_calls():
    async def rows():
        for number in range(3):
            yield await sync_to_async(lambda number=number: f"{number} {threading.get_ident()}")()
            lanes.append(only_socket().lane)

    async def handler(websocket):
        await websocket.receive()
        await websocket.send_each(rows())

    lanes = []
    async with serving(handler) as server:
        server.message("go")
        await server.ended()
        assert len({row.split()[1] for row in server.data}) == 1
    assert len(lanes) == 3
    assert None not in lanes


# Closing


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999, CloseCode.GONE])
async def test_codes_that_may_go_on_a_wire_do(code):
    async def handler(websocket):
        await websocket.accept()
        await websocket.close(code)

    async with serving(handler) as server:
        await server.ended()
        assert server.closed == (code, "")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, -1, "1000", None])
async def test_other_codes_are_a_value_error_before_and_after_the_accept(code):
    async def handler(websocket):
        with pytest.raises(ValueError, match="close code"):
            await websocket.close(code)
        await websocket.accept()
        with pytest.raises(ValueError, match="close code"):
            await websocket.close(code)
        assert websocket.ready_state is WebSocketState.OPEN

    async with serving(handler) as server:
        await server.ended()
        assert server.closed == (1000, "")


@pytest.mark.parametrize(
    ("reason", "sent"),
    [("x" * 200, "x" * 123), ("é" * 100, "é" * 61), ("€" * 100, "€" * 41), ("x" * 123, "x" * 123)],
)
async def test_a_reason_is_cut_to_123_bytes_at_a_character(reason, sent):
    async def handler(websocket):
        await websocket.accept()
        await websocket.close(4000, reason)

    async with serving(handler) as server:
        await server.ended()
        assert server.closed == (4000, sent)
        assert len(sent.encode()) <= 123


async def test_close_goes_out_behind_what_waits():
    async def handler(websocket):
        await websocket.accept()
        server.block()
        websocket.connection.writer.deliver(text_message("1"))
        websocket.connection.writer.deliver(text_message("2"))
        asyncio.get_running_loop().call_later(0.01, server.unblock)
        await websocket.close(4000)

    async with serving(handler, started=False) as server:
        server.start()
        await server.ended()
        assert server.types == ["accept", "send", "send", "close"]


# Waiting and pushing


@every_server
async def test_wait_closed_ends_when_the_client_leaves_whatever_it_says(server_name, caplog):
    async def handler(websocket):
        await websocket.wait_closed()
        ended.append(websocket.close_code)

    ended = []
    async with serving(handler, server=server_name) as server:
        await server.accepted()
        server.message(*["x"] * 1000)
        await until(lambda: not server.unread)
        server.leave(1001)
        await server.ended()
    assert ended == [1001]
    assert not caplog.records


@every_server
async def test_wait_closed_ends_when_the_socket_is_kicked(server_name, monkeypatch):
    hurry(monkeypatch, WAKE_GRACE=0.02)

    async def handler(websocket):
        await websocket.wait_closed()
        ended.append(websocket.close_code)

    ended = []
    async with serving(handler, server=server_name) as server:
        await server.accepted()
        await Group("x").asend("nobody")
        only_socket().kick(4403)
        await server.ended()
    assert ended == [4403]


async def ticks(closed, count=None):
    try:
        number = 0
        while count is None or number < count:
            yield f"{number}"
            number += 1
            await asyncio.sleep(0)
        closed.append("end")
    finally:
        closed.append("closed")


@every_server
async def test_send_each_ends_when_the_client_leaves_and_closes_the_generator(server_name, caplog):
    async def handler(websocket):
        await websocket.send_each(ticks(seen))
        seen.append(websocket.close_code)

    seen = []
    async with serving(handler, server=server_name) as server:
        await server.sends(3)
        server.message("talk", "talk")
        server.leave(1001)
        await server.ended()
        assert server.data == [str(number) for number in range(len(server.data))]
    assert seen == ["closed", 1001]
    assert not caplog.records


@every_server
async def test_send_each_ends_while_the_iterable_waits(server_name):
    async def waiting():
        try:
            await asyncio.Event().wait()
            yield "never"
        finally:
            seen.append("closed")

    async def handler(websocket):
        await websocket.send_each(waiting())
        seen.append(websocket.close_code)

    seen = []
    async with serving(handler, server=server_name) as server:
        await server.accepted()
        await asyncio.sleep(0.01)
        server.leave(1001)
        await server.ended()
    assert seen == ["closed", 1001]


async def test_after_send_each_the_handler_may_read_at_once():
    async def handler(websocket):
        await websocket.send_each(ticks(seen, count=2))
        await websocket.send(await websocket.receive())

    seen = []
    async with serving(handler) as server:
        await server.sends(2)
        server.message("after")
        assert await server.sends(3) == ["0", "1", "after"]
        await server.ended()
        assert server.closed == (1000, "")
    assert seen == ["end", "closed"]


async def test_what_the_iterable_raises_comes_out_of_send_each():
    async def broken():
        yield "a"
        raise LookupError

    async def handler(websocket):
        with pytest.raises(LookupError):
            await websocket.send_each(broken())

    async with serving(handler) as server:
        await server.ended()
        assert server.data == ["a"]


async def test_a_time_out_of_the_iterables_own_comes_out_of_send_each():
    async def slow():
        yield "a"
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    async def handler(websocket):
        with pytest.raises(TimeoutError):
            await websocket.send_each(slow())

    async with serving(handler) as server:
        await server.ended()


async def test_send_each_next_to_a_reader_is_the_second_read():
    async def handler(websocket):
        reading = asyncio.create_task(websocket.receive())
        await server.accepted()
        with pytest.raises(RuntimeError, match="read already"):
            await websocket.send_each(ticks([], count=1))
        await reading

    async with serving(handler, started=False) as server:
        server.start()
        await server.accepted()
        await asyncio.sleep(0.01)
        server.message("x")
        await server.ended()


async def test_a_cancelled_send_each_closes_the_generator_and_leaves_no_task():
    async def handler(websocket):
        try:
            async with asyncio.timeout(0.01):
                await websocket.send_each(ticks(seen))
        except TimeoutError:
            seen.append("timeout")
        await websocket.send(await websocket.receive())

    seen = []
    async with serving(handler) as server:
        await until(lambda: "timeout" in seen)
        server.message("after")
        await server.ended()
        assert server.data[-1] == "after"
    assert seen == ["closed", "timeout"]


async def test_send_each_takes_any_async_iterable():
    class Messages:
        def __init__(self):
            self.left = ["b", "a"]

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    async def handler(websocket):
        await websocket.send_each(Messages())

    async with serving(handler) as server:
        await server.ended()
        assert server.data == ["a", "b"]


# Groups


async def test_a_member_gets_what_is_sent_while_it_is_in_the_block_and_nothing_else():
    async def handler(websocket):
        await Group("lobby").asend("before")
        async with websocket.join("lobby", Group("other")):
            await Group("lobby").asend("in")
            await Group("other").asend(b"in")
        await Group("lobby").asend("after")

    async with serving(handler) as server:
        await server.ended()
        assert server.data == ["in", b"in"]


async def test_joining_twice_delivers_once_until_both_blocks_are_left():
    async def handler(websocket):
        async with websocket.join("lobby", "lobby"):
            async with websocket.join("lobby"):
                await Group("lobby").asend("1")
            await Group("lobby").asend("2")
        await Group("lobby").asend("3")

    async with serving(handler) as server:
        await server.ended()
        assert server.data == ["1", "2"]


async def test_a_socket_can_be_excluded_by_itself_and_by_its_id():
    async def handler(websocket):
        async with websocket.join("lobby"):
            await Group("lobby").asend("1", exclude=websocket)
            await Group("lobby").asend("2", exclude=websocket.id)
            await Group("lobby").asend("3", exclude="someone-else")

    async with serving(handler) as server:
        await server.ended()
        assert server.data == ["3"]


async def test_a_handler_whose_socket_is_closed_through_a_group_sees_that_code():
    async def handler(websocket):
        async with websocket.join("lobby"):
            await Group("lobby").asend("last")
            await Group("lobby").aclose(4403, "removed")
            with pytest.raises(WebSocketDisconnect) as caught:
                await websocket.receive()
            assert (caught.value.code, caught.value.reason) == (4403, "removed")

    async with serving(handler) as server:
        await server.ended()
        assert server.types == ["accept", "send", "close"]
        assert server.closed == (4403, "removed")


async def test_join_once_the_socket_is_over_raises():
    async def handler(websocket):
        await websocket.accept()
        await websocket.close()
        with pytest.raises(WebSocketDisconnect):
            async with websocket.join("lobby"):
                raise AssertionError("joined")

    async with serving(handler) as server:
        await server.ended()
