"""Whose sockets of one event loop are in a group, and what the broker is to hear of them."""

from __future__ import annotations

import asyncio

import pytest

from django_ws_dispatch.brokers.presence import BATCH, Entry
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups.seats import News, Seat, Seats, fail, finish

pytestmark = pytest.mark.asyncio


class FakeGroup:
    def __init__(self):
        self.heard = []

    def update(self, seat, info):
        self.heard.append((seat, info))
        return "a future"

    def leave(self, seat, *, lingers):
        seat.group = None
        self.heard.append((seat, lingers))


def said(seats):
    """What a call would say now; it is told with that."""
    return [seats.entry(key, news) for key, news in seats.take_news().items()]


def entered(*infos, key="anna"):
    """Seats of one key, of which the broker has heard."""
    seats = Seats()
    found = [Seat(key, info) for info in infos]
    for seat in found:
        seats.enter(seat)
        seats.take_news()
    return seats, found


# A seat


async def test_a_seat_hands_on_to_its_group():
    group = FakeGroup()
    seat = Seat("anna", "1", group)
    assert seat.update("2") == "a future"
    seat.leave(lingers=True)
    assert group.heard == [(seat, "2"), (seat, True)]


async def test_a_seat_that_was_left_is_left_once_and_shows_nothing_any_more():
    group = FakeGroup()
    seat = Seat("anna", "1", group)
    seat.leave(lingers=False)
    seat.leave(lingers=True)
    assert group.heard == [(seat, False)]
    with pytest.raises(RuntimeError, match=r"block of this join\(\) is over"):
        seat.update("2")
    Seat("anna", "1").leave(lingers=True)


async def test_two_seats_of_one_key_are_not_the_same():
    assert Seat("anna", "1") != Seat("anna", "1")


# What is said of a key


async def test_a_key_is_said_with_its_sockets_and_the_info_of_the_newest():
    seats = Seats()
    assert len(seats) == 0
    seats.enter(Seat("anna", "1"))
    seats.enter(Seat("bob", "2"))
    seats.enter(Seat("anna", "3"))
    assert len(seats) == 2
    assert said(seats) == [Entry("anna", 2, "3"), Entry("bob", 1, "2")]
    assert said(seats) == []


async def test_it_is_said_as_it_is_when_the_call_is_made():
    seats, (seat,) = entered("1")
    seats.update(seat, "2")
    told = seats.take_news()
    seats.enter(Seat("anna", "3"))
    assert [seats.entry(key, news) for key, news in told.items()] == [Entry("anna", 2, "3")]


async def test_who_left_is_said_to_have_no_sockets_and_may_linger():
    for lingers in (True, False):
        seats, (seat,) = entered("1")
        seats.leave(seat, lingers=lingers)
        assert not seats
        assert said(seats) == [Entry("anna", 0, lingers=lingers)]


async def test_who_came_and_left_in_one_turn_is_said_to_have_none():
    seats = Seats()
    seats.enter(seat := Seat("anna", "1"))
    seats.leave(seat, lingers=True)
    assert said(seats) == [Entry("anna", 0, lingers=True)]


async def test_whether_a_key_lingers_is_what_the_last_of_it_says():
    seats, (first, second) = entered("1", "1")
    seats.leave(first, lingers=True)
    seats.leave(second, lingers=False)
    assert said(seats) == [Entry("anna", 0)]


async def test_who_came_back_in_one_turn_tells_its_info():
    seats, (seat,) = entered("1")
    seats.leave(seat, lingers=True)
    seats.enter(Seat("anna", "2"))
    assert said(seats) == [Entry("anna", 1, "2")]


async def test_an_update_makes_a_socket_the_newest():
    seats, (first, second) = entered("1", "2")
    seats.update(first, "3")
    assert said(seats) == [Entry("anna", 2, "3")]
    seats.leave(second, lingers=False)
    assert said(seats) == [Entry("anna", 1)]


async def test_where_the_newest_leaves_that_before_it_counts_and_takes_the_place_of_no_other():
    seats, (_, newest) = entered("1", "2")
    seats.leave(newest, lingers=False)
    assert said(seats) == [Entry("anna", 1, "1", "2")]


async def test_where_several_of_the_newest_leave_they_take_the_place_of_no_other():
    seats, (_, second, newest) = entered("1", "2", "3")
    seats.leave(newest, lingers=False)
    seats.leave(second, lingers=False)
    assert said(seats) == [Entry("anna", 1, "1", "3")]


async def test_where_the_newest_leaves_and_that_before_has_the_same_info_none_is_said():
    seats, (_, newest) = entered("1", "1")
    seats.leave(newest, lingers=False)
    assert said(seats) == [Entry("anna", 1)]


async def test_an_update_behind_a_leave_takes_the_place_of_any_info():
    seats, (first, newest) = entered("1", "2")
    seats.leave(newest, lingers=False)
    seats.update(first, "3")
    assert said(seats) == [Entry("anna", 1, "3")]


async def test_a_leave_behind_an_update_that_nobody_heard_takes_the_place_of_any_info():
    seats, (_, newest) = entered("1", "2")
    seats.update(newest, "3")
    seats.leave(newest, lingers=False)
    assert said(seats) == [Entry("anna", 1, "1")]


async def test_one_call_says_a_batch_and_the_rest_comes_next():
    seats = Seats()
    for number in range(BATCH + 5):
        seats.enter(Seat(str(number), "1"))
    assert [one.key for one in said(seats)] == [str(number) for number in range(BATCH)]
    assert [one.key for one in said(seats)] == [str(number) for number in range(BATCH, BATCH + 5)]


async def test_all_are_said_again_but_for_those_that_were_just_told():
    seats = Seats()
    for key in ("anna", "bob", "eve"):
        seats.enter(Seat(key, f'"{key}"'))
    said(seats)
    seats.say_again({"bob": News()})
    assert sorted(said(seats)) == [Entry("anna", 1, '"anna"'), Entry("eve", 1, '"eve"')]


# Who waits


async def test_who_waits_is_done_once_the_broker_has_it():
    seats = Seats()
    first, second = seats.enter(Seat("anna", "1")), seats.enter(Seat("anna", "2"))
    gone = seats.enter(Seat("anna", "3"))
    gone.cancel()
    (news,) = seats.take_news().values()
    assert not first.done()
    finish(news.waiting)
    assert first.done()
    assert second.done()
    assert first.result() is None


async def test_what_was_not_taken_is_told_to_who_waits_and_said_again():
    seats, (seat,) = entered("1")
    done = seats.update(seat, "2")
    told = seats.take_news()
    seats.take_back(told, BrokerError("away"))
    with pytest.raises(BrokerError, match="away"):
        await done
    assert said(seats) == [Entry("anna", 1, "2")]


async def test_a_leave_that_was_not_taken_is_said_again_as_it_was():
    seats, (seat,) = entered("1")
    seats.leave(seat, lingers=True)
    seats.take_back(seats.take_news(), BrokerError("away"))
    assert said(seats) == [Entry("anna", 0, lingers=True)]
    seats, (_, newest) = entered("1", "2")
    seats.leave(newest, lingers=False)
    seats.take_back(seats.take_news(), BrokerError("away"))
    assert said(seats) == [Entry("anna", 1, "1", "2")]


async def test_what_was_not_taken_goes_with_what_has_come_meanwhile():
    seats, (first, newest) = entered("1", "2")
    seats.leave(newest, lingers=False)
    told = seats.take_news()
    seats.leave(first, lingers=True)
    seats.enter(third := Seat("anna", "3"))
    seats.take_back(told, BrokerError("away"))
    assert said(seats) == [Entry("anna", 1, "3")]
    told = seats.take_news()
    seats.leave(third, lingers=True)
    seats.take_back({"anna": News(info=False, lingers=False)}, BrokerError("away"))
    assert said(seats) == [Entry("anna", 0, lingers=True)]


async def test_a_leave_that_was_not_taken_does_not_end_who_came_meanwhile():
    seats, (seat,) = entered("1")
    seats.leave(seat, lingers=False)
    told = seats.take_news()
    seats.enter(Seat("anna", "2"))
    seats.take_back(told, BrokerError("away"))
    assert said(seats) == [Entry("anna", 1, "2")]


async def test_who_waits_for_what_ends_is_cancelled():
    waiting = asyncio.get_running_loop().create_future()
    fail([waiting], asyncio.CancelledError())
    assert waiting.cancelled()
    fail([waiting], BrokerError("away"))
    assert waiting.cancelled()


async def test_an_exception_that_nobody_waits_for_is_no_complaint():
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    waiting = asyncio.get_running_loop().create_future()
    fail([waiting], BrokerError("away"))
    del waiting
    assert not complaints
