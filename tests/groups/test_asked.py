"""Who is here, as code asks for it: in any thread, and where an event loop runs."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from django.contrib.auth.models import User
from django.core.exceptions import SynchronousOnlyOperation

from django_ws_dispatch import groups
from django_ws_dispatch.brokers import get_broker
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group, Present, members, user_group
from django_ws_dispatch.groups.seats import Seat

from ..kit.late_broker import LATE, late
from ..kit.members import FakeMember, run
from ..kit.remembering import remembering
from ..kit.waiting import DEADLINE, until

pytestmark = pytest.mark.asyncio

ROOM, PLAIN = Group("room:a"), Group("plain")
PRESENT = {"room:*": {"presence": 3, "linger": 0}, "<user>": {"presence": True, "linger": 0}}


@pytest.fixture(autouse=True)
def _groups(monkeypatch):
    monkeypatch.setattr(groups.group, "unheard", False)
    monkeypatch.setattr("django_ws_dispatch.groups.watch.TOLD_EVERY", 0.0)
    with remembering(PRESENT):
        yield


@pytest_asyncio.fixture(autouse=True)
async def _closed():
    yield
    await members.aclose()


@asynccontextmanager
async def here(*keys, group=ROOM, info="null"):
    """Some who are in a group as long as the block runs."""
    options, place, registry = group.options, group.place, members.local()
    them = [(FakeMember(), Seat(key, info)) for key in keys]
    for member, seat in them:
        await registry.join(member, place, seats={place: (seat, options)})
    try:
        yield [seat for _, seat in them]
    finally:
        for member, seat in them:
            seat.leave(lingers=False)
            registry.leave(member, place)


def keys(found):
    return [one.key for one in found]


async def test_who_is_here_is_listed_longest_first_and_counted():
    assert await ROOM.apresent() == []
    assert await ROOM.acount() == 0
    async with here("anna", "bob", "anna", info='{"name": "?"}'):
        anna, bob = await ROOM.apresent()
        assert isinstance(anna, Present)
        assert (anna.key, anna.info, anna.sockets) == ("anna", {"name": "?"}, 2)
        assert (bob.key, bob.sockets) == ("bob", 1)
        assert anna.here_since <= bob.here_since
        assert anna.here_since.utcoffset().total_seconds() == 0
        assert await ROOM.acount() == 2
    await until(lambda: not members.local()._links[get_broker("default")].present)
    assert await ROOM.apresent() == []


async def test_of_more_than_are_listed_those_are_that_have_been_here_longest():
    async with here("a", "b", "c", "d", "e"):
        assert keys(await ROOM.apresent()) == ["a", "b", "c"]
        assert await ROOM.acount() == 5


async def test_a_thread_asks_the_same():
    async with here("anna", "bob"):
        assert keys(await asyncio.to_thread(ROOM.present)) == ["anna", "bob"]
        assert await asyncio.to_thread(ROOM.count) == 2


async def test_sync_methods_refuse_where_a_loop_runs_and_name_the_other():
    with pytest.raises(SynchronousOnlyOperation, match=r"use apresent\(\)"):
        ROOM.present()
    with pytest.raises(SynchronousOnlyOperation, match=r"use acount\(\)"):
        ROOM.count()


async def test_other_loops_are_here_too_and_gone_with_their_loop():
    entered, leave = threading.Event(), threading.Event()

    def elsewhere():
        async def scenario():
            async with here("eve"):
                entered.set()
                await asyncio.to_thread(leave.wait, DEADLINE)

        run(scenario)

    other = asyncio.create_task(asyncio.to_thread(elsewhere))
    await asyncio.to_thread(entered.wait, DEADLINE)
    async with ROOM.watch() as changes:
        assert keys((await anext(changes)).joined) == ["eve"]
        assert keys(await ROOM.apresent()) == ["eve"]
        leave.set()
        assert keys((await anext(changes)).left) == ["eve"]
    await other


async def test_users_have_groups_that_know_who_is_here_with_a_pattern_of_their_own():
    group = user_group(User(pk=42))
    async with here("42", group=group):
        assert keys(await group.apresent()) == ["42"]
        assert await Group("42", "default").asend("x") is None


# Groups that do not know it


@pytest.mark.parametrize("name", ["apresent", "acount"])
async def test_a_group_that_does_not_know_names_the_setting(name):
    with pytest.raises(ValueError, match="does not know") as raised:
        await getattr(PLAIN, name)()
    assert str(raised.value) == (
        "Group('plain') does not know who is here. Write in the settings: WEBSOCKET_GROUPS = "
        '{"plain": {"presence": True}}, or a pattern such as "room:*".'
    )
    with pytest.raises(ValueError, match="does not know who is here"):
        await asyncio.to_thread(getattr(PLAIN, name[1:]))


async def test_a_group_with_history_only_does_not_know_either(settings):
    settings.WEBSOCKET_GROUPS = {"room:*": {"history": 5}}
    for ask in (ROOM.apresent, ROOM.acount):
        with pytest.raises(ValueError, match=r"Group\('room:a'\) does not know who is here"):
            await ask()
    with pytest.raises(ValueError, match="does not know who is here"):
        async with ROOM.watch():
            raise AssertionError("watched")
    assert not members.local()._links


# Watching


async def test_a_watch_follows_who_comes_and_goes_and_what_they_tell():
    async with here("anna") as (anna,), ROOM.watch() as changes:
        first = await anext(changes)
        assert (keys(first.joined), first.left, first.count) == (["anna"], [], 1)
        assert keys(first.present) == ["anna"]
        async with here("bob"):
            second = await anext(changes)
            assert (keys(second.joined), keys(second.present)) == (["bob"], ["anna", "bob"])
            await anna.update('"busy"')
            third = await anext(changes)
            assert [(one.key, one.info) for one in third.joined] == [("anna", "busy")]
        fourth = await anext(changes)
        assert (keys(fourth.left), fourth.joined, fourth.count) == (["bob"], [], 1)


async def test_a_slow_watcher_is_told_in_one_change_that_who_left_came_again():
    async with ROOM.watch() as changes:
        async with here("anna"):
            while not (await anext(changes)).joined:
                pass
        (group,) = members.local()._links[get_broker("default")].present.values()
        await until(lambda: not group.tasks())
        async with here("anna"):
            await until(lambda: group.audience._pause is None)
            change = await anext(changes)
            assert (keys(change.left), keys(change.joined), change.count) == (["anna"], ["anna"], 1)
            assert change.left[0].here_since < change.joined[0].here_since


async def test_who_leaves_and_comes_in_one_turn_is_no_change():
    async with here("anna") as (first,), ROOM.watch() as changes:
        before = (await anext(changes)).joined
        first.leave(lingers=False)
        async with here("anna", "bob"):
            assert keys((await anext(changes)).joined) == ["bob"]
            assert (await ROOM.apresent())[0] == before[0]


async def test_a_watch_is_over_with_its_block_and_leaves_nothing():
    async with ROOM.watch() as changes:
        await anext(changes)
        (link,) = members.local()._links.values()
        assert link.present
    assert [one async for one in changes] == []
    await until(lambda: not link.present)
    assert not link.receivers
    assert not get_broker("default")._presences._channels


async def test_a_broker_that_has_forgotten_is_an_error_and_the_next_watch_begins_anew():
    async with here("anna"):
        async with ROOM.watch() as changes:
            await anext(changes)
            broker = get_broker("default")
            broker._presences = type(broker._presences)()
            (group,) = members.local()._links[broker].present.values()
            group.refresh()
            with pytest.raises(BrokerError, match="forgotten who is in"):
                await anext(changes)
        async with ROOM.watch() as changes:
            assert keys((await anext(changes)).joined) == ["anna"]
        assert keys(await ROOM.apresent()) == ["anna"]


async def test_a_watch_waits_for_its_subscription(settings):
    settings.WEBSOCKET_BROKERS = LATE
    watching = asyncio.ensure_future(anext(aiter_of(ROOM)))
    await until(lambda: late().asked)
    assert not watching.done()
    late().acknowledge()
    assert (await watching).count == 0


async def test_a_watch_that_is_not_acknowledged_fails_and_leaves_nothing(settings):
    settings.WEBSOCKET_BROKERS = LATE
    watching = asyncio.ensure_future(anext(aiter_of(ROOM)))
    await until(lambda: late().asked)
    late().fail()
    with pytest.raises(BrokerError, match="is late"):
        await watching
    (link,) = members.local()._links.values()
    await until(lambda: not link.present)
    assert not link.receivers


async def aiter_of(group):
    async with group.watch() as changes:
        async for change in changes:
            yield change
