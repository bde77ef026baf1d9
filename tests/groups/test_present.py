"""Who is in a group, in one event loop: what it tells its broker, and what it hears."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from django_ws_dispatch.brokers.presence import BATCH, GRACE, Entry
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group
from django_ws_dispatch.groups import present as module
from django_ws_dispatch.groups.fanout import FanOut
from django_ws_dispatch.groups.messages import TEXT, Message
from django_ws_dispatch.groups.options import GroupOptions
from django_ws_dispatch.groups.present import PresentGroup
from django_ws_dispatch.groups.seats import Seat
from django_ws_dispatch.groups.turns import Turns

from ..kit.tracking import TrackingBroker
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio

CHANNEL = "group:room:a"
ROOM = Group("room:a")


class Site:
    """A group of one process, and its broker."""

    def __init__(self):
        self.broker = TrackingBroker()
        self.ended = 0
        self.groups = []

    def make(self, *, most=200, linger=0.0, **options):
        found = GroupOptions("room:*", 0, 60.0, most, linger)
        fan_out = FanOut(asyncio.get_running_loop())
        group = PresentGroup(self.broker, CHANNEL, found, self.end, fan_out, **options)
        self.broker.receivers.append(group)
        self.groups.append(group)
        return group

    def end(self):
        self.ended += 1

    @property
    def entries(self):
        """What was said of keys, call by call."""
        return [call.entries for call in self.broker.calls if call.entries]

    @property
    def keys(self):
        return [one.key for one in self.broker.presences.snapshot(CHANNEL, 200).here]


@pytest_asyncio.fixture
async def site():
    site = Site()
    yield site
    site.broker.unblock()
    for group in site.groups:
        group.close()
        for task in group.tasks():
            task.cancel()
            await asyncio.wait([task])


async def quiet(group):
    """Return once it has told all that there is to tell, and what follows of that has happened."""
    await until(lambda: not group.tasks())
    await asyncio.sleep(0)


def keys(found):
    return [one.key for one in found]


async def watching(group):
    """Return a watcher that has seen who is here."""
    watcher = await group.watch(ROOM)
    await anext(watcher)
    return watcher


async def waiting(watcher):
    """Return the task that waits for the next change, which nobody has told of yet."""
    task = asyncio.ensure_future(anext(watcher))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


# Who comes and goes


async def test_all_that_comes_in_one_turn_is_said_in_one_call(site):
    group = site.make()
    seats = [Seat("anna", "1"), Seat("bob", "2"), Seat("anna", "3")]
    told = [group.enter(seat) for seat in seats]
    await asyncio.gather(*told)
    assert site.entries == [[Entry("anna", 2, "3"), Entry("bob", 1, "2")]]
    assert site.keys == ["anna", "bob"]


class Late:
    """Hears for a group, which hears it later."""

    def __init__(self, group):
        self.group, self.messages = group, []

    def receive(self, message):
        self.messages.append(message)

    def arrive(self):
        for message in self.messages:
            self.group.receive(message)


async def overtaking(site):
    """Return a group that enters one whose change has overtaken that of another process."""
    group = site.make()
    await group.enter(Seat("anna", "1"))
    site.broker.receivers[:] = [late := Late(group)]
    site.broker.elsewhere(CHANNEL, Entry("eve", 1))
    entered = group.enter(Seat("bob", "2"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert "bob" in site.keys
    return group, late, entered


async def test_who_has_joined_sees_itself_on_the_list_and_what_came_before(site, monkeypatch):
    monkeypatch.setattr("django_ws_dispatch.groups.present.TOLD_EVERY", 60.0)
    group, late, entered = await overtaking(site)
    assert not entered.done()
    late.arrive()
    await entered
    watcher = await group.watch(ROOM)
    assert keys((await anext(watcher)).joined) == ["anna", "eve", "bob"]
    assert not any(call.roll for call in site.broker.calls[1:])


async def test_where_the_channel_is_deaf_the_list_is_asked_for(site, monkeypatch):
    monkeypatch.setattr("django_ws_dispatch.groups.present.TOLD_EVERY", 0.01)
    group, _, entered = await overtaking(site)
    await entered
    await quiet(group)
    watcher = await group.watch(ROOM)
    assert keys((await anext(watcher)).joined) == ["anna", "eve", "bob"]


async def test_what_comes_while_a_call_is_under_way_goes_in_the_next_one(site):
    group = site.make()
    site.broker.block()
    first = group.enter(Seat("anna", "1"))
    await until(lambda: site.broker.calls)
    others = [group.enter(Seat(key, "2")) for key in ("bob", "eve")]
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(site.broker.calls) == 1
    site.broker.unblock()
    await asyncio.gather(first, *others)
    assert [keys(entries) for entries in site.entries] == [["anna"], ["bob", "eve"]]


async def test_more_than_a_batch_takes_more_calls(site):
    group = site.make()
    await asyncio.gather(*(group.enter(Seat(str(n), "1")) for n in range(BATCH + 1)))
    assert [len(entries) for entries in site.entries] == [BATCH, 1]


async def test_an_update_is_told_and_done_once_the_broker_has_it(site):
    group = site.make()
    await group.enter(seat := Seat("anna", "1"))
    await seat.update("2")
    assert site.entries[-1] == [Entry("anna", 1, "2")]
    assert site.broker.presences.snapshot(CHANNEL, 1).here[0].info == "2"


async def test_once_nobody_needs_it_the_broker_is_told_and_it_ends(site):
    group = site.make()
    await group.enter(seat := Seat("anna", "1"))
    assert not site.ended
    seat.leave(lingers=True)
    seat.leave(lingers=True)
    await until(lambda: site.ended)
    await quiet(group)
    assert site.ended == 1
    assert site.broker.calls[-1].ends
    assert site.keys == []
    assert not site.broker.presences._channels


async def test_who_comes_while_the_last_one_is_said_to_have_left_keeps_it(site):
    group = site.make()
    await group.enter(seat := Seat("anna", "1"))
    await quiet(group)
    site.broker.block()
    seat.leave(lingers=False)
    calls = len(site.broker.calls)
    await until(lambda: len(site.broker.calls) > calls)
    told = group.enter(Seat("bob", "2"))
    site.broker.unblock()
    await told
    await quiet(group)
    assert not site.ended
    assert site.keys == ["bob"]


async def test_one_socket_of_two_that_leaves_is_no_leaving(site):
    group = site.make()
    first, second = Seat("anna", "1"), Seat("anna", "1")
    await asyncio.gather(group.enter(first), group.enter(second))
    first.leave(lingers=False)
    await quiet(group)
    assert site.keys == ["anna"]
    assert not site.ended


async def test_who_watches_while_the_last_one_is_said_to_have_left_is_told_of_who_comes(
    site, monkeypatch
):
    monkeypatch.setattr("django_ws_dispatch.groups.watch.TOLD_EVERY", 0.0)
    group = site.make()
    await group.enter(seat := Seat("anna", "1"))
    await quiet(group)
    site.broker.block()
    calls = len(site.broker.calls)
    seat.leave(lingers=False)
    await until(lambda: len(site.broker.calls) > calls)
    assert site.broker.calls[-1].ends
    watching = asyncio.ensure_future(group.watch(ROOM))
    await asyncio.sleep(0)
    site.broker.unblock()
    watcher = await watching
    await anext(watcher)
    site.broker.elsewhere(CHANNEL, Entry("bob", 1))
    assert keys((await anext(watcher)).joined) == ["bob"]
    assert not site.ended


async def test_what_has_ended_begins_nothing_any_more(site):
    group = site.make()
    await group.enter(seat := Seat("anna", "1"))
    seat.leave(lingers=False)
    await until(lambda: site.ended)
    await group.flush()
    group.refresh()
    assert not group.tasks()
    assert site.ended == 1


# Who lingers


async def test_who_lingers_is_here_until_it_is_swept_and_then_it_ends(site):
    group = site.make(linger=300.0)
    await group.enter(seat := Seat("anna", "1"))
    seat.leave(lingers=True)
    await quiet(group)
    assert group._lingers
    assert [one.sockets for one in site.broker.presences.snapshot(CHANNEL, 5).here] == [0]
    assert not site.ended


async def test_the_end_of_a_linger_is_told(site, monkeypatch):
    group = site.make(linger=0.001)
    watcher = await watching(group)
    await group.enter(seat := Seat("anna", "1"))
    assert keys((await anext(watcher)).joined) == ["anna"]
    monkeypatch.setattr("django_ws_dispatch.groups.watch.TOLD_EVERY", 0.0)
    group.audience._pause._run()
    seat.leave(lingers=True)
    assert keys((await anext(watcher)).left) == ["anna"]
    group.unwatch(watcher)
    await until(lambda: site.ended)


async def test_who_does_not_linger_is_waited_for_by_nobody(site):
    group = site.make(linger=300.0)
    first, second = Seat("anna", "1"), Seat("bob", "1")
    await asyncio.gather(group.enter(first), group.enter(second))
    first.leave(lingers=False)
    await quiet(group)
    assert not group._lingers
    assert site.keys == ["bob"]


# Who watches


async def test_who_watches_gets_the_list_and_what_changes(site, monkeypatch):
    monkeypatch.setattr("django_ws_dispatch.groups.watch.TOLD_EVERY", 0.0)
    site.broker.elsewhere(CHANNEL, Entry("eve", 1, '"e"'))
    group = site.make()
    watcher = await group.watch(ROOM)
    assert keys((await anext(watcher)).joined) == ["eve"]
    await group.enter(Seat("anna", "1"))
    assert keys((await anext(watcher)).joined) == ["anna"]
    site.broker.elsewhere(CHANNEL, Entry("eve", 0), Entry("tom", 1))
    change = await anext(watcher)
    assert (keys(change.left), keys(change.joined), change.count) == (["eve"], ["tom"], 2)


async def test_who_watches_later_asks_for_no_list(site):
    group = site.make()
    await watching(group)
    calls = len(site.broker.calls)
    await watching(group)
    await quiet(group)
    assert len(site.broker.calls) == calls


async def test_a_group_that_is_only_watched_ends_with_the_last_watcher(site):
    group = site.make()
    watchers = [await watching(group), await watching(group)]
    group.unwatch(watchers[0])
    await quiet(group)
    assert not site.ended
    group.unwatch(watchers[1])
    await until(lambda: site.ended)
    assert site.broker.calls[-1].ends
    assert [one async for one in watchers[1]] == []


async def test_a_watch_that_the_broker_does_not_answer_fails_and_leaves_nothing(site):
    group = site.make()
    site.broker.error = BrokerError("away")
    with pytest.raises(BrokerError, match="away"):
        await group.watch(ROOM)
    await until(lambda: site.ended)


async def test_a_watch_that_is_cancelled_leaves_nothing(site):
    group = site.make()
    site.broker.block()
    entering = asyncio.ensure_future(group.watch(ROOM))
    await until(lambda: site.broker.calls)
    entering.cancel()
    await asyncio.wait([entering])
    site.broker.unblock()
    await until(lambda: site.ended)


async def test_a_watch_that_is_cancelled_as_its_list_comes_leaves_nothing(site):
    group = site.make()
    site.broker.block()
    entering = asyncio.ensure_future(group.watch(ROOM))
    await until(lambda: site.broker.calls)
    site.broker.unblock()
    entering.cancel()
    await asyncio.wait([entering])
    await until(lambda: site.ended)


async def test_several_who_begin_to_watch_wait_for_one_list(site):
    group = site.make()
    watchers = await asyncio.gather(*(group.watch(ROOM) for _ in range(3)))
    assert len(watchers) == 3
    assert [call.roll for call in site.broker.calls] == [True]


async def test_above_the_limit_a_count_is_told_and_below_it_the_list_is_asked_for(
    site, monkeypatch
):
    monkeypatch.setattr("django_ws_dispatch.groups.watch.TOLD_EVERY", 0.0)
    group = site.make(most=2)
    watcher = await watching(group)
    seats = [Seat(str(number), "1") for number in range(4)]
    await asyncio.gather(*(group.enter(seat) for seat in seats))
    change = await anext(watcher)
    assert (change.present, change.joined, change.count) == (None, [], 4)
    seats[0].leave(lingers=False)
    change = await anext(watcher)
    assert (change.present, change.count) == (None, 3)
    seats[1].leave(lingers=False)
    change = await anext(watcher)
    assert (keys(change.joined), change.left, change.count) == (["2", "3"], [], 2)
    assert site.broker.calls[-1].roll


async def test_a_message_of_its_channel_that_is_no_change_is_nothing(site):
    group = site.make()
    group.receive(Message(TEXT, {"type": "websocket.send", "text": "x"}, 1, None))
    await quiet(group)
    assert not site.broker.calls


async def test_a_hole_in_what_changes_is_filled(site, monkeypatch):
    monkeypatch.setattr("django_ws_dispatch.groups.watch.TOLD_EVERY", 0.0)
    group = site.make()
    watcher = await watching(group)
    site.broker.elsewhere(CHANNEL, Entry("anna", 1), heard=False)
    site.broker.elsewhere(CHANNEL, Entry("bob", 1))
    assert keys((await anext(watcher)).joined) == ["anna", "bob"]
    assert [call.roll for call in site.broker.calls] == [True, True]


async def test_a_hole_that_nobody_needs_filled_is_not(site):
    group = site.make()
    site.broker.elsewhere(CHANNEL, Entry("bob", 1))
    await quiet(group)
    assert not site.broker.calls


# A beat


async def test_a_beat_says_that_it_is_there_and_no_more(site):
    group = site.make()
    await group.enter(Seat("anna", "1"))
    calls = len(site.broker.calls)
    group.refresh()
    await quiet(group)
    (call,) = site.broker.calls[calls:]
    assert (call.entries, call.roll, call.away, call.ends) == ([], False, False, False)


async def test_while_there_is_more_to_sweep_it_goes_on(site):
    group = site.make()
    await group.enter(Seat("anna", "1"))
    calls = len(site.broker.calls)
    site.broker.more = 3
    group.refresh()
    await quiet(group)
    assert len(site.broker.calls) == calls + 4


# Its turn


async def test_groups_that_only_say_that_they_are_there_do_so_in_turn(site):
    turns = Turns(2)
    found = []
    for number in range(4):
        found.append(group := site.make(turns=turns))
        await group.enter(Seat(str(number), "1"))
        await quiet(group)
    site.broker.block()
    calls = len(site.broker.calls)
    for group in found:
        group.refresh()
    await until(lambda: len(site.broker.calls) == calls + 2)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(site.broker.calls) == calls + 2
    site.broker.unblock()
    for group in found:
        await quiet(group)
    assert len(site.broker.calls) == calls + 4


async def test_whoever_waits_for_the_broker_waits_for_no_turn(site):
    turns = Turns(1)
    busy, other = site.make(turns=turns), site.make(turns=turns)
    await asyncio.gather(busy.enter(Seat("anna", "1")), other.enter(Seat("tom", "1")))
    for group in (busy, other):
        await quiet(group)
    watched = site.make(turns=turns)
    site.broker.block()
    calls = len(site.broker.calls)
    for group in (busy, other):
        group.refresh()
    await until(lambda: len(site.broker.calls) == calls + 1)
    told = [other.enter(Seat("bob", "1")), other.enter(seat := Seat("eve", "1"))]
    told.append(asyncio.ensure_future(watched.watch(ROOM)))
    await until(lambda: len(site.broker.calls) == calls + 3)
    told.append(seat.update("2"))
    site.broker.unblock()
    await asyncio.gather(*told)
    assert [keys(entries) for entries in site.entries[2:]] == [["bob", "eve"], ["eve"]]


async def test_a_turn_is_given_back_by_a_call_that_fails(site):
    turns = Turns(1)
    first, second = site.make(turns=turns), site.make(turns=turns)
    site.broker.error = BrokerError("away")
    for _ in range(2):
        for group in (first, second):
            group.refresh()
            await quiet(group)
    assert len(site.broker.calls) == 2  # nobody needs them: they have ended


# The broker is away


async def test_who_enters_while_the_broker_is_away_is_told_and_here_all_the_same(site):
    group = site.make()
    site.broker.error = BrokerError("away")
    with pytest.raises(BrokerError, match="away"):
        await group.enter(Seat("anna", "1"))
    await quiet(group)
    assert len(site.broker.calls) == 1
    site.broker.error = None
    group.refresh()
    await quiet(group)
    assert site.entries[-1] == [Entry("anna", 1, "1")]
    assert site.keys == ["anna"]
    # What was asked for and not answered is asked for again.
    assert site.broker.calls[-1].roll


async def test_who_leaves_while_the_broker_is_away_is_said_to_have_left_later(site):
    group = site.make(linger=300.0)
    await group.enter(seat := Seat("anna", "1"))
    site.broker.error = BrokerError("away")
    seat.leave(lingers=False)
    await quiet(group)
    assert not site.ended
    site.broker.error = None
    group.catch_up()
    await until(lambda: site.ended)
    assert site.keys == []


async def test_a_broker_that_is_back_is_told_that_it_was_away_and_asked_for_a_list(site):
    group = site.make()
    await group.enter(Seat("anna", "1"))
    site.broker.error = BrokerError("away")
    group.catch_up()
    await quiet(group)
    site.broker.error = None
    group.refresh()
    await quiet(group)
    group.refresh()
    await quiet(group)
    said = [(call.away, call.roll) for call in site.broker.calls[-3:]]
    assert said == [(True, True), (True, True), (False, False)]


async def test_nobody_is_told_to_have_left_before_the_others_had_time_to_come_back(site):
    group = site.make()
    site.broker.elsewhere(CHANNEL, Entry("bob", 1))
    watcher = await watching(group)
    site.broker.elsewhere(CHANNEL, Entry("bob", 0), heard=False)
    group.catch_up()
    task = await waiting(watcher)
    await quiet(group)
    site.broker.elsewhere(CHANNEL, Entry("eve", 1))
    change = await task
    assert (change.left, keys(change.joined), change.count) == ([], ["eve"], 2)
    timer = group._hold_timer
    assert timer.when() - asyncio.get_running_loop().time() > GRACE / 2
    task = await waiting(watcher)
    group._let_go()  # its time has come
    group.audience._pause._run()
    change = await task
    assert (keys(change.left), change.count) == (["bob"], 1)
    timer.cancel()


async def test_who_is_said_to_have_left_meanwhile_has(site):
    group = site.make()
    site.broker.elsewhere(CHANNEL, Entry("bob", 1))
    watcher = await watching(group)
    group.catch_up()
    await quiet(group)
    site.broker.elsewhere(CHANNEL, Entry("bob", 0))
    assert keys((await anext(watcher)).left) == ["bob"]


async def test_where_all_came_back_nobody_is_let_go(site):
    group = site.make()
    watcher = await watching(group)
    for _ in range(2):
        group.catch_up()
        await quiet(group)
    first = group._hold_timer
    group._let_go()
    assert group._hold_timer is None
    assert group.audience._pause is None
    first.cancel()
    group.unwatch(watcher)


async def test_after_the_grace_who_is_not_listed_has_left(site, monkeypatch):
    monkeypatch.setattr(module, "GRACE", 0.0)
    group = site.make()
    site.broker.elsewhere(CHANNEL, Entry("bob", 1))
    watcher = await watching(group)
    site.broker.elsewhere(CHANNEL, Entry("bob", 0), heard=False)
    group.catch_up()
    assert keys((await anext(watcher)).left) == ["bob"]


async def test_a_broker_that_has_forgotten_it_is_told_everybody_again(site):
    group = site.make()
    await asyncio.gather(*(group.enter(Seat(key, "1")) for key in ("anna", "bob")))
    site.broker.forget()
    await group.enter(Seat("eve", "1"))
    await quiet(group)
    assert sorted(site.keys) == ["anna", "bob", "eve"]
    assert sorted(keys(site.entries[-1])) == ["anna", "bob"]


async def test_a_broker_that_has_forgotten_all_is_an_error_for_who_watches(site):
    group = site.make()
    site.broker.elsewhere(CHANNEL, Entry("bob", 1))
    await group.enter(Seat("anna", "1"))
    watcher = await watching(group)
    site.broker.forget()
    group.refresh()
    with pytest.raises(BrokerError, match="forgotten who is in"):
        await anext(watcher)
    # Who watches again sees those who may only not have come back yet.
    again = await group.watch(ROOM)
    assert sorted(keys((await anext(again)).joined)) == ["anna", "bob"]
    group._let_go()
    assert keys((await anext(again)).left) == ["bob"]


async def test_who_comes_back_after_the_broker_forgot_is_not_told_to_have_left(site, monkeypatch):
    monkeypatch.setattr("django_ws_dispatch.groups.watch.TOLD_EVERY", 0.0)
    group = site.make()
    site.broker.elsewhere(CHANNEL, Entry("bob", 1))
    await group.enter(Seat("anna", "1"))
    watcher = await watching(group)
    site.broker.forget()
    group.refresh()
    with pytest.raises(BrokerError):
        await anext(watcher)
    again = await watching(group)
    # The other process enters its sockets anew.
    site.broker.elsewhere(CHANNEL, Entry("bob", 1, '"here"'))
    change = await anext(again)
    assert (change.left, keys(change.joined), change.count) == ([], ["bob"], 2)
    site.broker.elsewhere(CHANNEL, Entry("bob", 1, '"busy"'))
    change = await anext(again)
    assert (change.left, keys(change.joined), change.count) == ([], ["bob"], 2)


async def test_after_an_outage_all_is_told_anew_and_of_the_tracker_before_nothing_counts(site):
    group = site.make()
    told = [group.enter(Seat(str(number), "1")) for number in range(BATCH + 1)]
    await asyncio.gather(*told)
    before = site.broker.calls[-1].tracker
    calls = len(site.broker.calls)
    group.catch_up()
    await quiet(group)
    anew = site.broker.calls[calls:]
    assert {call.tracker for call in anew}.isdisjoint({before})
    assert [len(call.entries) for call in anew] == [BATCH, 1]
    # Not before all is told: nobody leaves in between.
    assert [(call.replaces, call.replaced) for call in anew] == [(before, False), (before, True)]
    assert len(site.keys) == BATCH + 1
    assert len(site.broker.presences._channels[CHANNEL].trackers) == 1


async def test_who_leaves_while_the_broker_is_away_lingers_all_the_same(site):
    group = site.make(linger=300.0)
    seats = [Seat("anna", "1"), Seat("bob", "1")]
    await asyncio.gather(*(group.enter(seat) for seat in seats))
    site.broker.error = BrokerError("away")
    seats[0].leave(lingers=True)
    await quiet(group)
    site.broker.error = None
    group.catch_up()
    await quiet(group)
    here = site.broker.presences.snapshot(CHANNEL, 5).here
    assert [(one.key, one.sockets) for one in here] == [("anna", 0), ("bob", 1)]


async def test_a_broker_that_was_away_is_told_so_by_the_first_call_that_reaches_it(site):
    group = site.make()
    await group.enter(Seat("anna", "1"))
    group.lose_touch()
    await group.enter(Seat("bob", "1"))
    await group.enter(Seat("eve", "1"))
    assert [call.away for call in site.broker.calls[-3:]] == [False, True, False]


async def test_a_second_outage_replaces_both_trackers(site):
    group = site.make()
    await group.enter(Seat("anna", "1"))
    first = site.broker.calls[-1].tracker
    site.broker.error = BrokerError("away")
    group.catch_up()
    await quiet(group)
    site.broker.error = None
    group.catch_up()
    await quiet(group)
    second = site.broker.calls[-1].tracker
    assert first != second
    group.catch_up()
    await quiet(group)
    assert {call.replaces for call in site.broker.calls} == {"", first, second}
    assert [one.sockets for one in site.broker.presences.snapshot(CHANNEL, 5).here] == [1]


async def test_an_outage_while_a_call_is_under_way_is_followed_by_all_anew(site):
    group = site.make()
    await group.enter(Seat("anna", "1"))
    site.broker.block()
    calls = len(site.broker.calls)
    told = group.enter(Seat("bob", "1"))
    await until(lambda: len(site.broker.calls) > calls)
    group.catch_up()
    site.broker.unblock()
    await told
    await quiet(group)
    one, other = {call.tracker for call in site.broker.calls}
    assert sorted(site.keys) == ["anna", "bob"]
    assert len({one, other} & set(site.broker.presences._channels[CHANNEL].trackers)) == 1


async def test_a_beat_finds_out_that_the_broker_has_other_sockets_of_this_process(site):
    group = site.make()
    await asyncio.gather(*(group.enter(Seat(key, "1")) for key in ("anna", "bob")))
    before = site.broker.calls[-1].tracker
    # A call that was given up came late after all.
    site.broker.elsewhere(CHANNEL, Entry("ghost", 1), tracker=before)
    group.refresh()
    await quiet(group)
    assert sorted(site.keys) == ["anna", "bob"]
    assert before in {call.replaces for call in site.broker.calls}
    assert site.broker.calls[-1].tracker != before


async def test_a_beat_with_news_compares_nothing(site):
    group = site.make()
    await group.enter(Seat("anna", "1"))
    tracker = site.broker.calls[-1].tracker
    site.broker.block()
    group.refresh()
    calls = len(site.broker.calls)
    await until(lambda: len(site.broker.calls) > calls)
    told = group.enter(Seat("bob", "1"))
    site.broker.unblock()
    await told
    await quiet(group)
    assert {call.tracker for call in site.broker.calls} == {tracker}


# What is no failure of the broker's


async def test_a_bug_of_the_brokers_is_told_to_who_watches(site, caplog):
    group = site.make()
    site.broker.error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        await group.watch(ROOM)
    await quiet(group)
    assert "could not be told who is in a group" in caplog.text


async def test_a_bug_of_the_brokers_is_logged_and_does_not_end_it(site, caplog):
    group = site.make()
    site.broker.error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        await group.enter(Seat("anna", "1"))
    await quiet(group)
    assert "could not be told who is in a group" in caplog.text
    assert "a bug" in caplog.text
    site.broker.error = None
    group.refresh()
    await quiet(group)
    assert site.keys == ["anna"]


# The end


async def test_the_end_of_the_loop_is_told_to_the_broker(site):
    group = site.make(linger=300.0)
    await group.enter(seat := Seat("anna", "1"))
    seat.leave(lingers=True)
    await quiet(group)
    await group.flush()
    await until(lambda: site.ended)
    assert site.broker.calls[-1].ends
    assert site.keys == ["anna"]  # it lingers on


async def test_at_the_end_of_the_loop_nothing_begins_any_more(site):
    ends = []
    group = site.make(is_ending=lambda: bool(ends))
    await group.enter(seat := Seat("anna", "1"))
    await quiet(group)
    ends.append(True)
    seat.leave(lingers=False)
    group.refresh()
    assert not group.tasks()
    await group.flush()


async def test_the_end_of_the_loop_waits_for_no_broker_for_ever(site):
    group = site.make()
    site.broker.block()
    group.enter(Seat("anna", "1"))
    await group.flush()
    (task,) = group.tasks()
    task.cancel()
    await asyncio.wait([task])
    assert not site.ended


async def test_the_end_of_the_loop_has_no_timers_left(site):
    group = site.make(linger=300.0)
    watcher = await watching(group)
    await group.enter(seat := Seat("anna", "1"))
    await anext(watcher)
    seat.leave(lingers=True)
    await quiet(group)
    group.catch_up()
    await quiet(group)
    timers = (group._lingers._timer, group._hold_timer, group.audience._pause)
    group.close()
    assert all(timer.cancelled() for timer in timers)
