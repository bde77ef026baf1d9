"""The members of a group whose clients are told who is here."""

from __future__ import annotations

import asyncio
import json

import pytest

from django_ws_dispatch.brokers.presence import Here
from django_ws_dispatch.groups import fanout
from django_ws_dispatch.groups.crowd import Crowd
from django_ws_dispatch.groups.fanout import FanOut
from django_ws_dispatch.groups.messages import PRESENCE, Place
from django_ws_dispatch.groups.view import View

from ..kit.members import FakeMember
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio

PLACE = Place("group:room:a", "default")


@pytest.fixture(autouse=True)
def _one_turn(monkeypatch):
    """However busy the machine is."""
    monkeypatch.setattr(fanout, "TURN", 60.0)


def view(*keys):
    return View({key: Here(key, 1, 1, "null") for key in keys}, len(keys))


def told(member):
    """Who joined, and who left, by each of the changes that a client was told."""
    found = []
    for text in member.got:
        payload = json.loads(text)
        found.append(["".join(one["key"] for one in payload[name]) for name in ("joined", "left")])
    return found


class Shared(FakeMember):
    def __init__(self):
        super().__init__()
        self.messages = []

    def deliver(self, message):
        super().deliver(message)
        self.messages.append(message)


def crowd(**members):
    """Return one, of members by what they know: a letter for each key."""
    found = Crowd(FanOut(asyncio.get_running_loop()), PLACE)
    for keys, each in members.items():
        known = view(*keys)
        for member in each:
            found.add(member, known)
    return found


async def test_it_is_empty_without_members():
    one = crowd()
    assert not one
    one.tell(view("a"))
    one.remove(member := FakeMember())
    one.add(member, view("a"))
    assert one
    one.remove(member)
    assert not one


async def test_all_who_know_the_same_share_one_message():
    members = [Shared() for _ in range(3)]
    crowd(a=members).tell(view("a", "b"))
    assert [told(member) for member in members] == [[["b", ""]]] * 3
    (message,) = {id(one): one for member in members for one in member.messages}.values()
    assert (message.kind, message.place, message.exclude) == (PRESENCE, PLACE, None)


async def test_each_is_told_what_it_does_not_know_and_then_they_share():
    few, many, knows = Shared(), [Shared(), Shared()], Shared()
    one = crowd(a=[few], ab=many, bc=[knows])
    one.tell(view("b", "c"))
    assert told(few) == [["bc", "a"]]
    assert [told(member) for member in many] == [[["c", "a"]]] * 2
    assert knows.got == []
    one.tell(view("b"))
    members = [few, *many, knows]
    assert all(told(member)[-1] == ["", "c"] for member in members)
    assert len({id(member.messages[-1]) for member in members}) == 1


async def test_who_is_removed_is_told_nothing_more_and_the_others_are():
    gone, stays = FakeMember(), FakeMember()
    one = crowd(a=[gone, stays])
    one.remove(gone)
    one.tell(view("b"))
    assert (gone.got, told(stays)) == ([], [["b", "a"]])


async def test_who_is_removed_after_they_share_is_told_nothing_more():
    members = [FakeMember(), FakeMember(), FakeMember()]
    one = crowd(a=members[:1], b=members[1:])
    one.tell(view("b"))
    for member in members:
        one.remove(member)
    assert not one
    one.tell(view("c"))
    assert [len(member.got) for member in members] == [1, 0, 0]


async def test_who_comes_later_is_told_from_what_it_knows_on():
    first, second = FakeMember(), FakeMember()
    one = crowd(a=[first])
    one.tell(now := view("a", "b"))
    one.add(second, now)
    one.tell(view("b"))
    assert told(first) == [["b", ""], ["", "a"]]
    assert told(second) == [["", "a"]]


async def test_a_crowd_that_takes_longer_than_a_turn_is_told_in_order(monkeypatch):
    monkeypatch.setattr(fanout, "TURN", 0.0)
    members = [FakeMember() for _ in range(3)]
    one = crowd(a=members[:2], b=members[2:])
    one.tell(view("b"))
    one.tell(view("c"))
    assert not any(member.got for member in members)
    monkeypatch.setattr(fanout, "TURN", 60.0)
    await until(lambda: all(member.got for member in members))
    # Who knew it already may be told once more, which changes nothing for a client.
    assert all(told(member)[-1] == ["c", "b"] for member in members)
