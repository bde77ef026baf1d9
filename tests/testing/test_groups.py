import asyncio
import threading

import pytest
from django.test import override_settings

from django_ws_dispatch.brokers import get_broker
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group
from django_ws_dispatch.testing import WebSocketClient, assert_sent

from .sockets import HANDLERS

LOBBY = Group("lobby")
BROKER_OF = Group._broker


def test_it_counts_and_yields_what_is_sent():
    with assert_sent("lobby", count=3) as messages:
        LOBBY.send("a")
        LOBBY.send(b"b")
        LOBBY.send_json({"c": 1})
    assert messages == ["a", b"b", '{"c": 1}']


def test_it_counts_what_is_sent_in_an_event_loop():
    async def send():
        await LOBBY.asend("a")
        await LOBBY.asend_json([])

    with assert_sent(LOBBY, count=2) as messages:
        asyncio.run(send())
    assert messages == ["a", "[]"]


def test_it_counts_what_another_thread_sends():
    with assert_sent("lobby"):
        thread = threading.Thread(target=LOBBY.send, args=("a",))
        thread.start()
        thread.join()


def test_one_message_is_expected_where_no_count_is_given():
    block = assert_sent("lobby")
    block.__enter__()
    with pytest.raises(AssertionError, match="no messages where 1 message was expected"):
        block.__exit__(None, None, None)


def test_the_error_lists_what_was_sent():
    block = assert_sent("lobby", count=1)
    block.__enter__()
    LOBBY.send("a")
    LOBBY.send("b")
    Group("garden").send("c")
    with pytest.raises(AssertionError) as error:
        block.__exit__(None, None, None)
    assert str(error.value) == (
        "Group('lobby') was sent 2 messages where 1 message was expected.\n  'a'\n  'b'\n"
        "To other groups:\n  Group('garden'): 'c'"
    )


def test_nothing_can_be_expected():
    with assert_sent("lobby", count=0):
        Group("garden").send("elsewhere")


def test_an_order_to_close_is_no_message():
    with assert_sent("lobby", count=0):
        LOBBY.close()


def test_a_message_that_the_broker_refused_was_not_sent(monkeypatch):
    broker = get_broker("default")

    def refuse(channel, message):
        raise BrokerError("down")

    monkeypatch.setattr(broker, "publish", refuse)
    with assert_sent("lobby", count=0), pytest.raises(BrokerError):
        LOBBY.send("a")


def test_blocks_may_be_nested_and_leave_nothing():
    with assert_sent("lobby", count=2), assert_sent("garden", count=1):
        LOBBY.send("a")
        with assert_sent("lobby", count=1) as inner:
            LOBBY.send("b")
        Group("garden").send("c")
    assert inner == ["b"]
    assert Group._broker is BROKER_OF


def test_what_the_block_raises_passes():
    with pytest.raises(ZeroDivisionError), assert_sent("lobby"):
        raise ZeroDivisionError
    assert Group._broker is BROKER_OF


def test_members_get_the_messages_all_the_same():
    async def talk():
        async with (
            WebSocketClient().connect("/ws/rooms/lobby/") as one,
            WebSocketClient().connect("/ws/rooms/lobby/") as other,
        ):
            await other.receive_nothing(within=0.01)
            with assert_sent("lobby") as messages:
                await one.send("hello")
                assert await other.receive() == "hello"
            assert messages == ["hello"]

    with override_settings(WEBSOCKET_HANDLERS=HANDLERS):
        asyncio.run(talk())


def test_what_is_neither_a_group_nor_a_name_is_refused():
    with pytest.raises(TypeError, match="not int"), assert_sent(3):
        pass


@override_settings(WEBSOCKET_GROUPS={"kept": {"history": 5}})
def test_what_a_group_keeps_is_sent_as_well_and_has_its_position():
    group = Group("kept")
    with assert_sent("kept") as messages:
        position = group.send("x")
        group.close()
        assert group.history(since=position).complete
    assert messages == ["x"]
    assert position is not None
