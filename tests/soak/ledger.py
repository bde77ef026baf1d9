"""What was published, who was a member when, and what must follow: the invariants.

All times are numbers of one counter of the program. A message's id is the number at which its
publisher began; ``acknowledged`` the one at which it was known to be published. So, whatever the
network, the broker and the servers do in between:

- who gets message F, begun at F, had got every message of the group that was acknowledged before F
  and begun after the member's join was acknowledged;
- who gets message F gets no message any more that was acknowledged before F;
- of one publisher, ids come in ascending order, and so none twice;
- nothing comes of a group before the join was asked for, or once the leaving was acknowledged;
- a ``Group.close()`` is a message, too, which comes as a close code.
"""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_right
from collections import defaultdict
from functools import lru_cache

__all__ = ["Ledger", "Membership", "Message", "pack"]


@lru_cache(maxsize=64)
def _filler(size: int) -> str:
    return ("0123456789abcdef" * (size // 16 + 1))[:size]


def pack(group: str, number: int, publisher: int, size: int) -> str:
    """Return a message as it travels: what it is, and so many characters behind."""
    return f"m {group} {number} {publisher} {size} {_filler(size)}"


class Message:
    __slots__ = (
        "acknowledged",
        "closes",
        "excluded",
        "group",
        "id",
        "position",
        "publisher",
        "seen",
    )

    def __init__(
        self, number: int, group: str, publisher: int, excluded: bool, closes: bool
    ) -> None:
        self.id = number
        self.group = group
        self.publisher = publisher
        self.excluded = excluded
        self.closes = closes
        self.acknowledged: int | None = None
        self.position: str | None = None
        self.seen = False


class Membership:
    """One client in one group, from its wish to join until it has left or is gone."""

    __slots__ = ("asked", "client", "group", "joined", "reach", "received")

    def __init__(self, client: int, group: str, asked: int) -> None:
        self.client = client
        self.group = group
        self.asked = asked
        self.joined: int | None = None
        self.received: set[int] = set()
        self.reach = 0


class Ledger:
    """Every message, by group, and what went wrong."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.published = self.received = self.required = 0
        self._groups: defaultdict[str, list[Message]] = defaultdict(list)
        self._messages: dict[int, Message] = {}
        self._members: dict[Membership, None] = {}
        self._lock = threading.Lock()
        self._count = itertools.count(1)

    def now(self) -> int:
        with self._lock:
            return next(self._count)

    def violated(self, what: str) -> None:
        self.violations.append(what)

    def begin(
        self,
        group: str,
        publisher: int,
        *,
        count: int = 1,
        excluded: bool = False,
        closes: bool = False,
    ) -> list[Message]:
        """Note messages that are about to be published. Any thread."""
        with self._lock:
            messages = [
                Message(next(self._count), group, publisher, excluded, closes) for _ in range(count)
            ]
            self._groups[group] += messages
            self._messages.update((message.id, message) for message in messages)
            self.published += count
        return messages

    def acknowledge(self, messages: list[Message]) -> None:
        """They are published. Any thread."""
        with self._lock:
            now = next(self._count)
        for message in messages:
            message.acknowledged = now

    def join(self, client: int, group: str) -> Membership:
        membership = Membership(client, group, self.now())
        self._members[membership] = None
        return membership

    def receive(self, membership: Membership, last: dict[int, int], text: str) -> None:
        """A member got a message; ``last`` has the last id of each publisher to its socket."""
        _, group, digits, publisher_digits, size, filler = text.split(" ", 5)
        number, publisher = int(digits), int(publisher_digits)
        who = f"client {membership.client} in {membership.group}"
        self.received += 1
        message = self._messages.get(number)
        if filler != _filler(int(size)) or group != membership.group:
            self.violated(f"{who}: message {number} of {group} is spoilt")
        if message is None:
            # Forgotten: acknowledged before anybody who is there now has asked to join.
            self.violated(f"{who}: message {number} was published before anybody joined")
            return
        if message.excluded and publisher == membership.client:
            self.violated(f"{who}: message {number} excludes it")
        if last.get(publisher, 0) >= number:
            self.violated(f"{who}: message {number} of {publisher} after {last[publisher]}")
        last[publisher] = number
        if message.acknowledged is not None and message.acknowledged < membership.reach:
            self.violated(f"{who}: message {number} after {membership.reach}, which began later")
        membership.received.add(number)
        membership.reach = max(membership.reach, number)

    def leave(self, membership: Membership, closed_by: int | None = None) -> None:
        """A membership is over; ``closed_by`` is the id of the ``Group.close()`` that ended it."""
        del self._members[membership]
        if membership.joined is None:
            return
        received, reach = membership.received, membership.reach
        if closed_by is not None:
            received.add(closed_by)
            reach = max(reach, closed_by)
        messages = self._groups[membership.group]
        start = bisect_right(messages, membership.joined, key=lambda message: message.id)
        for position in range(start, len(messages)):
            message = messages[position]
            if message.id >= reach:
                break
            if message.acknowledged is None or message.acknowledged >= reach:
                continue
            if message.excluded and message.publisher == membership.client:
                continue
            self.required += 1
            if message.id not in received:
                what = "close" if message.closes else "message"
                self.violated(
                    f"client {membership.client} in {membership.group}: no {what} {message.id} of "
                    f"{message.publisher}, published from {message.id} to {message.acknowledged}; "
                    f"it joined at {membership.joined} and got {reach}"
                )

    def forget(self) -> None:
        """Drop what can not matter to anybody any more: the program shall run for hours."""
        with self._lock:
            oldest = min((one.asked for one in self._members), default=next(self._count))
            # A message may still travel when it is acknowledged.
            oldest -= 100_000
            for messages in self._groups.values():
                end = bisect_right(messages, oldest, key=lambda message: message.id)
                for message in messages[:end]:
                    del self._messages[message.id]
                del messages[:end]
