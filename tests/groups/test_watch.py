"""Who is told of who is here: code, by what has changed, and the clients of members."""

from __future__ import annotations

import asyncio
import json

import pytest

from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group, watch
from django_ws_dispatch.groups.fanout import FanOut
from django_ws_dispatch.groups.view import View
from django_ws_dispatch.groups.watch import Audience, Watcher

from ..kit.members import FakeMember
from ..kit.waiting import until
from .views import here, keys, view

pytestmark = pytest.mark.asyncio

ROOM = Group("room:a")


class Turns:
    """An audience, whose group the test changes."""

    def __init__(self, *them):
        self.view = view(*them)
        fan_out = FanOut(asyncio.get_running_loop())
        self.audience = Audience(lambda: self.view, fan_out, ROOM.place)

    def add(self):
        return self.audience.add(ROOM)

    def change(self, *them):
        self.view = view(*them)
        self.audience.tell()


async def nothing(watcher):
    """Return the task that waits for the next change, once it does."""
    task = asyncio.ensure_future(anext(watcher))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def cancelled(task):
    task.cancel()
    await asyncio.wait([task])


async def shut(audience):
    audience.close()
    assert audience._pause is None or audience._pause.cancelled()


# One who watches


async def test_the_first_change_has_everybody_and_comes_at_once():
    watcher = Watcher(ROOM, view(here("bob", 2), here("anna", 1)))
    assert aiter(watcher) is watcher
    change = await anext(watcher)
    assert (change.left, change.count) == ([], 2)
    assert keys(change.joined) == ["bob", "anna"]
    assert keys(change.present) == ["anna", "bob"]
    await cancelled(await nothing(watcher))


async def test_the_first_change_of_a_group_without_anybody_is_empty():
    change = await anext(Watcher(ROOM, view()))
    assert (change.left, change.joined, change.count, change.present) == ([], [], 0, [])


async def test_what_changes_wakes_who_waits():
    watcher = Watcher(ROOM, view("anna"))
    await anext(watcher)
    waiting = await nothing(watcher)
    watcher.tell(view("bob", "eve"))
    change = await waiting
    assert keys(change.left) == ["anna"]
    assert sorted(keys(change.joined)) == ["bob", "eve"]
    assert change.count == 2


async def test_other_info_is_told_as_joined_and_another_number_of_sockets_is_not():
    watcher = Watcher(ROOM, view("anna"))
    await anext(watcher)
    waiting = await nothing(watcher)
    watcher.tell(view(here("anna", sockets=2)))
    await asyncio.sleep(0)
    watcher.tell(view(here("anna", info='"busy"', sockets=2)))
    change = await waiting
    assert change.left == []
    assert [(one.key, one.info, one.sockets) for one in change.joined] == [("anna", "busy", 2)]


async def test_who_left_and_came_again_meanwhile_has_left_first():
    watcher = Watcher(ROOM, view(here("anna", 1)))
    await anext(watcher)
    watcher.tell(view(here("anna", 9, "1")))
    change = await anext(watcher)
    assert [one.here_since.microsecond for one in change.left] == [1]
    assert [one.here_since.microsecond for one in change.joined] == [9]


async def test_a_slow_one_gets_one_change_for_all_that_happened():
    watcher = Watcher(ROOM, view("anna", "bob"))
    await anext(watcher)
    watcher.tell(view("anna", "bob", "eve"))
    watcher.tell(view("anna", "bob", "eve", "tom"))
    watcher.tell(view("anna", "tom"))
    change = await anext(watcher)
    assert (keys(change.left), keys(change.joined), change.count) == (["bob"], ["tom"], 2)
    await cancelled(await nothing(watcher))


async def test_what_was_undone_before_it_looked_is_no_change():
    watcher = Watcher(ROOM, view("anna"))
    await anext(watcher)
    watcher.tell(view("anna", "bob"))
    watcher.tell(view("anna"))
    await cancelled(await nothing(watcher))


async def test_above_the_limit_there_is_a_count_and_below_it_what_has_changed_since():
    watcher = Watcher(ROOM, view("anna", "bob"))
    await anext(watcher)
    for count in (7, 8):
        watcher.tell(View(None, count))
        change = await anext(watcher)
        assert (change.left, change.joined, change.present) == ([], [], None)
        assert change.count == count
    watcher.tell(view("bob", "eve"))
    change = await anext(watcher)
    assert (keys(change.left), keys(change.joined), change.count) == (["anna"], ["eve"], 2)


async def test_a_first_change_above_the_limit_lists_nobody():
    watcher = Watcher(ROOM, View(None, 7))
    change = await anext(watcher)
    assert (change.present, change.joined, change.count) == (None, [], 7)
    watcher.tell(view("anna"))
    assert keys((await anext(watcher)).joined) == ["anna"]


async def test_a_change_is_what_it_says_and_not_the_list_behind_it():
    one, other = watch.Change([], [], 1, view("a")), watch.Change([], [], 1, view("b"))
    assert one == other
    assert "_view" not in repr(one)


async def test_what_the_broker_forgot_is_an_error_behind_the_first_change():
    watcher = Watcher(ROOM, view("anna"))
    watcher.lose()
    assert keys((await anext(watcher)).joined) == ["anna"]
    for _ in range(2):
        with pytest.raises(BrokerError, match=r"forgotten who is in Group\('room:a'\): watch it"):
            await anext(watcher)


async def test_what_the_broker_forgot_wakes_who_waits():
    watcher = Watcher(ROOM, view("anna"))
    await anext(watcher)
    waiting = await nothing(watcher)
    watcher.lose()
    with pytest.raises(BrokerError):
        await waiting


async def test_the_end_of_the_block_ends_the_iteration():
    watcher = Watcher(ROOM, view("anna"))
    await anext(watcher)
    waiting = await nothing(watcher)
    watcher.lose()
    watcher.end()
    watcher.end()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert [one async for one in watcher] == []


async def test_two_tasks_can_not_iterate_at_once():
    watcher = Watcher(ROOM, view("anna"))
    await anext(watcher)
    waiting = await nothing(watcher)
    with pytest.raises(RuntimeError, match="Two tasks"):
        await anext(watcher)
    watcher.tell(view())
    assert keys((await waiting).left) == ["anna"]


async def test_who_stops_to_wait_can_wait_again():
    watcher = Watcher(ROOM, view("anna"))
    await anext(watcher)
    await cancelled(await nothing(watcher))
    watcher.tell(view())
    assert keys((await anext(watcher)).left) == ["anna"]


# All who watch


async def test_the_first_change_is_told_at_once_and_the_next_one_after_a_pause(monkeypatch):
    monkeypatch.setattr(watch, "TOLD_EVERY", 600.0)
    turns = Turns("anna")
    watcher = turns.add()
    await anext(watcher)
    turns.change("anna", "bob")
    assert keys((await anext(watcher)).joined) == ["bob"]
    turns.change("anna", "bob", "eve")
    turns.change("anna", "bob", "eve", "tom")
    waiting = await nothing(watcher)
    pause = turns.audience._pause
    assert pause is not None
    assert pause.when() - asyncio.get_running_loop().time() > 500
    pause._run()  # its time has come
    assert keys((await waiting).joined) == ["eve", "tom"]
    assert turns.audience._pause is not pause
    await shut(turns.audience)


async def test_a_pause_in_which_nothing_changes_is_followed_by_none(monkeypatch):
    monkeypatch.setattr(watch, "TOLD_EVERY", 0.0)
    turns = Turns("anna")
    watcher = turns.add()
    await anext(watcher)
    turns.change("bob")
    await anext(watcher)
    await until(lambda: turns.audience._pause is None)
    turns.change("bob")
    assert turns.audience._pause is None
    turns.change()
    assert keys((await anext(watcher)).left) == ["bob"]
    await until(lambda: turns.audience._pause is None)


async def test_nobody_is_told_where_nobody_watches(monkeypatch):
    monkeypatch.setattr(watch, "TOLD_EVERY", 0.0)
    turns = Turns("anna")
    assert not turns.audience
    turns.change("bob")
    assert turns.audience._pause is None
    watcher = turns.add()
    assert turns.audience
    turns.change("eve")
    turns.audience.remove(watcher)
    turns.audience.remove(watcher)
    assert not turns.audience
    await until(lambda: turns.audience._pause is None)


async def test_who_comes_later_sees_the_list_of_now_and_is_told_nothing_twice(monkeypatch):
    monkeypatch.setattr(watch, "TOLD_EVERY", 600.0)
    turns = Turns("anna")
    first = turns.add()
    await anext(first)
    turns.change("anna", "bob")
    await anext(first)
    turns.change("anna", "bob", "eve")  # in the pause
    second = turns.add()
    assert keys((await anext(second)).joined) == ["anna", "bob", "eve"]
    waiting = [await nothing(first), await nothing(second)]
    turns.audience._pause._run()
    assert keys((await waiting[0]).joined) == ["eve"]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting[1].done()
    await cancelled(waiting[1])
    await shut(turns.audience)


async def test_who_saw_somebody_in_the_pause_is_told_that_they_left_in_it(monkeypatch):
    monkeypatch.setattr(watch, "TOLD_EVERY", 600.0)
    turns = Turns("anna")
    first = turns.add()
    await anext(first)
    turns.change("anna", "bob")
    await anext(first)
    turns.change("anna", "bob", "eve")
    second = turns.add()
    await anext(second)
    turns.change("anna", "bob")
    waiting = [await nothing(first), await nothing(second)]
    turns.audience._pause._run()
    assert keys((await waiting[1]).left) == ["eve"]
    assert not waiting[0].done()
    await cancelled(waiting[0])
    await shut(turns.audience)


async def test_who_watches_after_everybody_left_off_is_told_what_changes_from_now(monkeypatch):
    monkeypatch.setattr(watch, "TOLD_EVERY", 0.0)
    turns = Turns("anna")
    turns.audience.remove(turns.add())
    turns.change("bob")
    watcher = turns.add()
    assert keys((await anext(watcher)).joined) == ["bob"]
    turns.change("anna")
    change = await anext(watcher)
    assert (keys(change.left), keys(change.joined)) == (["bob"], ["anna"])
    await until(lambda: turns.audience._pause is None)


async def test_all_who_watch_lose_at_once_and_who_watches_again_does_not():
    turns = Turns("anna")
    watchers = [turns.add(), turns.add()]
    for watcher in watchers:
        await anext(watcher)
    turns.audience.lose()
    assert not turns.audience
    for watcher in watchers:
        with pytest.raises(BrokerError):
            await anext(watcher)
        turns.audience.remove(watcher)
    again = turns.add()
    assert keys((await anext(again)).joined) == ["anna"]
    turns.change("bob")
    assert keys((await anext(again)).joined) == ["bob"]
    await shut(turns.audience)


async def test_the_end_of_all_ends_who_watches():
    turns = Turns("anna")
    watchers = [turns.add(), turns.add()]
    await anext(watchers[0])
    waiting = await nothing(watchers[0])
    turns.audience.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert [keys(one.joined) async for one in watchers[1]] == [["anna"]]


# The clients of members


def told(member):
    """What a client was told so far, without the moments."""
    found = []
    for text in member.got:
        payload = json.loads(text)
        found.append(
            {
                name: value if name == "count" else sorted(one["key"] for one in value)
                for name, value in payload.items()
            }
        )
    return found


async def test_a_client_is_told_the_list_of_now_and_then_what_changes(monkeypatch):
    monkeypatch.setattr(watch, "TOLD_EVERY", 0.0)
    turns = Turns("anna")
    member = FakeMember()
    assert not turns.audience
    assert turns.audience.introduce(member) == view("anna").payload
    assert turns.audience
    turns.change("anna")
    assert member.got == []
    turns.change("anna", "bob")
    assert told(member) == [{"count": 2, "left": [], "joined": ["bob"]}]
    await until(lambda: turns.audience._pause is None)
    turns.change("bob")
    assert told(member)[1:] == [{"count": 1, "left": ["anna"], "joined": []}]
    await until(lambda: turns.audience._pause is None)


async def test_a_client_whose_socket_has_left_is_told_nothing_more(monkeypatch):
    monkeypatch.setattr(watch, "TOLD_EVERY", 600.0)
    turns = Turns("anna")
    one, other = FakeMember(), FakeMember()
    for member in (one, other):
        turns.audience.introduce(member)
    for _ in range(2):
        turns.audience.dismiss(one)
    turns.change("bob")
    assert (one.got, len(other.got)) == ([], 1)
    turns.audience.dismiss(other)
    assert not turns.audience
    turns.audience._pause._run()
    assert turns.audience._pause is None
    assert len(other.got) == 1


async def test_a_client_that_comes_in_the_pause_is_told_at_its_end_what_it_has_not_seen(
    monkeypatch,
):
    monkeypatch.setattr(watch, "TOLD_EVERY", 600.0)
    turns = Turns("anna")
    first, second, third = FakeMember(), FakeMember(), FakeMember()
    turns.audience.introduce(first)
    turns.change("anna", "bob")
    turns.change("anna", "bob", "eve")  # in the pause
    assert json.loads(turns.audience.introduce(second))["count"] == 3
    turns.change("anna", "bob")
    assert json.loads(turns.audience.introduce(third))["count"] == 2
    turns.audience._pause._run()
    assert told(first) == [{"count": 2, "left": [], "joined": ["bob"]}]
    assert told(second) == [{"count": 2, "left": ["eve"], "joined": []}]
    assert third.got == []
    await shut(turns.audience)


async def test_a_client_that_is_introduced_again_has_the_list_of_now(monkeypatch):
    monkeypatch.setattr(watch, "TOLD_EVERY", 600.0)
    turns = Turns("anna")
    member = FakeMember()
    turns.audience.introduce(member)
    turns.view = view("bob")
    assert turns.audience.introduce(member) == turns.view.payload
    turns.audience.tell()
    assert member.got == []
    await shut(turns.audience)


async def test_who_watches_and_clients_are_told_together(monkeypatch):
    monkeypatch.setattr(watch, "TOLD_EVERY", 600.0)
    turns = Turns("anna")
    member, watcher = FakeMember(), turns.add()
    await anext(watcher)
    turns.audience.introduce(member)
    turns.change("bob")
    assert told(member) == [{"count": 1, "left": ["anna"], "joined": ["bob"]}]
    change = await anext(watcher)
    assert (keys(change.left), keys(change.joined)) == (["anna"], ["bob"])
    turns.audience.remove(watcher)
    assert turns.audience  # a client is there
    await shut(turns.audience)


async def test_a_client_is_told_what_has_changed_once_the_broker_had_forgotten(monkeypatch):
    monkeypatch.setattr(watch, "TOLD_EVERY", 600.0)
    turns = Turns("anna")
    member = FakeMember()
    turns.audience.introduce(member)
    turns.audience.lose()
    assert turns.audience
    turns.change("anna", "bob")
    assert told(member) == [{"count": 2, "left": [], "joined": ["bob"]}]
    await shut(turns.audience)
