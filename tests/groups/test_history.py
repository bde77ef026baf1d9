"""Reading what a group remembers."""

from __future__ import annotations

import pytest

from django_ws_dispatch.brokers.history import Entry, Page, Top
from django_ws_dispatch.groups import Group, user_group
from django_ws_dispatch.groups.history import MOST_BYTES, MOST_ENTRIES, Pager, decode_entry
from django_ws_dispatch.groups.messages import FORGOT, TEXT

from ..kit.remembering import remembering

ROOM = Group("room:a")


class User:
    is_anonymous = False
    pk = 7


@pytest.fixture(autouse=True)
def _groups():
    with remembering({"room:*": {"history": 300}, "<user>": {"history": 1}}):
        yield


def data(history):
    return [stored.data for stored in history.messages]


def test_it_has_the_newest_oldest_first_whatever_their_number():
    for number in range(350):
        ROOM.send(str(number))
    history = ROOM.history()
    assert data(history) == [str(number) for number in range(50, 350)]
    assert history.complete
    assert history.position == ROOM.position() == history.messages[-1].position
    assert data(ROOM.history(limit=2)) == ["348", "349"]
    assert data(ROOM.history(limit=0)) == []
    assert ROOM.history(limit=0).complete


def test_orders_are_in_no_history_and_push_nothing_out():
    start = ROOM.position()
    for number in range(300):
        ROOM.send(str(number))
        ROOM.close()
    assert len(ROOM.history().messages) == 300
    assert len(ROOM.history(since=start).messages) == 300


def test_what_is_behind_a_position_is_complete_or_there_is_nothing():
    start = ROOM.position()
    positions = [ROOM.send(b"%d" % number) for number in range(300)]
    assert len(ROOM.history(since=start).messages) == 300
    history = ROOM.history(since=positions[-3])
    assert (data(history), history.complete) == ([b"298", b"299"], True)
    assert history.messages[0].sent_at.tzinfo is not None
    history = ROOM.history(since=positions[-1])
    assert (data(history), history.complete) == ([], True)
    ROOM.send("one more")
    history = ROOM.history(since=start)
    assert (data(history), history.complete) == ([], False)


def test_a_limit_that_cuts_something_is_not_complete():
    start = ROOM.position()
    for number in range(3):
        ROOM.send(str(number))
    assert data(ROOM.history(since=start, limit=2)) == ["1", "2"]
    assert not ROOM.history(since=start, limit=2).complete
    assert ROOM.history(since=start, limit=3).complete
    assert data(ROOM.history(since=start, limit=0)) == []


@pytest.mark.parametrize("since", ["", "x", "1.2-3", "9" * 16 + ".1-1", "\ud800", "٣.1-1"])
def test_a_position_that_nobody_gave_out_is_not_complete(since):
    ROOM.send("1")
    history = ROOM.history(since=since)
    assert (history.messages, history.complete) == ([], False)
    assert history.position == ROOM.position()


def test_what_was_forgotten_is_gone():
    position = ROOM.send("1")
    ROOM.forget()
    assert ROOM.history().messages == []
    assert not ROOM.history(since=position).complete
    after = ROOM.position()
    assert after != position
    ROOM.send("2")
    assert data(ROOM.history(since=after)) == ["2"]


@pytest.mark.parametrize(("since", "limit"), [(1, None), (b"x", None), (None, True), (None, "1")])
def test_arguments_of_other_types_are_refused(since, limit):
    with pytest.raises(TypeError):
        ROOM.history(since=since, limit=limit)


def test_a_limit_is_not_negative():
    with pytest.raises(ValueError, match="limit"):
        ROOM.history(limit=-1)


def test_a_group_without_history_says_what_to_write():
    group = Group("lobby")
    assert group.send("x") is None
    for call in (group.position, group.history, group.forget):
        with pytest.raises(ValueError, match=r'WEBSOCKET_GROUPS = \{"lobby"'):
            call()


def test_the_groups_of_users_have_a_pattern_of_their_own():
    group = user_group(User())
    group.send("1")
    group.send("2")
    assert data(group.history()) == ["2"]


@pytest.mark.asyncio
async def test_async_code_reads_the_same():
    position = await ROOM.asend("1")
    await ROOM.asend_json({"a": 2})
    assert data(await ROOM.ahistory(since=position)) == ['{"a": 2}']
    assert await ROOM.aposition() == (await ROOM.ahistory()).position
    await ROOM.aforget()
    assert data(await ROOM.ahistory()) == []


def page(*sizes):
    entries = [Entry("1.1-1", "1.1-0", bytes(size)) for size in sizes]
    return Page(entries, Top("1.1-1", 0), known=True)


def test_as_much_is_read_at_once_as_a_page_may_have():
    pager = Pager()
    assert pager.is_over(page(*[10] * (pager.count - 1)))
    assert not pager.is_over(page(*[10] * pager.count)) or pager.count == MOST_ENTRIES
    pager.is_over(page(MOST_BYTES, MOST_BYTES))
    assert pager.count == 1


def test_an_entry_that_is_not_ours_has_a_place_and_no_more():
    assert decode_entry(Entry("1.1-1", "1.1-0", b"?")).kind == FORGOT
    message = decode_entry(Entry("1.1-1", "1.1-0", b"t\0x"))
    assert (message.kind, message.position, message.previous) == (TEXT, "1.1-1", "1.1-0")
