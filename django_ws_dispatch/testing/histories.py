"""What every broker that has a history must do; ``BrokerConformance`` has these tests.

Of a broker without a history they are over at once.
"""

from __future__ import annotations

import os

from ..brokers.base import BaseBroker
from ..brokers.history import FORGOTTEN, Keep, order_of

__all__ = ["HistoryConformance", "expect"]

KEEP = Keep(5, 60.0)


def expect(actual: object, expected: object) -> None:
    """Raise ``AssertionError`` unless they are equal."""
    if actual != expected:
        raise AssertionError(f"expected {expected!r:.500}, got {actual!r:.500}")


def _keep(broker: BaseBroker, channel: str, message: bytes) -> str:
    position = broker.keep(channel, message, KEEP)
    expect(position is None, False)
    return position or ""


class HistoryConformance:
    """The tests of the methods from ``keep()`` to ``aforget()``; they have no receiver."""

    def make_broker(self) -> BaseBroker:
        """Return a new object of the broker under test, always for the same place."""
        raise NotImplementedError("Override make_broker() to return the broker under test.")

    def _with_history(self) -> tuple[BaseBroker, str] | None:
        """Return the broker and a channel of which nothing is known."""
        broker = self.make_broker()
        return (broker, f"history {os.urandom(8).hex()}") if broker.has_history else None

    def test_what_is_kept_is_read_behind_a_position(self) -> None:
        if (made := self._with_history()) is None:
            return
        broker, channel = made
        start = broker.top(channel, KEEP).position
        kept = [_keep(broker, channel, b"%d" % number) for number in range(4)]
        expect(sorted(kept, key=order_of), kept)  # type: ignore[arg-type]
        page = broker.read(channel, start, KEEP, 3)
        expect([entry.message for entry in page.entries], [b"0", b"1", b"2"])
        expect([entry.previous for entry in page.entries], [start, *kept[:2]])
        expect((page.known, page.top), (True, broker.top(channel, KEEP)))
        page = broker.read(channel, kept[2], KEEP, 3)
        expect([entry.position for entry in page.entries], [kept[3]])
        expect(broker.read(channel, kept[3], KEEP, 3)[::2], ([], True))
        broker.close()

    def test_exactly_so_many_messages_are_kept_and_orders_do_not_count(self) -> None:
        if (made := self._with_history()) is None:
            return
        broker, channel = made
        kept = [_keep(broker, channel, b"%d" % number) for number in range(8)]
        for _ in range(3):
            broker.keep(channel, b"c order", KEEP, order=True)
        page = broker.newest(channel, KEEP, 20)
        expect([one.message for one in page.entries[:5]], [b"3", b"4", b"5", b"6", b"7"])
        expect((len(page.entries), page.top.orders), (8, 3))
        expect(broker.read(channel, kept[1], KEEP, 20).known, False)
        expect(broker.read(channel, kept[2], KEEP, 20).known, True)
        page = broker.newest(channel, KEEP, 2, before=kept[5])
        expect([one.position for one in page.entries], kept[3:5])
        for number in range(10, 15):
            broker.keep(channel, b"%d" % number, KEEP)
        left = [one.message for one in broker.newest(channel, KEEP, 20).entries]
        expect(left, [b"c order"] * 3 + [b"%d" % number for number in range(10, 15)])
        broker.close()

    def test_what_a_client_may_bring_is_not_known(self) -> None:
        if (made := self._with_history()) is None:
            return
        broker, channel = made
        broker.keep(channel, b"x", KEEP)
        huge = f"1.{'9' * 20}-0"
        for one in ("", "x", "1.2-3", huge, "\ud800", "1.0-0", "0.0-0"):
            expect(broker.read(channel, one, KEEP, 5)[::2], ([], False))
            expect(broker.newest(channel, KEEP, 5, before=one).entries, [])
        broker.close()

    def test_what_is_forgotten_is_known_to_who_has_heard_it(self) -> None:
        if (made := self._with_history()) is None:
            return
        broker, channel = made
        first, last = _keep(broker, channel, b"1"), _keep(broker, channel, b"2")
        broker.forget(channel, KEEP)
        expect(broker.read(channel, last, KEEP, 5).known, False)
        page = broker.read(channel, last, KEEP, 5, heard=True)
        expect([one.message for one in page.entries], [FORGOTTEN])
        expect((page.known, page.top.orders), (True, 1))
        expect(broker.read(channel, first, KEEP, 5, heard=True).known, False)
        expect(broker.read(channel, page.top.position, KEEP, 5).known, True)
        expect(broker.top(channel, KEEP), page.top)
        broker.close()
