"""What a process knows of who is in a group: a list, and every change since then."""

from __future__ import annotations

from django_ws_dispatch.brokers.presence import Changes, Here, Roll
from django_ws_dispatch.groups.mirror import MOST_EARLY, Mirror


def here(key, since=1, info="null", sockets=1):
    return Here(key, sockets, since, info)


def roll(number, *keys, epoch=1, total=None):
    return Roll(f"{epoch}.{number}", len(keys) if total is None else total, [*map(here, keys)])


def change(number, *joined, left=(), total=0, epoch=1):
    return Changes(
        f"{epoch}.{number - 1}", f"{epoch}.{number}", total, list(left), [*map(here, joined)]
    )


def above(number, total):
    return Changes(f"1.{number - 1}", f"1.{number}", total, [], None)


def filled(*keys, most=3, number=1):
    mirror = Mirror(most)
    mirror.ask()
    mirror.fill(roll(number, *keys))
    return mirror


def keys(mirror):
    shown = mirror.view().here
    return None if shown is None else sorted(shown)


def test_it_wants_a_list_first():
    mirror = Mirror(3)
    assert mirror.wants_list
    assert not mirror.is_filled
    mirror.ask()
    assert not mirror.wants_list
    assert not mirror.is_filled
    mirror.fill(roll(1, "anna", "bob"))
    assert mirror.is_filled
    assert not mirror.has_lost
    assert keys(mirror) == ["anna", "bob"]
    assert mirror.view().count == 2


def test_it_follows_what_changes():
    mirror = filled("anna", "bob")
    mirror.apply(change(2, "eve", left=["anna"]))
    mirror.apply(change(3, left=["bob", "nobody"]))
    mirror.apply(Changes("1.3", "1.4", 1, [], [here("eve", info='"x"', sockets=2)]))
    assert mirror.view().here == {"eve": here("eve", info='"x"', sockets=2)}
    assert mirror.view().count == 1
    assert not mirror.wants_list


def test_what_left_and_came_again_in_one_change_is_here():
    mirror = filled("anna")
    mirror.apply(Changes("1.1", "1.2", 1, ["anna"], [here("anna", since=2)]))
    assert mirror.view().here == {"anna": here("anna", since=2)}


def test_a_change_that_comes_twice_or_late_is_nothing():
    mirror = filled("anna")
    mirror.apply(change(2, "bob"))
    mirror.apply(change(2, "bob"))
    mirror.apply(change(1, left=["anna"]))
    assert keys(mirror) == ["anna", "bob"]
    assert not mirror.wants_list


def test_a_hole_before_a_change_wants_a_list():
    mirror = filled("anna")
    mirror.apply(change(3, "eve"))
    assert mirror.wants_list
    assert keys(mirror) == ["anna"]
    mirror.ask()
    mirror.fill(roll(3, "anna", "bob", "eve"))
    assert keys(mirror) == ["anna", "bob", "eve"]
    assert not mirror.wants_list


def test_a_change_of_a_later_beginning_wants_a_list():
    mirror = filled("anna", number=7)
    mirror.apply(change(1, "eve", epoch=2))
    assert mirror.wants_list


def test_a_view_does_not_change_any_more():
    mirror = filled("anna")
    view = mirror.view()
    mirror.apply(change(2, "bob"))
    assert list(view.here) == ["anna"]


# While a list is on its way


def test_what_changes_before_the_list_is_there_comes_behind_it():
    mirror = Mirror(5)
    mirror.apply(change(1, "anna"))
    mirror.ask()
    for one in (change(2, "bob"), change(3, "eve"), change(4, left=["anna"])):
        mirror.apply(one)
    mirror.fill(roll(2, "anna", "bob"))
    assert keys(mirror) == ["bob", "eve"]
    assert not mirror.wants_list
    mirror.apply(change(5, "tom"))
    assert keys(mirror) == ["bob", "eve", "tom"]


def test_while_it_asks_again_it_shows_what_it_had():
    mirror = filled("anna")
    mirror.ask()
    mirror.apply(change(2, "bob"))
    assert keys(mirror) == ["anna"]
    mirror.fill(roll(1, "anna"))
    assert keys(mirror) == ["anna", "bob"]


def test_of_too_many_changes_before_the_list_it_takes_another_list():
    mirror = Mirror(3)
    mirror.ask()
    for number in range(1, MOST_EARLY + 3):
        mirror.apply(change(number, "anna"))
    assert len(mirror._early) <= MOST_EARLY
    mirror.fill(roll(1, "anna"))
    assert mirror.wants_list


# Above the limit


def test_above_the_limit_it_counts_only():
    mirror = filled("a", "b", "c")
    mirror.apply(above(2, 4))
    assert keys(mirror) is None
    assert mirror.view().count == 4
    mirror.apply(above(3, 5))
    assert mirror.view().count == 5
    assert not mirror.wants_list


def test_a_list_that_is_above_the_limit_has_a_count_only():
    mirror = Mirror(3)
    mirror.ask()
    mirror.fill(roll(1, total=4))
    assert keys(mirror) is None
    assert mirror.view().count == 4


def test_back_under_the_limit_it_wants_a_list():
    mirror = filled("a", "b", "c")
    mirror.apply(above(2, 4))
    mirror.apply(change(3, left=["d"], total=3))
    assert mirror.wants_list
    # It is no count without a list: how many they are comes with that.
    assert keys(mirror) is None
    assert mirror.view().count == 4
    mirror.ask()
    mirror.fill(roll(3, "a", "b", "c"))
    assert keys(mirror) == ["a", "b", "c"]
    assert mirror.view().count == 3


# What was lost


def test_a_list_of_a_later_beginning_says_that_the_broker_has_forgotten():
    mirror = filled("anna", "bob", number=7)
    mirror.ask()
    mirror.fill(roll(1, "bob", epoch=2))
    assert mirror.has_lost
    # Who is missing may only not have come back yet.
    assert keys(mirror) == ["anna", "bob"]
    assert mirror.view().count == 2
    mirror.ask()
    mirror.fill(roll(2, "bob", epoch=2))
    assert not mirror.has_lost


def test_who_is_held_stays_until_it_is_let_go():
    mirror = filled("anna", "bob", "eve", most=5)
    mirror.ask()
    mirror.fill(roll(5, "bob"), hold=True)
    assert not mirror.has_lost
    assert keys(mirror) == ["anna", "bob", "eve"]
    mirror.apply(change(6, "tom"))
    assert keys(mirror) == ["anna", "bob", "eve", "tom"]
    assert mirror.view().count == 4
    assert mirror.let_go()
    assert keys(mirror) == ["bob", "tom"]
    assert not mirror.let_go()


def test_of_who_is_held_some_come_back_and_some_are_said_to_have_left():
    mirror = filled("anna", "bob", "eve")
    mirror.ask()
    mirror.fill(roll(5), hold=True)
    mirror.apply(Changes("1.5", "1.6", 1, ["bob"], [here("anna", since=9)]))
    assert keys(mirror) == ["anna", "eve"]
    assert mirror.view().here["anna"].since == 1  # had not left
    assert mirror.let_go()
    assert keys(mirror) == ["anna"]


def test_who_is_held_and_is_on_the_list_again_had_not_left():
    mirror = filled("anna", "bob", number=7)
    mirror.ask()
    mirror.fill(Roll("2.1", 2, [here("bob", since=9, info='"b"'), here("eve", since=9)]))
    assert mirror.has_lost
    assert mirror.view().here["bob"] == here("bob", since=1, info='"b"')
    assert mirror.view().here["eve"].since == 9
    assert mirror.let_go()
    assert keys(mirror) == ["bob", "eve"]


def test_since_when_somebody_is_here_who_was_held_is_known_as_long_as_it_is_here():
    mirror = filled("anna", "bob", number=7)
    mirror.ask()
    mirror.fill(Roll("2.1", 2, [here("anna", since=8), here("bob", since=9)]))
    mirror.apply(Changes("2.1", "2.2", 2, [], [here("bob", since=9, info="1")]))
    assert mirror.view().here["bob"] == here("bob", since=1, info="1")
    mirror.ask()
    mirror.fill(Roll("2.2", 2, [here("anna", since=8), here("bob", since=9)]))
    assert [one.since for one in mirror.view().here.values()] == [1, 1]
    mirror.apply(Changes("2.2", "2.3", 2, ["anna"], [here("anna", since=12)]))
    assert mirror.view().here["anna"].since == 12
    mirror.ask()
    mirror.fill(Roll("2.9", 1, [here("bob", since=15)]))
    assert mirror.view().here == {"bob": here("bob", since=15)}


def test_what_a_call_has_changed_may_overtake_what_comes_before_it():
    mirror = filled("anna")
    mirror.apply(change(3, "eve"), early=True)
    assert not mirror.wants_list
    assert keys(mirror) == ["anna"]
    for number, key in ((2, "bob"), (3, "eve")):
        mirror.apply(change(number, key))
    assert keys(mirror) == ["anna", "bob", "eve"]


def test_who_begins_anew_shows_what_it_had_until_there_is_a_list():
    mirror = filled("anna", number=7)
    mirror.begin_anew()
    assert mirror.wants_list
    assert not mirror.is_filled
    assert keys(mirror) == ["anna"]
    mirror.ask()
    mirror.fill(roll(1, "bob", epoch=2))
    assert not mirror.has_lost
    assert keys(mirror) == ["bob"]


def test_who_is_held_is_held_on_by_the_next_list():
    mirror = filled("anna", "bob")
    for number in (5, 6):
        mirror.ask()
        mirror.fill(roll(number, "bob"), hold=True)
    assert keys(mirror) == ["anna", "bob"]
    mirror.ask()
    mirror.fill(roll(7, "bob"))
    assert keys(mirror) == ["bob"]
    assert not mirror.let_go()


def test_nobody_is_held_above_the_limit():
    mirror = filled("anna", "bob")
    mirror.ask()
    mirror.fill(roll(5, total=4), hold=True)
    assert keys(mirror) is None
    assert not mirror.let_go()
    mirror = filled("anna", "bob")
    mirror.ask()
    mirror.fill(roll(5, "bob"), hold=True)
    mirror.apply(above(6, 4))
    assert not mirror.let_go()
    assert mirror.view().count == 4
