"""The fan-out to the members of a group."""

from __future__ import annotations

import asyncio

import pytest

from django_ws_dispatch.groups import fanout
from django_ws_dispatch.groups.fanout import Channel, FanOut
from django_ws_dispatch.groups.messages import GAP, Message, decode, encode_close, encode_data

from ..kit.members import FakeMember

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is."""
    monkeypatch.setattr(fanout, "TURN", 60.0)


def news(exclude: str | None = None) -> Message:
    return decode(encode_data("news", exclude))


def group(*members: FakeMember) -> tuple[FanOut, Channel]:
    channel = Channel()
    for member in members:
        channel.members[member] = 1
    return FanOut(asyncio.get_running_loop()), channel


async def test_all_have_it_at_once_and_no_task_is_made():
    members = [FakeMember() for _ in range(100)]
    fan_out, channel = group(*members)
    before = asyncio.all_tasks()
    assert fan_out.deliver(channel, news()) is None
    assert asyncio.all_tasks() == before
    assert all(member.got == ["news"] for member in members)
    assert channel.jobs == []


async def test_all_share_one_message():
    members = [FakeMember() for _ in range(3)]
    fan_out, channel = group(*members)
    fan_out.deliver(channel, news())
    assert members[0].events == [({"type": "websocket.send", "text": "news"}, news().size)]
    assert len({id(event) for member in members for event, _ in member.events}) == 1


async def test_a_member_that_fails_is_logged_and_the_others_get_it(caplog):
    class Broken(FakeMember):
        def deliver(self, message: Message) -> None:
            raise ValueError("a bug")

    members = [FakeMember(), Broken(), FakeMember()]
    fan_out, channel = group(*members)
    assert fan_out.deliver(channel, news()) is None
    assert [member.got for member in members] == [["news"], [], ["news"]]
    assert [record.getMessage() for record in caplog.records] == [
        "A member of a group failed to take a message."
    ]
    assert channel.jobs == []


async def test_the_one_that_is_excluded_gets_nothing():
    members = [FakeMember(name) for name in "abc"]
    fan_out, channel = group(*members)
    fan_out.deliver(channel, news(exclude="b"))
    assert [member.got for member in members] == [["news"], [], ["news"]]


async def test_nobody_is_asked_for_an_id_where_nobody_is_excluded():
    member = FakeMember("a")
    fan_out, channel = group(member)
    fan_out.deliver(channel, news())
    assert not member.id_was_read


async def test_what_excludes_a_socket_excludes_what_its_page_has_opened_since():
    members = [
        FakeMember("a", former_ids=("x", "b")),
        FakeMember("b"),
        FakeMember("c", former_ids={"y", "z"}),
        FakeMember("d"),
    ]
    fan_out, channel = group(*members)
    fan_out.deliver(channel, news(exclude="b"))
    assert [member.got for member in members] == [[], [], ["news"], ["news"]]
    fan_out.deliver(channel, news(exclude="a"))
    assert [len(member.got) for member in members] == [0, 1, 2, 2]


async def test_a_close_that_excludes_a_socket_spares_what_its_page_has_opened_since():
    members = [FakeMember("a", former_ids=("b",)), FakeMember("c")]
    fan_out, channel = group(*members)
    fan_out.deliver(channel, decode(encode_close(4403, "out", "b")))
    assert [member.got for member in members] == [[], [(4403, "out")]]


async def test_a_gap_is_no_message_but_a_notice_that_all_share():
    members = [FakeMember("a"), FakeMember("b", former_ids=("a",))]
    fan_out, channel = group(*members)
    gap = Message(GAP, {}, 0, None, position="1.2-3")
    assert fan_out.deliver(channel, gap) is None
    assert [(member.got, member.noticed) for member in members] == [([], [gap])] * 2
    assert not members[0].id_was_read


async def test_a_member_that_fails_at_a_notice_is_logged_and_the_others_have_it(caplog):
    class Broken(FakeMember):
        def notice(self, message: Message) -> None:
            raise ValueError("a bug")

    members = [Broken(), FakeMember()]
    fan_out, channel = group(*members)
    fan_out.deliver(channel, Message(GAP, {}, 0, None))
    assert len(members[1].noticed) == 1
    assert "failed to take a message" in caplog.text


@pytest.mark.parametrize("position", [2, 31, 32, 99])
async def test_who_leaves_in_the_middle_gets_nothing_more(position):
    members = [FakeMember() for _ in range(100)]
    fan_out, channel = group(*members)
    members[1]._then = lambda: channel.remove(members[position])
    fan_out.deliver(channel, news())
    assert [not member.got for member in members].count(True) == 1
    assert members[position].got == []


async def test_who_leaves_between_two_turns_gets_nothing_more_though_it_comes_back():
    members = [FakeMember() for _ in range(100)]
    fan_out, channel = group(*members)
    members[30]._then = lambda: setattr(fan_out, "_turn_ends", 0.0)
    done = fan_out.deliver(channel, news())
    assert done is not None
    assert (members[31].got, members[32].got) == (["news"], [])
    for member in members[98:]:
        channel.remove(member)
    channel.members[members[98]] = 1
    await done
    assert members[97].got == ["news"]
    assert (members[98].got, members[99].got) == ([], [])
    assert channel.jobs == []


async def test_a_message_waits_for_the_one_before_it_that_had_no_time_left(monkeypatch):
    monkeypatch.setattr(fanout, "TURN", 0.0)
    members = [FakeMember() for _ in range(3)]
    fan_out, channel = group(*members)
    first = fan_out.deliver(channel, news())
    second = fan_out.deliver(channel, decode(encode_data("more")))
    assert first is not None
    assert second is not None
    monkeypatch.setattr(fanout, "TURN", 60.0)
    await second
    assert first.done()
    assert all(member.got == ["news", "more"] for member in members)


async def test_all_are_kicked_though_one_fails_to_close(caplog):
    class Stubborn(FakeMember):
        def kick(self, code: int, reason: str) -> None:
            raise ValueError("no")

    members = [FakeMember(), Stubborn(), FakeMember()]
    fan_out, channel = group(*members)
    fan_out.deliver(channel, decode(encode_close(4403, "out")))
    assert [member.got for member in members] == [[(4403, "out")], [], [(4403, "out")]]
    assert [record.getMessage() for record in caplog.records] == [
        "A member of a group failed to close."
    ]


async def test_messages_that_are_given_up_are_done(monkeypatch):
    monkeypatch.setattr(fanout, "TURN", 0.0)
    fan_out, channel = group(*[FakeMember() for _ in range(3)])
    done = fan_out.deliver(channel, news())
    assert done is not None
    fan_out.close()
    assert done.done()
