"""Who is in which group: to join several, some of which the broker is slow about."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_ws_dispatch import groups
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group
from django_ws_dispatch.groups.link import MOST_TOLD
from django_ws_dispatch.groups.messages import GROUP_CHANNEL

from ..kit.late_broker import LATE, LateBroker, late
from ..kit.members import FakeMember, FakeReceiver, run

A, B, C = Group("a"), Group("b"), Group("c")


@pytest.fixture(autouse=True)
def _late(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEBSOCKET_BROKERS = LATE
    monkeypatch.setattr(groups.group, "unheard", False)


async def joining(member: FakeMember, *to: Group) -> tuple[asyncio.Task[None], LateBroker]:
    task = asyncio.create_task(groups.members.local().join(member, *to))
    await asyncio.sleep(0)
    return task, late()


def members() -> set[object]:
    """All that are in any group of this loop."""
    links = groups.members.local()._links.values()
    return {
        one for link in links for group in link.groups.values() for one in group.channel.members
    }


def test_all_groups_are_asked_for_before_one_is_acknowledged() -> None:
    async def scenario() -> None:
        task, broker = await joining(FakeMember(), A, B, C)
        assert list(broker.asked) == ["group:a", "group:b", "group:c"]
        broker.acknowledge("c")
        broker.acknowledge("a")
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        broker.acknowledge("b")
        await task
        assert len(members()) == 1

    run(scenario)


def test_what_one_group_gets_before_the_other_is_acknowledged_arrives() -> None:
    async def scenario() -> None:
        member = FakeMember()
        task, broker = await joining(member, A, B)
        broker.acknowledge("a")
        await A.asend("early")
        broker.acknowledge("b")
        await task
        assert member.got == ["early"]

    run(scenario)


def test_one_that_fails_fails_all_at_once_and_nobody_stays() -> None:
    async def scenario() -> None:
        member = FakeMember()
        task, broker = await joining(member, A, B, C)
        broker.acknowledge("a")
        broker.fail("c")
        with pytest.raises(BrokerError, match="group:c is late"):
            await task
        assert not members()
        assert not broker.channels
        assert not broker.asked
        await A.asend("x")
        assert member.got == []

    run(scenario)


def test_the_failures_that_nobody_hears_of_are_no_log_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        broker = late()
        task, _ = await joining(FakeMember(), A, B)
        broker.fail()
        with pytest.raises(BrokerError):
            await task
        task, _ = await joining(FakeMember(), A)
        ready = broker.asked["group:a"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ready.set_exception(BrokerError("too late"))
        del task, ready
        await asyncio.sleep(0)
        gc.collect()

    run(scenario)
    assert not caplog.records


def test_a_join_that_is_cancelled_leaves_all_groups_and_cancels_no_other() -> None:
    async def scenario() -> None:
        stayer = FakeMember()
        leaving, broker = await joining(FakeMember(), A, B)
        staying, _ = await joining(stayer, A)
        broker.acknowledge("b")
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert members() == {stayer}
        assert not broker.channels
        broker.acknowledge("a")
        await staying

    run(scenario)


def test_an_unknown_broker_among_them_leaves_nobody_behind() -> None:
    async def scenario() -> None:
        with pytest.raises(ImproperlyConfigured, match="'nope' in WEBSOCKET_BROKERS"):
            await groups.members.local().join(FakeMember(), A, Group("b", broker="nope"))
        assert not members()

    run(scenario)


def test_a_subscriber_that_raises_leaves_nobody_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        task, broker = await joining(FakeMember(), A)
        broker.acknowledge("a")
        await task
        (link,) = groups.members.local()._links.values()

        def subscribe(channel: str) -> None:
            raise RuntimeError("a bug of the broker's")

        monkeypatch.setattr(link.subscriber, "subscribe", subscribe)
        newcomer = FakeMember()
        with pytest.raises(RuntimeError, match="a bug"):
            await groups.members.local().join(newcomer, A, B)
        assert newcomer not in members()
        assert len(members()) == 1

    run(scenario)


def test_a_group_that_is_named_twice_is_joined_twice() -> None:
    async def scenario() -> None:
        member, registry = FakeMember(), groups.members.local()
        task, broker = await joining(member, A, A)
        broker.acknowledge()
        await task
        registry.leave(member, A)
        assert members() == {member}
        registry.leave(member, A)
        assert not members()

    run(scenario)


# What is not ours


def garbage_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if "not one of ours" in one.getMessage()]


CODES = (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)


@pytest.mark.parametrize(
    "message",
    [
        *(b"c\x00" + code.to_bytes(2) for code in CODES),
        b"c\x00",
        b"c\x00\x03",
        b"c\x00\x03\xe8\xff",
        b"t\x00\xff",
        b"t\x05ab",
        b"t\x01\xff",
        b"",
        b"t",
        b'{"type": "x"}',
        b"\xff\x00",
    ],
)
def test_what_nobody_of_ours_can_have_sent_is_told_once_and_the_members_go_on(
    message: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        member = FakeMember()
        task, broker = await joining(member, A)
        broker.acknowledge()
        await task
        for _ in range(3):
            await broker.apublish(A.channel, message)
        await A.asend("good")
        assert member.got == ["good"]

    run(scenario)
    assert len(garbage_lines(caplog)) == 1
    assert len(caplog.records) == 1


def test_it_is_told_once_for_a_group_whose_members_come_and_go(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        for group in (A, B, A, B):
            member = FakeMember()
            task, broker = await joining(member, group)
            broker.acknowledge()
            await task
            await broker.apublish(group.channel, b"")
            groups.members.local().leave(member, group)

    run(scenario)
    assert len(garbage_lines(caplog)) == 2


def test_of_which_groups_it_was_told_is_remembered_in_bounds() -> None:
    async def scenario() -> None:
        task, broker = await joining(FakeMember(), A)
        broker.acknowledge()
        await task
        (link,) = groups.members.local()._links.values()
        for number in range(MOST_TOLD + 10):
            name = f"{GROUP_CHANNEL}{number}"
            link.receivers[name] = link.receivers[A.channel]
            link.on_message(name, b"")
        assert len(link._told) <= MOST_TOLD

    run(scenario)


@pytest.mark.parametrize("message", [b"h\x00", b"z\x00\xff\xfe", b"p\x02id\x00\x01anything"])
def test_a_kind_of_a_later_version_is_told_once_as_that_and_the_members_go_on(
    message: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        member = FakeMember()
        task, broker = await joining(member, A)
        broker.acknowledge()
        await task
        for _ in range(3):
            await broker.apublish(A.channel, message)
        await A.asend("good")
        assert member.got == ["good"]

    run(scenario)
    (record,) = caplog.records
    assert f"(kind {chr(message[0])!r}" in record.getMessage()
    assert "later version of django-ws-dispatch" in record.getMessage()
    assert "something else" not in record.getMessage()


def test_each_kind_and_version_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        task, broker = await joining(FakeMember(), A)
        broker.acknowledge()
        await task
        for message in (b"p\x00\x02", b"p\x02id\x03...", b"h\x00\x02...", b"p\x00\x02..."):
            await broker.apublish(A.channel, message)

    run(scenario)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3
    for text, kind in zip(
        told, ("'p', version 2", "'p', version 3", "'h', version 2"), strict=True
    ):
        assert f"(kind {kind})" in text


# Receivers


def test_a_channel_is_subscribed_to_once_for_all_that_receive_on_it() -> None:
    async def scenario() -> None:
        receiver, member = FakeReceiver(), FakeMember()
        task, broker = await joining(member, A)
        broker.acknowledge()
        await task
        await receiver.listen(A.place)
        await A.asend("x")
        assert (member.got, receiver.got) == (["x"], ["x"])
        groups.members.local().leave(member, A)
        assert broker.channels == {A.channel}
        await A.asend("y")
        assert (member.got, receiver.got) == (["x"], ["x", "y"])

    run(scenario)


def test_a_receiver_that_fails_is_logged_and_the_members_get_the_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(data: bytes) -> None:
        raise RuntimeError("broken receiver")

    async def scenario() -> None:
        member = FakeMember()
        broker = late()
        receiver = FakeReceiver(fail)
        ready = groups.members.local().add(receiver, A.place)
        broker.acknowledge()
        assert ready is not None
        await ready
        await groups.members.local().join(member, A)
        await A.asend("x")
        assert member.got == ["x"]

    run(scenario)
    assert "broken receiver" in caplog.text


def test_a_broker_that_is_back_is_told_to_every_receiver_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(FakeReceiver):
        def catch_up(self) -> None:
            raise RuntimeError("broken receiver")

    async def scenario() -> None:
        broken, first, second = Broken(), FakeReceiver(), FakeReceiver()
        for receiver, place in ((broken, A.place), (first, A.place), (second, B.place)):
            groups.members.local().add(receiver, place)
        (link,) = groups.members.local()._links.values()
        link.on_reconnect()
        assert len(first.caught_up) == len(second.caught_up) == 1

    run(scenario)
    assert "broken receiver" in caplog.text
