"""Subscribe, then accept: a client whose socket is open is a member."""

from __future__ import annotations

import asyncio
import logging

import pytest

from django_ws_dispatch import groups
from django_ws_dispatch.exceptions import BrokerError, WebSocketDisconnect
from django_ws_dispatch.groups import Group
from django_ws_dispatch.signals import websocket_opened
from django_ws_dispatch.websockets import WebSocketState

from ..kit.fake_server import hurry, only_socket, serving
from ..kit.late_broker import LATE, late
from ..kit.members import FakeMember
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio

A, B = Group("a"), Group("b")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    hurry(monkeypatch)


def members() -> int:
    """How many are in any group of this loop."""
    links = groups.members.local()._links.values()
    return sum(len(group.channel.members) for link in links for group in link.groups.values())


async def joins_both(websocket):
    async with websocket.join("a", B):
        await websocket.send("in")
        async for message in websocket:
            await websocket.send(message)


async def joins_both_open(websocket):
    await websocket.accept()
    await joins_both(websocket)


async def asked(server, *names):
    await until(lambda: len(late().asked) == len(names))
    assert list(late().asked) == [f"group:{name}" for name in names]


async def test_a_socket_is_accepted_once_all_subscriptions_are_acknowledged():
    async with serving(joins_both, WEBSOCKET_BROKERS=LATE) as server:
        await asked(server, "a", "b")
        late().acknowledge("b")
        for _ in range(10):
            await asyncio.sleep(0)
        assert server.types == []
        late().acknowledge("a")
        await server.sends(1)
        assert server.types == ["accept", "send"]


async def test_what_comes_before_the_accept_goes_out_behind_it_in_order():
    async with serving(joins_both, WEBSOCKET_BROKERS=LATE) as server:
        await asked(server, "a", "b")
        late().acknowledge("a")
        for number in range(50):
            await A.asend(f"early {number}")
        assert server.types == []
        late().acknowledge("b")
        await server.sends(51)
        await A.asend("late")
        await server.sends(52)
        assert server.types == ["accept", *["send"] * 52]
        assert server.data == [*(f"early {number}" for number in range(50)), "in", "late"]


async def test_what_comes_while_the_server_is_busy_with_the_accept_goes_out_behind_it():
    async with serving(joins_both, started=False, WEBSOCKET_BROKERS=LATE) as server:
        server.block()
        server.start()
        await asked(server, "a", "b")
        await A.asend("1")
        late().acknowledge()
        await until(lambda: only_socket().ready_state is WebSocketState.OPEN)
        await B.asend(b"2")
        assert server.types == []
        server.unblock()
        await server.sends(3)
        assert server.types == ["accept", "send", "send", "send"]
        assert server.data == ["1", b"2", "in"]


async def test_on_an_open_socket_all_are_asked_for_at_once_as_well():
    async with serving(joins_both_open, WEBSOCKET_BROKERS=LATE) as server:
        await asked(server, "a", "b")
        assert server.types == ["accept"]
        late().acknowledge("a")
        await A.asend("early")
        late().acknowledge("b")
        await server.sends(2)
        assert server.data == ["early", "in"]


async def test_a_socket_without_a_broker_that_is_slow_joins_and_is_accepted_as_ever():
    async with serving(joins_both) as server:
        await server.sends(1)
        await A.asend("hello")
        assert server.data == ["in", "hello"]
        assert members() == 2
    assert members() == 0


async def test_join_of_no_group_accepts():
    async def handler(websocket):
        async with websocket.join():
            assert websocket.ready_state is WebSocketState.OPEN

    async with serving(handler) as server:
        await server.ended()
        assert server.types == ["accept", "close"]


async def test_a_receiver_of_websocket_opened_reaches_who_has_joined():
    async def greet(websocket, **kwargs):
        await A.asend("welcome")

    websocket_opened.connect(greet)
    try:
        async with serving(joins_both) as server:
            await server.sends(2)
            assert server.data == ["welcome", "in"]
    finally:
        websocket_opened.disconnect(greet)


# What fails


async def test_a_broker_error_leaves_the_socket_connecting_and_in_no_group():
    async def handler(websocket):
        with pytest.raises(BrokerError, match="is late"):
            async with websocket.join("a", "b"):
                raise AssertionError("joined")
        assert websocket.ready_state is WebSocketState.CONNECTING
        assert not websocket.connection.accepted
        assert members() == 0
        await websocket.send("without groups")

    async with serving(handler, WEBSOCKET_BROKERS=LATE) as server:
        await asked(server, "a", "b")
        late().acknowledge("b")
        late().fail("a")
        await server.ended()
        assert server.types == ["accept", "send", "close"]


async def test_a_broker_error_that_leaves_the_handler_is_a_denial():
    async with serving(joins_both, WEBSOCKET_BROKERS=LATE) as server:
        await asked(server, "a", "b")
        late().fail()
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] >= 500
    assert members() == 0


async def test_a_client_that_leaves_meanwhile_ends_the_handler_and_stays_nowhere(caplog):
    async with serving(joins_both, WEBSOCKET_BROKERS=LATE) as server:
        await asked(server, "a", "b")
        late().acknowledge("b")
        await B.asend("early")
        server.leave()
        await server.ended()
        assert server.types == []
        assert not late().asked
    assert members() == 0
    assert not caplog.records


async def test_a_join_that_times_out_in_the_handler_stays_nowhere_and_the_socket_connecting():
    async def handler(websocket):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), websocket.join("a", "b"):
                raise AssertionError("joined")
        assert websocket.ready_state is WebSocketState.CONNECTING
        assert members() == 0
        await websocket.send("without groups")

    async with serving(handler, WEBSOCKET_BROKERS=LATE) as server:
        await asked(server, "a", "b")
        late().acknowledge("a")
        await server.ended()
        assert server.data == ["without groups"]


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("gone")])
async def test_an_accept_that_fails_stays_nowhere(error):
    async def handler(websocket):
        try:
            async with websocket.join("a", "b"):
                raise AssertionError("joined")
        finally:
            assert members() == 0

    async with serving(handler, WEBSOCKET_BROKERS=LATE) as server:
        server.error = error
        await asked(server, "a", "b")
        await A.asend("early")
        late().acknowledge()
        await server.ended()
        assert server.types == []


async def test_an_accept_that_the_server_refuses_keeps_what_came_for_the_next_one():
    async def handler(websocket):
        with pytest.raises(ValueError, match="not so"):
            async with websocket.join("a"):
                raise AssertionError("joined")
        assert websocket.ready_state is WebSocketState.CONNECTING
        assert members() == 0
        await asyncio.sleep(0)
        assert server.types == []
        server.error = None
        await websocket.send("after")

    async with serving(handler, WEBSOCKET_BROKERS=LATE) as server:
        server.error = ValueError("not so")
        await asked(server, "a")
        await A.asend("early")
        late().acknowledge()
        await server.ended()
        assert server.types == ["accept", "send", "send", "close"]
        assert server.data == ["early", "after"]


async def test_what_came_before_a_denial_is_dropped_with_it():
    async def handler(websocket):
        async def join():
            async with websocket.join("a", "b"):
                raise AssertionError("joined")

        task = asyncio.create_task(join())
        await go.wait()
        await websocket.close()
        late().acknowledge("b")
        with pytest.raises(WebSocketDisconnect):
            await task

    go = asyncio.Event()
    async with serving(handler, WEBSOCKET_BROKERS=LATE) as server:
        await asked(server, "a", "b")
        late().acknowledge("a")
        await A.asend("early")
        go.set()
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] == 403
        assert server.data == []
    assert members() == 0


async def test_a_close_through_a_group_before_the_accept_is_a_denial():
    async with serving(joins_both, WEBSOCKET_BROKERS=LATE) as server:
        await asked(server, "a", "b")
        late().acknowledge("a")
        await A.asend("last")
        await A.aclose(4403, "removed")
        late().acknowledge("b")
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] == 403
    assert members() == 0


async def test_more_than_the_outbox_before_the_accept_is_a_503_that_names_the_setting(caplog):
    async with serving(joins_both, WEBSOCKET_BROKERS=LATE, WEBSOCKET_OUTBOX_SIZE=5000) as server:
        await asked(server, "a", "b")
        late().acknowledge("a")
        for _ in range(10):
            await A.asend("x" * 1000)
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] == 503
        assert server.data == []
    (record,) = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert "WEBSOCKET_OUTBOX_SIZE (5000 bytes)" in record.getMessage()
    assert record.__dict__["path"] == "/ws/"
    assert record.__dict__["status_code"] == 503
    assert members() == 0


async def test_a_handler_that_accepts_itself_keeps_its_order():
    async def handler(websocket):
        await websocket.accept()
        await websocket.send("open")
        async with websocket.join("a"):
            await websocket.send("in")

    async with serving(handler, WEBSOCKET_BROKERS=LATE) as server:
        await asked(server, "a")
        assert server.data == ["open"]
        late().acknowledge()
        await server.ended()
        assert server.data == ["open", "in"]


async def test_a_member_that_is_not_accepted_holds_up_no_other_one():
    async with serving(joins_both, WEBSOCKET_BROKERS=LATE) as server:
        await asked(server, "a", "b")
        late().acknowledge("a")
        other = FakeMember()
        await groups.members.local().join(other, A)
        await A.asend("hello")
        assert other.got == ["hello"]
        assert server.types == []
        groups.members.local().leave(other, A)
