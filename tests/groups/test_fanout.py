"""The walk over the members of a group."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from django_ws_dispatch.groups import fanout as walks
from django_ws_dispatch.groups.fanout import Channel, Walks
from django_ws_dispatch.groups.messages import Message, decode, encode_close, encode_data

from ..fake_members import FakeMember

pytestmark = pytest.mark.asyncio


class FakeSender(FakeMember):
    """A member with a ``send()`` of its own.

    Args:
        name: its id.
        slow: its ``send()`` waits until ``go``.
        error: what ``send()`` raises, after it has waited.
    """

    wire = 0

    def __init__(
        self, name: str = "", *, slow: bool = False, error: BaseException | None = None
    ) -> None:
        super().__init__(name)
        self.slow = slow
        self.error = error
        self.go = asyncio.Event()
        self.failures: list[BaseException] = []
        self.task: asyncio.Task[None] | None = None

    async def server_send(self, event: Any) -> None:
        if self.slow:
            await self.go.wait()
        if self.error is not None:
            raise self.error
        self.got.append(event["text"])

    def go_on(self, steps: Any, yielded: Any, size: int) -> None:
        self.wire = 2
        self.task = asyncio.get_running_loop().create_task(self._rest(steps, yielded))

    async def _rest(self, steps: Any, yielded: Any) -> None:
        class Rest:
            def __await__(self) -> Any:
                yield yielded
                yield from steps

        try:
            await Rest()
        except Exception as exc:
            self.failed(exc)

    def failed(self, exc: BaseException) -> None:
        self.failures.append(exc)


def news(exclude: str | None = None) -> Message:
    return decode(encode_data("news", exclude))


def group(*members: FakeMember) -> tuple[Walks, Channel]:
    channel = Channel()
    for member in members:
        channel.members[member] = 1
    return Walks(asyncio.get_running_loop()), channel


async def test_no_task_is_made_where_nobody_is_slow():
    members = [FakeSender() for _ in range(100)]
    all_walks, channel = group(*members)
    before = asyncio.all_tasks()
    assert all_walks.fan_out(channel, news()) is None
    assert asyncio.all_tasks() == before
    assert all(member.got == ["news"] for member in members)
    assert channel.jobs == []


async def test_slow_members_hold_up_nobody_and_get_it_when_they_can():
    members = [FakeSender(slow=number % 3 == 0) for number in range(100)]
    all_walks, channel = group(*members)
    assert all_walks.fan_out(channel, news()) is None
    assert all(member.got == ([] if member.slow else ["news"]) for member in members)
    for member in members:
        member.go.set()
    await asyncio.gather(*(member.task for member in members if member.task))
    assert all(member.got == ["news"] for member in members)


async def test_what_a_send_raises_is_told_to_its_member_alone():
    first, wrong, slow, last = (
        FakeSender(),
        FakeSender(error=OSError("gone")),
        FakeSender(slow=True, error=OSError("gone later")),
        FakeSender(),
    )
    all_walks, channel = group(first, wrong, slow, last)
    assert all_walks.fan_out(channel, news()) is None
    assert first.got == last.got == ["news"]
    assert [str(exc) for exc in wrong.failures] == ["gone"]
    assert slow.failures == []
    slow.go.set()
    assert slow.task is not None
    await slow.task
    assert [str(exc) for exc in slow.failures] == ["gone later"]
    assert first.failures == last.failures == []


async def test_a_member_that_fails_to_hear_of_its_failure_is_logged_and_the_others_get_it(caplog):
    class Deaf(FakeSender):
        def failed(self, exc: BaseException) -> None:
            raise ValueError("a bug")

    members = [FakeSender(), Deaf(error=OSError("gone")), FakeSender()]
    all_walks, channel = group(*members)
    assert all_walks.fan_out(channel, news()) is None
    assert [member.got for member in members] == [["news"], [], ["news"]]
    assert "failed to take a message" in caplog.text
    assert channel.jobs == []


async def test_a_send_that_raises_a_cancellation_cancels_no_publisher():
    members = [FakeSender(error=asyncio.CancelledError()), FakeSender()]
    all_walks, channel = group(*members)
    assert all_walks.fan_out(channel, news()) is None
    assert [member.got for member in members] == [[], ["news"]]
    assert len(members[0].failures) == 1


async def test_a_slow_member_keeps_no_other_alive():
    slow = FakeSender(slow=True)
    others = [FakeSender() for _ in range(100)]
    all_walks, channel = group(*others[:50], slow, *others[50:])
    assert all_walks.fan_out(channel, news()) is None
    alive = weakref.WeakSet(others)
    for other in others:
        channel.remove(other)
    del other, others
    gc.collect()
    assert not len(alive)
    assert slow.task is not None
    slow.go.set()
    await slow.task
    assert slow.got == ["news"]


async def test_a_slow_member_that_is_given_up_costs_the_others_nothing():
    slow, last = FakeSender(slow=True), FakeSender()
    all_walks, channel = group(slow, last)
    assert all_walks.fan_out(channel, news()) is None
    assert slow.task is not None
    slow.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow.task
    assert (slow.got, last.got) == ([], ["news"])


async def test_a_member_that_is_not_free_is_asked_to_take_it():
    busy, free = FakeSender(), FakeSender()
    busy.wire = 1
    all_walks, channel = group(busy, free)
    all_walks.fan_out(channel, news())
    assert busy.events == [({"type": "websocket.send", "text": "news"}, news().size)]
    assert free.events == []
    assert free.got == ["news"]


async def test_the_one_that_is_excluded_gets_nothing():
    members = [FakeSender(name) for name in "abc"]
    all_walks, channel = group(*members)
    all_walks.fan_out(channel, news(exclude="b"))
    assert [member.got for member in members] == [["news"], [], ["news"]]


@pytest.mark.parametrize("position", [2, 31, 32, 99])
async def test_who_leaves_in_the_middle_gets_nothing_more(position):
    members = [FakeMember() for _ in range(100)]
    all_walks, channel = group(*members)
    members[1]._then = lambda: channel.remove(members[position])
    all_walks.fan_out(channel, news())
    assert [not member.got for member in members].count(True) == 1
    assert members[position].got == []


async def test_who_leaves_between_two_turns_gets_nothing_more(monkeypatch):
    monkeypatch.setattr(walks, "TURN", 0.0)
    members = [FakeSender() for _ in range(100)]
    all_walks, channel = group(*members)
    done = all_walks.fan_out(channel, news())
    assert done is not None
    channel.remove(members[99])
    monkeypatch.setattr(walks, "TURN", 1.0)
    await done
    assert members[98].got == ["news"]
    assert members[99].got == []
    assert channel.jobs == []


async def test_all_are_kicked_though_one_fails_to_close(caplog):
    class Stubborn(FakeMember):
        def kick(self, code: int, reason: str) -> None:
            raise ValueError("no")

    members = [FakeMember(), Stubborn(), FakeMember()]
    all_walks, channel = group(*members)
    all_walks.fan_out(channel, decode(encode_close(4403, "out")))
    assert [member.got for member in members] == [[(4403, "out")], [], [(4403, "out")]]
    assert [record.getMessage() for record in caplog.records] == [
        "A member of a group failed to close."
    ]


async def test_messages_that_are_given_up_are_done():
    members = [FakeSender() for _ in range(3)]
    all_walks, channel = group(*members)
    all_walks._turn_ends = 0.0
    all_walks._turn = asyncio.get_running_loop().call_soon(lambda: None)
    done = all_walks.fan_out(channel, news())
    assert done is not None
    all_walks.close()
    assert done.done()
