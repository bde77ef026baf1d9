"""A group that remembers: holes are seen and filled, what is gone is told, who joins is level."""

from __future__ import annotations

import asyncio

import pytest

from django_ws_dispatch.brokers import get_broker
from django_ws_dispatch.brokers.history import FORGOTTEN, RESET, Top, kept, order_of
from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.brokers.remembered import Remembered
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group, fanout, members
from django_ws_dispatch.groups.messages import GAP, decode

from ..kit.members import FakeMember, run
from ..kit.remembering import joined, remembering
from ..kit.waiting import until

GROUP = Group("room:a")


@pytest.fixture(autouse=True)
def _groups():
    with remembering({"room:*": {"history": 5}}):
        yield


def broker() -> MemoryBroker:
    found = get_broker("default")
    assert isinstance(found, MemoryBroker)
    return found


async def lost_on_the_way(data: str) -> str:
    """Keep a message that no process hears."""
    entry = broker()._history.keep(GROUP.channel, b"t\0" + data.encode(), GROUP.options.keep, False)
    return entry.position


def test_members_get_what_is_sent_once_it_is_kept():
    async def scenario():
        member = FakeMember()
        group = await joined(member, GROUP)
        for number in range(3):
            position = await GROUP.asend(str(number))
            assert group.position == position
        assert member.got == ["0", "1", "2"]

    run(scenario)


def test_a_hole_is_filled_in_order_before_anything_newer():
    async def scenario():
        member = FakeMember()
        await joined(member, GROUP)
        await GROUP.asend("0")
        await lost_on_the_way("1")
        await lost_on_the_way("2")
        await GROUP.asend("3")
        await member.has(4)
        assert member.got == ["0", "1", "2", "3"]

    run(scenario)


def test_what_was_missed_while_the_broker_was_away_comes_once_it_is_back():
    async def scenario():
        member = FakeMember()
        group = await joined(member, GROUP)
        await lost_on_the_way("1")
        group.catch_up()
        await member.has(1)
        assert member.got == ["1"]

    run(scenario)


def test_a_message_that_the_store_had_already_is_delivered_once():
    async def scenario():
        member = FakeMember()
        group = await joined(member, GROUP)
        before = group.position
        position = await lost_on_the_way("1")
        group.catch_up()
        await member.has(1)
        late = kept(before, position, b"t\x001")
        await broker().apublish(GROUP.channel, late)
        await GROUP.asend("2")
        assert member.got == ["1", "2"]

    run(scenario)


def test_a_close_that_was_missed_is_carried_out_in_its_place():
    async def scenario():
        member = FakeMember()
        group = await joined(member, GROUP)
        await lost_on_the_way("1")
        broker()._history.keep(GROUP.channel, b"c\0\x10\x00bye", GROUP.options.keep, True)
        await lost_on_the_way("2")
        group.catch_up()
        await member.has(3)
        assert member.got == ["1", (4096, "bye"), "2"]

    run(scenario)


def test_more_than_is_kept_is_a_gap_and_no_close():
    async def scenario():
        member, gaps = FakeMember(), []
        group = await joined(member, GROUP)
        group.on_gap[lambda: gaps.append(1)] = None
        for number in range(7):
            await lost_on_the_way(str(number))
        group.catch_up()
        await until(lambda: gaps)
        await GROUP.asend("after")
        assert (member.got, gaps) == (["after"], [1])

    run(scenario)


def test_who_may_have_missed_a_close_is_closed():
    async def scenario():
        member, gaps = FakeMember(), []
        group = await joined(member, GROUP)
        group.on_gap[lambda: gaps.append(1)] = None
        broker()._history.keep(GROUP.channel, b"c\0\x10\x00", GROUP.options.keep, True)
        for number in range(7):
            await lost_on_the_way(str(number))
        group.catch_up()
        await until(lambda: gaps)
        assert member.got == [(1012, "messages were lost")]

    run(scenario)


def test_a_store_that_forgot_everything_while_it_was_heard_is_a_gap():
    async def scenario():
        member, gaps = FakeMember(), []
        group = await joined(member, GROUP)
        group.on_gap[lambda: gaps.append(1)] = None
        broker()._history._channels.clear()
        await GROUP.asend("first of a new memory")
        await until(lambda: gaps)
        await GROUP.asend("next")
        assert (member.got[-1], gaps) == ("next", [1])

    run(scenario)


class Ordered(FakeMember):
    """One that keeps its notices among what else it gets."""

    def notice(self, message):
        super().notice(message)
        self.got.append(("gap", message.position))


def test_a_gap_is_told_to_the_members_behind_what_came_before_and_in_front_of_what_follows():
    async def scenario():
        member = Ordered()
        group = await joined(member, GROUP)
        await GROUP.asend("before")
        for number in range(7):
            position = await lost_on_the_way(str(number))
        group.catch_up()
        await until(lambda: member.noticed)
        await GROUP.asend("after")
        assert member.got == ["before", ("gap", position), "after"]
        (gap,) = member.noticed
        assert (gap.kind, gap.place, gap.exclude) == (GAP, GROUP.place, None)

    run(scenario)


def test_a_gap_waits_for_the_messages_that_wait_for_their_turn(monkeypatch):
    async def scenario():
        monkeypatch.setattr(fanout, "TURN", 0.0)
        member = Ordered()
        group = await joined(member, GROUP)
        start = group.position
        sending = asyncio.ensure_future(GROUP.asend("before"))
        await until(lambda: group.position != start)
        assert member.got == []
        for number in range(7):
            await lost_on_the_way(str(number))
        group.catch_up()
        monkeypatch.setattr(fanout, "TURN", 60.0)
        await sending
        await until(lambda: member.noticed)
        assert [one if isinstance(one, str) else one[0] for one in member.got] == ["before", "gap"]

    run(scenario)


def test_a_gap_is_told_before_the_close_of_who_may_have_missed_one():
    async def scenario():
        member = Ordered()
        group = await joined(member, GROUP)
        broker()._history.keep(GROUP.channel, b"c\0\x10\x00", GROUP.options.keep, True)
        for number in range(7):
            position = await lost_on_the_way(str(number))
        group.catch_up()
        await until(lambda: len(member.got) == 2)
        assert member.got == [("gap", position), (1012, "messages were lost")]

    run(scenario)


def test_messages_say_whose_they_are():
    async def scenario():
        member = Placed()
        group = await joined(member, GROUP)
        await GROUP.asend("live")
        await broker().apublish(GROUP.channel, b"t\0without a position")
        await lost_on_the_way("read")
        group.catch_up()
        await member.has(3)
        assert member.got == ["live", "without a position", "read"]
        assert member.places == [GROUP.place] * 3

    run(scenario)


class Placed(FakeMember):
    def __init__(self):
        super().__init__()
        self.places = []

    def deliver(self, message):
        super().deliver(message)
        self.places.append(message.place)


def test_a_loss_is_logged_once_a_minute_for_the_groups_of_a_pattern(caplog, monkeypatch):
    monkeypatch.setattr("django_ws_dispatch.groups.kept._warned_at", {})

    async def scenario():
        for name in ("room:a", "room:b"):
            group = await joined(FakeMember(), Group(name))
            gap = asyncio.Event()
            group.on_gap[gap.set] = None
            broker()._history = Remembered()
            group.catch_up()
            await gap.wait()

    run(scenario)
    assert caplog.text.count("has not all messages any more") == 1


def test_forgetting_is_no_gap_for_who_is_here():
    async def scenario():
        member, gaps = FakeMember(), []
        group = await joined(member, GROUP)
        group.on_gap[lambda: gaps.append(1)] = None
        await GROUP.asend("1")
        await GROUP.aforget()
        await GROUP.asend("2")
        # And for who missed nothing but that.
        broker()._history.keep(GROUP.channel, FORGOTTEN, GROUP.options.keep, True, True)
        group.catch_up()
        await GROUP.asend("3")
        await member.has(3)
        assert (member.got, gaps) == (["1", "2", "3"], [])

    run(scenario)


def test_a_message_without_a_position_is_delivered_and_told_of_once(caplog):
    async def scenario():
        member = FakeMember()
        await joined(member, GROUP)
        await broker().apublish(GROUP.channel, b"t\x001")
        await broker().apublish(GROUP.channel, b"t\x002")
        await GROUP.asend("3")
        assert member.got == ["1", "2", "3"]

    run(scenario)
    assert caplog.text.count("without a position") == 1


def test_a_store_that_does_not_answer_is_asked_again(monkeypatch):
    class Away:
        times = 3

    aread = MemoryBroker.aread

    async def failing(self, *args, **kwargs):
        if Away.times:
            Away.times -= 1
            raise BrokerError("away")
        return await aread(self, *args, **kwargs)

    async def scenario():
        member = FakeMember()
        group = await joined(member, GROUP)
        monkeypatch.setattr(MemoryBroker, "aread", failing)
        await lost_on_the_way("1")
        group.catch_up()
        await member.has(1)
        assert (member.got, Away.times) == (["1"], 0)

    run(scenario)


def test_a_member_that_comes_while_messages_wait_for_their_turn_gets_none_of_them():
    async def scenario():
        group = await joined(FakeMember(), GROUP)
        fan_out = members.local()._fan_out
        fan_out._turn_ends = 0.0
        fan_out._turn = asyncio.get_running_loop().call_soon(fan_out._next_turn)
        sending = asyncio.ensure_future(GROUP.asend("1"))
        await asyncio.sleep(0)
        late = FakeMember()
        group.hold(late)
        group.enter(late)
        await sending
        await GROUP.asend("2")
        assert late.got == ["2"]

    run(scenario)


def test_a_group_that_is_elsewhere_than_its_store_is_brought_up_to_date():
    async def scenario():
        member = FakeMember()
        group = await joined(member, GROUP)
        position = await lost_on_the_way("1")
        group.compare(Top(position, 0))
        await member.has(1)
        assert member.got == ["1"]

    run(scenario)


def later(position: str) -> str:
    """A position of the same epoch, 50 ms later."""
    epoch, ms, _ = order_of(position)
    return f"{epoch}.{ms + 50}-0"


def held_up(monkeypatch, pause):
    """Have each read of the store wait for something, after it was carried out."""
    aread = MemoryBroker.aread

    async def slow(self, *args, **kwargs):
        page = await aread(self, *args, **kwargs)
        await pause()
        return page

    monkeypatch.setattr(MemoryBroker, "aread", slow)


def stopped(monkeypatch):
    """Have each read wait; return the events that say that one does, and let it go on."""
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def wait():
        reading.set()
        await go_on.wait()

    held_up(monkeypatch, wait)
    return reading, go_on


def test_what_was_heard_and_the_store_never_had_ends_in_a_gap_and_not_in_asking_for_ever(
    monkeypatch,
):
    reads = []

    async def count():
        reads.append(1)
        await asyncio.sleep(0)

    async def scenario():
        member, gaps = FakeMember(), []
        group = await joined(member, GROUP)
        group.on_gap[lambda: gaps.append(1)] = None
        before = later(await GROUP.asend("1"))
        held_up(monkeypatch, count)
        await broker().apublish(GROUP.channel, kept(before, later(before), b"t\0lost"))
        await until(lambda: gaps and group._sync is None)
        assert len(reads) < 10

    run(scenario)


def test_a_broker_that_is_away_once_more_while_it_is_read_loses_nothing(monkeypatch):
    async def scenario():
        member = FakeMember()
        group = await joined(member, GROUP)
        reading, go_on = stopped(monkeypatch)
        group.catch_up()
        await reading.wait()
        await lost_on_the_way("missed")  # after the read
        group.catch_up()
        go_on.set()
        await member.has(1)
        assert member.got == ["missed"]

    run(scenario)


def test_a_sender_that_is_cancelled_ends_no_sync(monkeypatch):
    async def scenario():
        member = FakeMember()
        await joined(member, GROUP)
        reading, go_on = stopped(monkeypatch)
        await lost_on_the_way("0")
        sending = asyncio.ensure_future(GROUP.asend("1"))
        await reading.wait()
        sending.cancel()
        await asyncio.wait([sending])
        go_on.set()
        await member.has(2)
        assert member.got == ["0", "1"]

    run(scenario)


def test_a_second_join_that_fails_leaves_the_first_one(monkeypatch):
    async def scenario():
        member = FakeMember()
        group = await joined(member, GROUP)
        reading, go_on = stopped(monkeypatch)
        group.catch_up()
        await reading.wait()
        joining = asyncio.ensure_future(joined(member, GROUP))
        await asyncio.sleep(0)
        joining.cancel()
        await asyncio.wait([joining])
        go_on.set()
        await GROUP.asend("x")
        assert member.got == ["x"]
        assert not group.held
        members.local().leave(member, GROUP.place)
        (link,) = members.local()._links.values()
        assert not link.kept
        assert not link.groups

    run(scenario)


def test_what_orders_a_group_with_history_is_nothing_to_a_process_without_the_setting(caplog):
    async def scenario():
        member = FakeMember()
        await members.local().join(member, GROUP.place)
        await GROUP.aforget()
        await broker().apublish(GROUP.channel, RESET)
        await GROUP.asend("1")
        assert member.got == ["1"]

    run(scenario)
    assert "failed" not in caplog.text


def test_who_is_out_of_touch_may_have_missed_a_close_before_the_broker_is_back():
    async def scenario():
        member, gaps = FakeMember(), []
        group = await joined(member, GROUP)
        group.on_gap[lambda: gaps.append(1)] = None
        (link,) = members.local()._links.values()
        link.on_lost()
        broker()._history._channels.clear()
        await GROUP.asend("of a new memory")
        assert member.got == [(1012, "messages were lost")]
        assert gaps == [1]
        link.on_reconnect()
        await GROUP.asend("next")
        assert member.got[1:] == ["next"]

    run(scenario)


def test_what_comes_while_the_store_is_read_needs_no_other_read(monkeypatch):
    reads = []

    async def scenario():
        member = FakeMember()
        group = await joined(member, GROUP)

        async def more():
            reads.append(1)
            entries = [
                broker()._history.keep(GROUP.channel, b"t\0%d" % number, GROUP.options.keep, False)
                for number in (1, 2)
            ]
            for entry in entries:  # each time, as long as it is read
                message = kept(entry.previous, entry.position, entry.message)
                group.receive(decode(message))

        held_up(monkeypatch, more)
        group.catch_up()
        await member.has(2)
        await until(lambda: group._sync is None)
        assert (member.got, reads) == (["1", "2"], [1])

    run(scenario)
