"""The ledger of groups that remember, without a server: what it takes, and what it finds."""

from __future__ import annotations

import pytest

from tests.soak.ledger import Message, pack
from tests.soak.rooms import HISTORY
from tests.soak.stays import GRACE, HistoryLedger, Since, Stay
from tests.soak.store import Kill

ROOM = "kept-0"


@pytest.fixture
def ledger() -> HistoryLedger:
    return HistoryLedger()


def publish(ledger: HistoryLedger, count: int = 1, *, epoch: int = 1) -> list[Message]:
    """Messages that are acknowledged."""
    messages = []
    for _ in range(count):
        (message,) = ledger.begin(ROOM, 2)
        ledger.acknowledge([message], [f"{epoch}.{message.id}-0"])
        messages.append(message)
    return messages


def enter(
    ledger: HistoryLedger, since: Since | None = None, *, lost: bool = False, begins: str = "1.0-0"
) -> Stay:
    stay = ledger.stay(1, ROOM, since, newest=0)
    ledger.enter(stay, begins, None if since is None else not lost, lost)
    return stay


def receive(ledger: HistoryLedger, stay: Stay, *messages: Message) -> None:
    last: dict[int, int] = {}
    for message in messages:
        ledger.receive(stay, last, pack(ROOM, message.id, message.publisher, 10))


def kill(ledger: HistoryLedger, kind: str = "without its data") -> Kill:
    kill = Kill(kind, begun=ledger.now())
    kill.done = ledger.now()
    ledger.kills.append(kill)
    return kill


def since(message: Message) -> Since:
    assert message.position
    return Since(message.position, message.id)


def test_who_gets_all_behind_its_position_has_missed_nothing(ledger: HistoryLedger) -> None:
    first, *missed = publish(ledger, 4)
    stay = enter(ledger, since(first))
    receive(ledger, stay, *missed, *publish(ledger, 2))
    ledger.leave(stay)
    assert ledger.violations == []
    assert ledger.required == 5


def test_a_message_that_is_left_out_of_a_replay_is_found(ledger: HistoryLedger) -> None:
    first, second, third = publish(ledger, 3)
    stay = enter(ledger, since(first))
    receive(ledger, stay, third)
    ledger.leave(stay)
    assert f"no [[{second.id}]]" in ledger.violations[0]


def test_a_message_that_is_left_out_live_is_found(ledger: HistoryLedger) -> None:
    stay = enter(ledger)
    first, second, third = publish(ledger, 3)
    receive(ledger, stay, first, third)
    ledger.leave(stay)
    assert f"no [[{second.id}]]" in ledger.violations[0]


def test_a_message_that_comes_although_it_was_had_is_found(ledger: HistoryLedger) -> None:
    first, second = publish(ledger, 2)
    stay = enter(ledger, since(first))
    receive(ledger, stay, first, second)
    ledger.leave(stay)
    assert "after" in ledger.violations[0]


def test_what_excludes_a_socket_is_replayed_to_the_next_one_of_its_page(
    ledger: HistoryLedger,
) -> None:
    (first,) = publish(ledger)
    (own,) = ledger.begin(ROOM, 1, excluded=True)
    ledger.acknowledge([own], [f"1.{own.id}-0"])
    stay = enter(ledger, since(first))
    receive(ledger, stay, *publish(ledger))
    ledger.leave(stay)
    assert ledger.violations == []
    another = ledger.stay(3, ROOM, since(first), newest=0)
    ledger.enter(another, "1.0-0", recovered=True, lost=False)
    receive(ledger, another, *publish(ledger))
    ledger.leave(another)
    assert len(ledger.violations) == 1


def test_as_many_holes_as_gaps_were_told_are_no_harm(ledger: HistoryLedger) -> None:
    stay = enter(ledger)
    first, lost, third, also_lost, last = publish(ledger, 5)
    for one in (lost, also_lost):
        one.seen = True
    kill(ledger, "with an older state")
    ledger.tell(stay, 1)
    stay.ordered = True
    receive(ledger, stay, first, third, last)
    ledger.leave(stay)
    (violation,) = ledger.violations
    assert f"no [[{lost.id}], [{also_lost.id}]] and told of 1 gaps" in violation


def test_a_gap_for_no_reason_is_found(ledger: HistoryLedger) -> None:
    stay = enter(ledger)
    publish(ledger, 5)
    ledger.tell(stay, 1)
    assert "no reason" in ledger.violations[0]


def test_a_position_is_lost_only_with_a_reason(ledger: HistoryLedger) -> None:
    first, *_ = publish(ledger, 5)
    enter(ledger, since(first), lost=True)
    assert "is lost, with 4 behind it" in ledger.violations.pop()
    # Where it is too old, and where the broker has lost it.
    publish(ledger, HISTORY["kept"])
    enter(ledger, since(first), lost=True)
    (newest,) = publish(ledger)
    kill(ledger)
    enter(ledger, since(newest), lost=True)
    assert ledger.violations == []


def test_a_position_that_is_newer_than_a_kill_is_not_lost_by_it(ledger: HistoryLedger) -> None:
    kill(ledger)
    for _ in range(GRACE):
        ledger.now()
    (newest,) = publish(ledger, epoch=2)
    enter(ledger, since(newest), lost=True)
    assert "is lost" in ledger.violations[0]


def test_what_nobody_has_had_before_it_was_lost_can_not_be_told(ledger: HistoryLedger) -> None:
    first, _ = publish(ledger, 2)
    kill(ledger)
    stay = enter(ledger, since(first))
    receive(ledger, stay, *publish(ledger))
    ledger.leave(stay)
    assert ledger.violations == []


def test_nobody_stays_without_a_word_where_everything_was_lost(ledger: HistoryLedger) -> None:
    stay = enter(ledger)
    receive(ledger, stay, *publish(ledger))
    kill(ledger)
    receive(ledger, stay, *publish(ledger, epoch=2))
    ledger.leave(stay)
    assert "was not told" in ledger.violations[0]


def test_a_position_that_names_two_messages_is_found(ledger: HistoryLedger) -> None:
    for message in ledger.begin(ROOM, 2, count=2):
        ledger.acknowledge([message], ["1.7-0"])
    assert "1.7-0 is the one of" in ledger.violations[0]


def test_a_position_before_one_that_was_acknowledged_is_found(ledger: HistoryLedger) -> None:
    publish(ledger)
    (message,) = ledger.begin(ROOM, 2)
    ledger.acknowledge([message], ["1.0-1"])
    assert "acknowledged when it was begun" in ledger.violations[0]


def test_a_close_that_is_missed_is_found(ledger: HistoryLedger) -> None:
    stay = enter(ledger)
    (close,) = ledger.begin(ROOM, 2, closes=True)
    ledger.acknowledge([close])
    receive(ledger, stay, *publish(ledger))
    ledger.leave(stay)
    assert f"no close {close.id}" in ledger.violations[0]
