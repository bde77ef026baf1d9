"""The invariants of groups that remember: everything between a position and the end, or a word.

A ``Stay`` is a membership of such a group. It begins at a position: the one that the client has
brought, where it was told that all of it came, else the one that it was told at its joining. So:

- what comes has ascending positions, all behind that one;
- of what was sent from there to the last message that came nothing is missing, but for as many
  holes as the client was told of gaps;
- it is told of lost messages only where the broker has lost some, or more were sent than it keeps;
- where the broker has lost everything nobody stays without a word;
- positions name one message each, and a message that was begun when another one was acknowledged
  has a later one.

What was acknowledged, and was then lost by the broker before any client had it, nobody can tell.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple

from django_ws_dispatch.brokers.history import order_of
from tests.soak.ledger import Ledger, Membership, Message
from tests.soak.rooms import remembers
from tests.soak.store import Kill

__all__ = ["HistoryLedger", "Since", "Stay"]

Order = tuple[int, int, int]

# Messages of a group that are known at a time: no broker keeps more, and nobody stays for longer.
MOST = 20_000
# Counts after a kill in which a process may still find out: leave to tell of a loss, no duty.
GRACE = 10_000


class Since(NamedTuple):
    """A position that a client has, and since when it may be known."""

    position: str
    noted: int


class Stay(Membership):
    """A membership of a group that remembers.

    Args:
        since: what the client brought.
        newest: how many messages it wants where it has nothing.
    """

    __slots__ = ("begins", "gaps", "newest", "order", "ordered", "recovered", "since")

    def __init__(
        self, client: int, group: str, asked: int, since: Since | None, newest: int
    ) -> None:
        super().__init__(client, group, asked)
        self.since = since
        self.newest = newest
        self.recovered: bool | None = None
        self.begins: str | None = None
        """where live messages begin; ``None`` until the join is answered"""
        self.order: list[Message] = []
        self.gaps = 0
        self.ordered = False
        """it left by a word, whose answer said of every gap"""


class HistoryLedger(Ledger):
    """A ledger that knows of positions and of brokers that are killed."""

    def __init__(self) -> None:
        super().__init__()
        self.kills: list[Kill] = []
        self.replayed = self.gaps = self.recovered = self.lost = 0
        self._kept: defaultdict[str, list[tuple[Order, int]]] = defaultdict(list)
        self._newest: defaultdict[str, list[tuple[int, Order]]] = defaultdict(list)

    # Publishing

    def acknowledge(self, messages: list[Message], positions: list[str] | None = None) -> None:
        super().acknowledge(messages)
        for message, position in zip(messages, positions or (), strict=False):
            self._place(message, position)

    def _place(self, message: Message, position: str) -> None:
        order = order_of(position)
        if order is None:
            self.violated(f"message {message.id} has the position {position!r}")
            return
        with self._lock:
            message.position = position
            kept, newest = self._kept[message.group], self._newest[message.group]
            where = bisect_left(kept, (order, 0))
            if where < len(kept) and kept[where][0] == order:
                self.violated(f"{position} is the one of {kept[where][1]} and {message.id}")
            insort(kept, (order, message.id))
            before = bisect_left(newest, (message.id,))
            if before and newest[before - 1][1] > order:
                self.violated(
                    f"message {message.id} of {message.group} has {position}, which is before "
                    f"{newest[before - 1][1]}, acknowledged when it was begun"
                )
            highest = max(order, newest[-1][1]) if newest else order
            # In order, whichever thread comes first.
            newest.append((max(message.acknowledged or 0, newest[-1][0] if newest else 0), highest))

    # Staying

    def stay(self, client: int, group: str, since: Since | None, newest: int) -> Stay:
        stay = Stay(client, group, self.now(), since, newest)
        self._members[stay] = None
        return stay

    def refuse(self, stay: Stay) -> None:
        """Its join has failed."""
        del self._members[stay]

    def enter(self, stay: Stay, position: str, recovered: bool | None, lost: bool) -> None:
        """Its join was answered."""
        stay.joined = self.now()
        stay.begins, stay.recovered = position, recovered
        who = f"client {stay.client} in {stay.group}"
        if stay.since is None:
            if lost:
                self.violated(f"{who}: lost what it did not ask for")
            return
        if recovered is None or lost == recovered:
            self.violated(f"{who}: asked for what it missed and was told {recovered}, {lost=}")
        if not lost:
            self.recovered += 1
            return
        self.lost += 1
        stay.recovered = False
        behind = self._count_behind(stay.group, stay.since)
        # One that was noted behind a kill is of what came behind it.
        may_lose = self._may_lose(stay.since.noted + GRACE, stay.joined)
        if behind <= remembers(stay.group) and not may_lose:
            self.violated(
                f"{who}: told at {stay.joined} that {stay.since} is lost, with {behind} behind it"
            )

    def _count_behind(self, group: str, since: Since) -> int:
        """Return how many messages there may be at most behind a position."""
        with self._lock:
            kept = self._kept[group]
            count = len(kept) - bisect_right(kept, (order_of(since.position) or (0, 0, 0), 1 << 62))
            recent = bisect_right(
                self._groups[group], since.noted - MOST, key=lambda message: message.id
            )
            unsure = sum(
                one.position is None and not one.closes for one in self._groups[group][recent:]
            )
        return count + unsure

    def _may_lose(self, start: int, end: int) -> bool:
        """Return whether one who was there in this time may be told that the broker lost some."""
        return any(
            kill.loses and kill.begun < end and (kill.done is None or start < kill.done + GRACE)
            for kill in self.kills
        )

    def may_be_told(self, stay: Stay) -> bool:
        """Return whether it may be told now that messages are lost: by a gap, or by 1012."""
        if self._may_lose(stay.asked, self.now()):
            return True
        # What is more than the broker keeps may be gone before a process reads it.
        messages = self._groups[stay.group]
        first = bisect_right(messages, stay.asked - GRACE, key=lambda message: message.id)
        return len(messages) - first > remembers(stay.group)

    def tell(self, stay: Stay, gaps: int) -> None:
        """It was told how many gaps it had so far."""
        if gaps > stay.gaps:
            self.gaps += gaps - stay.gaps
            stay.gaps = gaps
            if not self.may_be_told(stay):
                self.violated(f"client {stay.client} in {stay.group}: {gaps} gaps for no reason")

    def receive(self, membership: Membership, last: dict[int, int], text: str) -> None:
        super().receive(membership, last, text)
        if isinstance(membership, Stay):
            message = self._messages.get(int(text.split(" ", 3)[2]))
            if message is not None:
                message.seen = True
                membership.order.append(message)
                self.replayed += membership.begins is None

    def since(self, stay: Stay) -> Since | None:
        """Return the position of the last message that came, as far as positions are known."""
        for message in reversed(stay.order):
            if message.position is not None:
                return Since(message.position, message.id)
        if stay.begins is None or stay.joined is None:
            return stay.since
        if stay.since is not None and stay.recovered:
            return stay.since  # what has come is unknown yet: it comes again
        # Where a kill is not noticed yet, it may be one of before.
        return None if stay.newest else Since(stay.begins, stay.asked - GRACE)

    # Leaving

    def leave(self, membership: Membership, closed_by: int | None = None) -> None:
        if not isinstance(membership, Stay):
            super().leave(membership, closed_by)
            return
        del self._members[membership]
        stay, who = membership, f"client {membership.client} in {membership.group}"
        known = [order for one in stay.order if (order := order_of(one.position or ""))]
        start = self._start(stay, known)
        for before, order in pairwise([start, *known] if start else []):
            if order <= before:
                self.violated(f"{who}: {order} after {before}; {self._describe(stay)}")
        if start is not None:
            self._look_for_holes(stay, start, known[-1] if known else start, closed_by)
        self._look_for_closes(stay, closed_by)
        self._look_for_silence(stay)

    def _start(self, stay: Stay, known: list[Order]) -> Order | None:
        """Return the position behind which nothing may be missing; ``known`` is what follows."""
        if stay.since is not None and stay.recovered:
            return order_of(stay.since.position)
        begins = order_of(stay.begins) if stay.begins else None
        may_come_before = stay.newest or stay.since is not None or begins is None
        if may_come_before and known and (begins is None or known[0] <= begins):
            return known.pop(0)
        return begins

    def _look_for_holes(self, stay: Stay, start: Order, end: Order, closed_by: int | None) -> None:
        holes: list[list[int]] = []
        received, missing = {message.id for message in stay.order}, False
        with self._lock:
            kept = self._kept[stay.group]
            behind = kept[bisect_right(kept, (start, 1 << 62)) :]
            candidates = [(order, self._messages[number]) for order, number in behind]
        for order, message in candidates:
            late = order > end
            # What was acknowledged before the close was begun comes before it.
            if late and (closed_by is None or (message.acknowledged or closed_by) >= closed_by):
                continue
            if message.excluded and message.publisher == stay.client:
                continue
            self.required += 1
            if message.id in received:
                missing = False
            elif message.seen or not self._is_lost(message):
                if not missing:
                    holes.append([])
                holes[-1].append(message.id)
                missing = True
        told = stay.gaps
        if not stay.ordered and holes and self.may_be_told(stay):
            told += 1  # its socket may have ended before the word came
        if len(holes) > told:
            self.violated(
                f"client {stay.client} in {stay.group}: no {holes} and told of {stay.gaps} gaps; "
                f"{self._describe(stay)}"
            )

    def _describe(self, stay: Stay) -> str:
        ids = [one.id for one in stay.order]
        return (
            f"it brought {stay.since} and wants {stay.newest}, {stay.recovered=}, asked at "
            f"{stay.asked}, joined at {stay.joined} from {stay.begins}, got {len(ids)}, "
            f"{ids[:3]} to {ids[-3:]}; {self.kills}"
        )

    def _is_lost(self, message: Message) -> bool:
        """Return whether the broker may have lost a message that it has acknowledged."""
        return any(
            kill.loses
            and (message.acknowledged or kill.until + 1) > kill.until
            and (kill.done is None or message.id < kill.done)
            for kill in self.kills
        )

    def _look_for_closes(self, stay: Stay, closed_by: int | None) -> None:
        if stay.joined is None:
            return
        messages = self._groups[stay.group]
        first = bisect_right(messages, stay.joined, key=lambda message: message.id)
        reach = max(stay.reach, closed_by or 0)
        for message in messages[first:]:
            if message.id >= reach:
                break
            if (
                message.closes
                and message.acknowledged is not None
                and message.acknowledged < reach
                and message.id != closed_by
                and not (message.excluded and message.publisher == stay.client)
                and not self._is_lost(message)
            ):
                self.violated(
                    f"client {stay.client} in {stay.group}: no close {message.id}, got {reach}"
                )

    def _look_for_silence(self, stay: Stay) -> None:
        """Where everything was lost, nobody stays without a word."""
        for kill in self.kills:
            if (
                kill.kind == "without its data"
                and stay.joined is not None
                and stay.joined < kill.begun
                and kill.done is not None
                and stay.reach > kill.done
                and not stay.gaps
            ):
                self.violated(f"client {stay.client} in {stay.group} was not told of {kill}")

    def forget(self) -> None:
        super().forget()
        with self._lock:
            for group, kept in self._kept.items():
                messages = self._groups[group]
                for message in messages[:-MOST]:
                    del self._messages[message.id]
                del messages[:-MOST]
                kept[:] = [one for one in kept if one[1] in self._messages]
                del self._newest[group][:-MOST]
