"""One broker as one event loop uses it: who receives which channel, and what is not for anybody."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from django_ws_dispatch import groups
from django_ws_dispatch.brokers.presence import Changes, Here, published
from django_ws_dispatch.groups import Group
from django_ws_dispatch.groups.link import MOST_TOLD, Link
from django_ws_dispatch.groups.messages import GROUP_CHANNEL, LaterVersion, Message
from django_ws_dispatch.groups.seats import Seat

from ..kit.late_broker import LATE, LateBroker, late
from ..kit.members import FakeMember, FakeReceiver, run
from ..kit.waiting import until

A, B = Group("a"), Group("b")


@pytest.fixture(autouse=True)
def _late(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEBSOCKET_BROKERS = LATE
    monkeypatch.setattr(groups.group, "unheard", False)


async def joined(member: FakeMember, group: Group) -> LateBroker:
    """Have a member join a group, whose subscription the broker acknowledges."""
    task = asyncio.create_task(groups.members.local().join(member, group))
    await asyncio.sleep(0)
    late().acknowledge()
    await task
    return late()


def link() -> Link:
    """Return the one of this loop."""
    (found,) = groups.members.local()._links.values()
    return found


def test_a_message_says_which_group_it_is_of() -> None:
    async def scenario() -> None:
        got: list[Message] = []

        class Member(FakeMember):
            def deliver(self, message: Message) -> None:
                super().deliver(message)
                got.append(message)

        member = Member()
        for group in (A, B):
            await joined(member, group)
            await group.asend("hi")
        assert [message.place for message in got] == [A.place, B.place]

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
        broker = await joined(member, A)
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
            broker = await joined(member, group)
            await broker.apublish(group.channel, b"")
            groups.members.local().leave(member, group)

    run(scenario)
    assert len(garbage_lines(caplog)) == 2


def test_of_which_groups_it_was_told_is_remembered_in_bounds() -> None:
    async def scenario() -> None:
        await joined(FakeMember(), A)
        for number in range(MOST_TOLD + 10):
            name = f"{GROUP_CHANNEL}{number}"
            link().receivers[name] = link().receivers[A.channel]
            link().on_message(name, b"")
        assert len(link()._told) <= MOST_TOLD

    run(scenario)


@pytest.mark.parametrize("message", [b"h\x00", b"z\x00\xff\xfe", b"p\x02id\x00\x01anything"])
def test_a_kind_of_a_later_version_is_told_once_as_that_and_the_members_go_on(
    message: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        member = FakeMember()
        broker = await joined(member, A)
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
        broker = await joined(FakeMember(), A)
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
        broker = await joined(member, A)
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
        link().on_reconnect()
        assert len(first.caught_up) == len(second.caught_up) == 1

    run(scenario)
    assert "broken receiver" in caplog.text


def test_what_a_receiver_does_not_know_yet_is_told_once_and_the_others_have_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Older(FakeReceiver):
        def receive(self, message: Message) -> None:
            raise LaterVersion("a control message, version 9")

    async def scenario() -> None:
        older, other = Older(), FakeReceiver()
        for receiver in (older, other):
            groups.members.local().add(receiver, A.place)
        late().acknowledge()
        for text in "xy":
            await A.asend(text)
        assert other.got == ["x", "y"]

    run(scenario)
    (record,) = caplog.records
    assert "later version of django-ws-dispatch" in record.getMessage()


def test_a_receiver_that_is_added_twice_receives_once_and_is_removed_once() -> None:
    async def scenario() -> None:
        receiver = FakeReceiver()
        for _ in range(2):
            groups.members.local().add(receiver, A.place)
        late().acknowledge()
        await A.asend("x")
        assert receiver.got == ["x"]
        for _ in range(2):
            link().remove(receiver, A.channel)
            assert not late().channels
            assert not link().receivers

    run(scenario)


def test_a_message_of_a_channel_that_nobody_receives_any_more_is_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        await joined(FakeMember(), A)
        assert link().on_message(B.channel, b"garbled") is None

    run(scenario)
    assert not caplog.records


def test_who_leaves_what_it_did_not_join_leaves_nothing() -> None:
    async def scenario() -> None:
        await joined(FakeMember(), A)
        assert not link().leave(FakeMember(), A.channel)
        assert not link().leave(FakeMember(), B.channel)
        assert late().channels == {A.channel}

    run(scenario)


# Groups that know who is here


def present_changes() -> bytes:
    return published(Changes("1.0", "1.1", 1, [], [Here("anna", 1, 1, "null")]))


def test_changes_of_a_group_that_is_none_here_are_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        member = FakeMember()
        broker = await joined(member, A)
        await broker.apublish(A.channel, present_changes())
        await A.asend("x")
        assert member.got == ["x"]

    run(scenario)
    assert not caplog.records


def test_who_is_here_is_kept_once_for_a_channel_as_long_as_it_is_needed(settings: Any) -> None:
    settings.WEBSOCKET_GROUPS = {"?": {"presence": True, "linger": 0}}

    async def scenario() -> None:
        member = FakeMember()
        broker = await joined(member, A)
        assert link()._beat is None
        group = link().attend(A.channel, A.options)
        assert link().attend(A.channel, A.options) is group
        assert link().present == {A.channel: group}
        assert len(link().receivers[A.channel]) == 2
        beat = link()._beat
        assert beat in link().tasks()
        seat = Seat("anna", "null")
        await group.enter(seat)
        groups.members.local().leave(member, A.place)
        assert broker.channels == {A.channel}
        seat.leave(lingers=False)
        await until(lambda: not link().present)
        assert not broker.channels
        assert not link().receivers
        assert link()._beat is None
        assert not link().tasks()
        await asyncio.wait([beat])
        assert beat.cancelled()

    run(scenario)


def test_one_beat_is_for_all_groups_and_goes_on_while_there_are_any(settings: Any) -> None:
    settings.WEBSOCKET_GROUPS = {"?": {"presence": True, "linger": 0}}

    async def scenario() -> None:
        await joined(FakeMember(), A)
        await joined(FakeMember(), B)
        seats = [Seat("anna", "null"), Seat("bob", "null")]
        for one, seat in zip((A, B), seats, strict=True):
            await link().attend(one.channel, one.options).enter(seat)
        beat = link()._beat
        seats[0].leave(lingers=False)
        await until(lambda: list(link().present) == [B.channel])
        assert link()._beat is beat
        assert not beat.done()

    run(scenario)


def test_a_broker_that_is_lost_is_told_to_groups_with_options(settings: Any) -> None:
    settings.WEBSOCKET_GROUPS = {"a": {"history": 5, "presence": True}}

    async def scenario() -> None:
        member = FakeMember()
        joining = asyncio.create_task(
            groups.members.local().join(member, A.place, kept={A.place: A.options})
        )
        await asyncio.sleep(0)
        late().acknowledge()
        await joining
        (kept,) = link().kept.values()
        present = link().attend(A.channel, A.options)
        touched: list[object] = []
        for group in (kept, present):
            group.lose_touch = partial(touched.append, group)  # type: ignore[method-assign]
        link().on_lost()
        assert touched == [kept, present]
        assert link()._patrol in link().tasks()
        link().leave(member, A.channel)
        assert link()._patrol is None

    run(scenario)
