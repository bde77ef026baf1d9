"""Groups over the memory broker: who gets what, in which order, and who is told when not."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import json
import threading
import time
import uuid
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import transaction

from django_ws_dispatch import groups
from django_ws_dispatch.auth.control import send_control
from django_ws_dispatch.groups import Group, user_group
from django_ws_dispatch.limits import entry_size
from tests.kit.members import FakeMember, run
from tests.kit.members import text as text_message
from tests.kit.waiting import DEADLINE

ROOM = Group("room")


@pytest.fixture(autouse=True)
def _dispatching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups.group, "unheard", False)


async def joined(*members: FakeMember, group: Group = ROOM) -> groups.members.Registry:
    local = groups.members.local()
    for member in members:
        await local.join(member, group)
    return local


async def turn() -> None:
    """Give the loop a few turns, so that what was handed over from threads is there."""
    for _ in range(5):
        await asyncio.sleep(0)


# Names


@pytest.mark.parametrize(
    "name", ["a", "x" * 200, "a b", "*?[a]", "\n", "\u3000", "\U0001f600", "\x00"]
)
def test_a_name_may_have_any_characters(name: str) -> None:
    async def scenario() -> None:
        member, other = FakeMember(), FakeMember()
        await joined(member, group=Group(name))
        await joined(other, group=Group("other"))
        await Group(name).asend("x")
        assert (member.got, other.got) == (["x"], [])

    run(scenario)


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_a_name_that_is_empty_or_too_long_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 200"):
        Group(name)


@pytest.mark.parametrize("name", [7, None, b"room"])
def test_a_name_that_is_no_str_is_an_error_that_says_what_came(name: Any) -> None:
    with pytest.raises(TypeError, match=type(name).__name__):
        Group(name)
    with pytest.raises(TypeError, match=type(name).__name__):
        Group("room", broker=name)


def test_groups_are_equal_by_name_and_broker() -> None:
    assert Group("a") == Group("a")
    assert len({Group("a"), Group("a"), Group("b"), Group("a", broker="other")}) == 3
    assert Group("a") != "a"
    assert repr(Group("a")) == "Group('a')"
    assert repr(Group("a", "other")) == "Group('a', broker='other')"


def test_a_users_group_is_no_group_that_a_name_can_reach() -> None:
    group = user_group(User(pk=42))
    assert group == user_group(User(pk=42))
    assert group != user_group(User(pk=43))
    for name in ("42", "user:42", "group:42", group.channel):
        assert Group(name) != group
        assert Group(name).channel != group.channel
    assert "42" in repr(group)


@pytest.mark.parametrize("user", [AnonymousUser(), User(), None])
def test_nobody_has_no_group(user: Any) -> None:
    with pytest.raises(ValueError, match="logged in"):
        user_group(user)


def test_an_unknown_broker_is_named_with_its_setting() -> None:
    with pytest.raises(ImproperlyConfigured, match="'nope' in WEBSOCKET_BROKERS"):
        Group("a", broker="nope").send("x")

    async def scenario() -> None:
        with pytest.raises(ImproperlyConfigured, match="'nope' in WEBSOCKET_BROKERS"):
            await groups.members.local().join(FakeMember(), Group("a", broker="nope"))

    run(scenario)


# Sending


def test_members_get_text_and_bytes_as_they_were_sent() -> None:
    async def scenario() -> None:
        member = FakeMember()
        await joined(member)
        await ROOM.asend("caf\u00e9 \U0001f600")
        await ROOM.asend(b"\x00\xff")
        await ROOM.asend("")
        assert member.got == ["caf\u00e9 \U0001f600", b"\x00\xff", ""]
        # An empty one waits as well.
        sizes = [entry_size(data) for data in member.got]
        assert [size for _, size in member.events] == sizes
        assert member.events[0][0] == {"type": "websocket.send", "text": "caf\u00e9 \U0001f600"}
        assert member.events[1][0] == {"type": "websocket.send", "bytes": b"\x00\xff"}

    run(scenario)


def test_all_members_share_one_event() -> None:
    async def scenario() -> None:
        first, second = FakeMember(), FakeMember()
        await joined(first, second)
        await ROOM.asend("x")
        assert first.events[0][0] is second.events[0][0]

    run(scenario)


def test_json_is_encoded_as_django_encodes_it() -> None:
    obj = {
        "when": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "price": decimal.Decimal("1.10"),
        "id": uuid.UUID(int=7),
    }

    async def scenario() -> None:
        member = FakeMember()
        await joined(member)
        await ROOM.asend_json(obj)
        await asyncio.to_thread(ROOM.send_json, obj)
        await member.has(2)
        assert member.got[0] == member.got[1]
        assert json.loads(member.got[0]) == {
            "when": "2026-01-02T03:04:05Z",
            "price": "1.10",
            "id": "00000000-0000-0000-0000-000000000007",
        }

    run(scenario)


@pytest.mark.parametrize("data", [{"a": 1}, 7, None, bytearray(b"x")])
def test_data_of_another_type_is_an_error_that_names_it(data: Any) -> None:
    with pytest.raises(TypeError, match=rf"{type(data).__name__}.*send_json"):
        ROOM.send(data)


def test_text_that_is_not_utf8_is_the_publishers_error() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        ROOM.send("\ud800")


def test_exclude_takes_a_member_or_its_id() -> None:
    async def scenario() -> None:
        first, second = FakeMember("id-1"), FakeMember("id-2")
        await joined(first, second)
        await ROOM.asend("a", exclude=first)
        await ROOM.asend("b", exclude="id-2")
        await ROOM.asend_json("c", exclude=second)
        await ROOM.aclose(4403, "bye", exclude=first)
        assert first.got == ["b", '"c"']
        assert second.got == ["a", (4403, "bye")]

    run(scenario)


@pytest.mark.parametrize("exclude", [None, "", "unknown", "\xe9", "x" * 1000])
def test_an_id_that_nobody_has_excludes_nobody(exclude: str | None) -> None:
    async def scenario() -> None:
        member = FakeMember("id-1")
        await joined(member)
        await ROOM.asend("a", exclude=exclude)
        assert member.got == ["a"]

    run(scenario)


def test_exclude_of_another_type_is_an_error() -> None:
    with pytest.raises(TypeError, match="exclude must be a WebSocket or its id, not object"):
        ROOM.send("x", exclude=object())
    with pytest.raises(TypeError, match="not User"):
        ROOM.send("x", exclude=User(pk=1))


def test_ids_are_only_read_for_messages_that_exclude_somebody() -> None:
    async def scenario() -> None:
        member = FakeMember("id-1")
        await joined(member)
        await ROOM.asend("a")
        assert not member.id_was_read
        await ROOM.asend("a", exclude="x")
        assert member.id_was_read

    run(scenario)


def test_close_kicks_every_member_after_what_was_sent_before() -> None:
    async def scenario() -> None:
        first, second = FakeMember(), FakeMember()
        await joined(first, second)
        await ROOM.asend("last words")
        await ROOM.aclose()
        await asyncio.to_thread(ROOM.close, 4403, "\u00e4" * 200)
        await first.has(3)
        expected = ["last words", (1000, ""), (4403, "\u00e4" * 61)]
        assert (first.got, second.got) == (expected, expected)

    run(scenario)


@pytest.mark.parametrize("code", [0, 999, 1005, 1006, 1015, 2999, 5000, "1000"])
def test_a_close_code_that_may_not_be_sent_is_an_error(code: Any) -> None:
    with pytest.raises(ValueError, match="RFC 6455"):
        ROOM.close(code)


def test_sync_methods_refuse_where_a_loop_runs_and_name_the_other() -> None:
    async def scenario() -> None:
        with pytest.raises(SynchronousOnlyOperation, match=r"asend\(\)"):
            ROOM.send("x")
        with pytest.raises(SynchronousOnlyOperation, match=r"asend_json\(\)"):
            ROOM.send_json("x")
        with pytest.raises(SynchronousOnlyOperation, match=r"aclose\(\)"):
            ROOM.close()

    run(scenario)


# Order


def test_a_message_of_the_own_loop_is_delivered_before_asend_returns() -> None:
    async def scenario() -> None:
        member = FakeMember()
        await joined(member)
        await ROOM.asend("a")
        member.deliver(text_message("b"))
        assert member.got == ["a", "b"]

    run(scenario)


def test_two_thousand_messages_of_a_publisher_arrive_in_order_at_every_member() -> None:
    async def scenario() -> None:
        members = [FakeMember() for _ in range(50)]
        await joined(*members)

        def publish() -> None:
            for number in range(2000):
                ROOM.send(f"thread {number}")

        thread = asyncio.create_task(asyncio.to_thread(publish))
        for number in range(2000):
            await ROOM.asend(f"loop {number}")
        await thread
        for member in members:
            await member.has(4000)
            for name in ("loop", "thread"):
                got = [text for text in member.got if text.startswith(name)]
                assert got == [f"{name} {number}" for number in range(2000)]

    run(scenario)


def test_what_sync_code_of_a_handler_sent_comes_before_what_the_handler_sends_next() -> None:
    async def scenario() -> None:
        member = FakeMember()
        await joined(member)
        for number in range(0, 200, 2):
            await sync_to_async(ROOM.send)(str(number))
            await ROOM.asend(str(number + 1))
        assert member.got == [str(number) for number in range(200)]

    run(scenario)


def test_sync_code_sends_from_many_threads() -> None:
    async def scenario() -> None:
        member = FakeMember()
        await joined(member)

        def publish(thread: int) -> None:
            for number in range(100):
                ROOM.send(f"{thread} {number}")

        threads = [threading.Thread(target=publish, args=(thread,)) for thread in range(20)]
        for thread in threads:
            thread.start()
        await member.has(2000)
        for thread in threads:
            thread.join()
        assert [text for text in member.got if text.startswith("7 ")] == [
            f"7 {number}" for number in range(100)
        ]

    run(scenario)


def test_every_event_loop_of_the_process_delivers() -> None:
    here, there = FakeMember(), FakeMember()
    ready = threading.Event()

    async def other_loop() -> None:
        await joined(there)
        ready.set()
        await there.has(2)
        await groups.members.aclose()

    async def scenario() -> None:
        await joined(here)
        other = asyncio.create_task(asyncio.to_thread(asyncio.run, other_loop()))
        await asyncio.to_thread(ready.wait, DEADLINE)
        await ROOM.asend("async")
        await asyncio.to_thread(ROOM.send, "sync")
        await other
        await here.has(2)

    run(scenario)
    assert here.got == there.got == ["async", "sync"]


@pytest.mark.django_db(transaction=True)
def test_send_works_in_on_commit() -> None:
    member, ready, committed = FakeMember(), threading.Event(), threading.Event()

    async def server() -> None:
        await joined(member)
        ready.set()
        await member.has(1)
        assert committed.is_set()
        await groups.members.aclose()

    thread = threading.Thread(target=asyncio.run, args=(server(),))
    thread.start()
    ready.wait(DEADLINE)
    with transaction.atomic():
        transaction.on_commit(committed.set)
        transaction.on_commit(lambda: ROOM.send_json({"id": 1}))
    thread.join(DEADLINE)
    assert member.got == ['{"id": 1}']


# Membership


def test_who_left_gets_nothing_that_is_sent_later() -> None:
    async def scenario() -> None:
        member = FakeMember()
        local = await joined(member)
        await ROOM.asend("a")
        local.leave(member, ROOM)
        await ROOM.asend("b")
        assert member.got == ["a"]
        local.leave(member, ROOM)
        local.leave(FakeMember(), Group("never joined"))
        await joined(member)
        await ROOM.asend("c")
        assert member.got == ["a", "c"]

    run(scenario)


def test_who_joined_twice_gets_a_message_once_and_leaves_twice() -> None:
    async def scenario() -> None:
        member = FakeMember()
        local = await joined(member, member)
        await ROOM.asend("a")
        local.leave(member, ROOM)
        await ROOM.asend("b")
        local.leave(member, ROOM)
        await ROOM.asend("c")
        assert member.got == ["a", "b"]

    run(scenario)


def test_join_does_not_suspend_with_the_memory_broker() -> None:
    async def scenario() -> None:
        with pytest.raises(StopIteration):
            groups.members.local().join(FakeMember(), ROOM).send(None)

    run(scenario)


def test_a_member_that_leaves_in_the_middle_of_a_fan_out_gets_nothing_more() -> None:
    async def scenario() -> None:
        last = FakeMember()
        local = groups.members.local()
        first = FakeMember(then=lambda: local.leave(last, ROOM))
        await joined(first, last)
        await ROOM.asend("x")
        assert (first.got, last.got) == (["x"], [])

    run(scenario)


def test_a_member_that_fails_is_logged_and_the_others_get_the_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise RuntimeError("broken member")

    async def scenario() -> None:
        last = FakeMember()
        await joined(FakeMember(then=fail), last)
        await ROOM.asend("x")
        assert last.got == ["x"]

    run(scenario)
    assert "broken member" in caplog.text


def test_a_registry_belongs_to_its_loop_and_is_forgotten_with_it() -> None:
    async def main() -> groups.members.Registry:
        assert groups.members.local() is groups.members.local()
        await joined(FakeMember())
        return groups.members.local()

    first, second = asyncio.run(main()), asyncio.run(main())
    assert first is not second
    assert first not in groups.members.local.values()
    run(_nothing)
    assert second not in groups.members.local.values()


async def _nothing() -> None:
    groups.members.local()


def test_brokers_are_rebuilt_when_their_setting_changes(settings: Any) -> None:
    memory = "django_ws_dispatch.brokers.memory.MemoryBroker"

    async def scenario() -> None:
        member = FakeMember()
        local = await joined(member)
        settings.WEBSOCKET_BROKERS = {"default": {"BACKEND": memory}, "other": {"BACKEND": memory}}
        await ROOM.asend("nobody is there yet")
        newcomer = FakeMember()
        await joined(newcomer)
        await joined(newcomer, group=Group("room", "other"))
        await ROOM.asend("new")
        await Group("room", "other").asend("other")
        assert newcomer.got == ["new", "other"]
        local.leave(member, ROOM)
        local.leave(newcomer, ROOM)
        await ROOM.asend("nobody")
        assert (member.got, newcomer.got) == ([], ["new", "other"])

    run(scenario)


# Fairness


def busy_wait(seconds: float) -> None:
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        pass


def test_a_long_fan_out_gives_the_loop_back_in_between_and_keeps_the_order() -> None:
    async def scenario() -> None:
        members = [FakeMember(then=lambda: busy_wait(0.0001)) for _ in range(500)]
        leaver = FakeMember()
        local = await joined(*members, leaver)
        turns = 0

        async def tick() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        first = asyncio.create_task(ROOM.asend("first"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert members[0].got == ["first"]
        assert members[-1].got == []
        local.leave(leaver, ROOM)
        await ROOM.asend("second")
        ticking.cancel()
        assert first.done()
        assert all(member.got == ["first", "second"] for member in members)
        assert leaver.got == []
        assert turns > 5

    run(scenario)


def test_many_short_fan_outs_give_the_loop_back_too() -> None:
    async def scenario() -> None:
        member = FakeMember(then=lambda: busy_wait(0.001))
        await joined(member)
        turns = 0

        async def tick() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        for number in range(50):
            await ROOM.asend(str(number))
        ticking.cancel()
        assert member.got == [str(number) for number in range(50)]
        assert turns >= 5

    run(scenario)


def test_a_publisher_that_is_cancelled_leaves_the_fan_out_to_finish() -> None:
    async def scenario() -> None:
        members = [FakeMember(then=lambda: busy_wait(0.0001)) for _ in range(500)]
        await joined(*members)
        publisher = asyncio.create_task(ROOM.asend("x"))
        await asyncio.sleep(0)
        publisher.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publisher
        await ROOM.asend("y")
        assert all(member.got == ["x", "y"] for member in members)

    run(scenario)


# Nobody hears it


def test_a_process_without_a_dispatcher_warns_once_that_nobody_hears_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(groups.group, "unheard", True)
    send_control({"says": "nothing"})
    ROOM.send("x")
    ROOM.send("y")
    assert len(caplog.records) == 1
    assert caplog.records[0].name == "django_ws_dispatch.groups"
    assert "WEBSOCKET_BROKERS" in caplog.text


def test_a_process_with_a_dispatcher_does_not_warn(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(groups.group, "unheard", True)
    groups.group.mark_dispatching()
    ROOM.send("x")
    assert not caplog.records
