"""Who is next."""

from __future__ import annotations

from collections import Counter

from django_ws_dispatch.lanes.waiting import Answer, Rank, Waiting


class Queue(Waiting[str]):
    """One in which everybody answers what they were told to."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        super().__init__(lambda name: self.answers.get(name, Answer.YES))

    def take_all(self, most: int = 10_000) -> list[str]:
        taken = []
        while len(taken) < most and (one := self.take()) is not None:
            taken.append(one)
        return taken


def test_clients_take_turns_however_much_one_of_them_asks_for() -> None:
    queue = Queue()
    for number in range(100):
        queue.put(f"many-{number}", Rank.NEW, "many")
    queue.put("one", Rank.NEW, "single")
    queue.put("two", Rank.NEW, "single")
    taken = queue.take_all()
    assert len(taken) == 102
    assert set(taken[:4]) == {"many-0", "one", "many-1", "two"}
    assert not queue


def test_what_one_client_asks_for_keeps_its_order() -> None:
    queue = Queue()
    for number in range(10):
        queue.put(str(number), Rank.NEW, "client")
    assert queue.take_all() == list("0123456789")


def test_what_is_urgent_comes_first_and_nobody_waits_for_ever() -> None:
    queue = Queue()
    for number in range(400):
        queue.put(f"u{number}", Rank.URGENT, number)
        queue.put(f"g{number}", Rank.GOING_ON, number)
        queue.put(f"n{number}", Rank.NEW, number)
    counts = Counter(name[0] for name in queue.take_all(80))
    assert counts["u"] == 60
    assert counts["g"] == counts["n"] == 10


def test_who_is_told_to_wait_holds_up_no_other_client() -> None:
    queue = Queue(a=Answer.NOT_NOW)
    queue.put("a", Rank.NEW, "ann")
    queue.put("b", Rank.NEW, "bob")
    assert queue.take_all() == ["b"]
    assert queue
    queue.answers.clear()
    assert queue.take_all() == ["a"]


def test_who_has_left_comes_last() -> None:
    queue = Queue(a=Answer.LEFT)
    queue.put("a", Rank.NEW, "ann")
    queue.put("b", Rank.NEW, "bob")
    queue.put("c", Rank.NEW, "ann")
    assert queue.take_all() == ["c", "b", "a"] or queue.take_all() == []
    assert not queue


def test_who_does_not_wait_any_more_is_forgotten() -> None:
    queue = Queue(a=Answer.GONE)
    queue.put("a", Rank.NEW, "ann")
    queue.put("b", Rank.NEW, "ann")
    assert queue.take_all() == ["b"]
    assert not queue


def test_one_rank_alone_may_be_asked_for() -> None:
    queue = Queue()
    queue.put("n", Rank.NEW, "ann")
    assert not queue.has(Rank.URGENT)
    assert queue.take(Rank.URGENT) is None
    queue.put("u", Rank.URGENT, "bob")
    assert queue.has(Rank.URGENT)
    assert queue.take(Rank.URGENT) == "u"
