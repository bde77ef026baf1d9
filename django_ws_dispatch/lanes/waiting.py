"""Who is next: the calls that wait for a slot of the lanes."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from enum import Enum, IntEnum
from itertools import cycle
from typing import Generic, TypeVar

__all__ = ["Answer", "Rank", "Waiting"]

_L = TypeVar("_L")


class Rank(IntEnum):
    """How much it matters to others that somebody's turn comes."""

    URGENT = 0  # a handshake, or the verification of a user
    GOING_ON = 1  # a socket in the middle of a message: its thread waits
    NEW = 2
    LEFT = 3  # its client has left: when nobody else wants to


class Answer(Enum):
    """Whether it can be somebody's turn."""

    YES = "yes"
    NOT_NOW = "not now"  # nor anybody else's of the same client
    NOBODY = "nobody"  # nor anybody else's of the same rank
    LEFT = "left"  # only behind everybody else
    GONE = "gone"  # it does not wait any more


_USUAL = (Rank.URGENT, Rank.GOING_ON, Rank.NEW, Rank.LEFT)
# One turn in so many is that of whoever would otherwise wait for ever.
_ORDERS = (
    *[_USUAL] * 6,
    (Rank.NEW, Rank.GOING_ON, Rank.URGENT, Rank.LEFT),
    (Rank.GOING_ON, Rank.NEW, Rank.URGENT, Rank.LEFT),
)


class Waiting(Generic[_L]):
    """Queues by rank, and in each rank one for each client, which take turns."""

    def __init__(self, ask: Callable[[_L], Answer]) -> None:
        self._ask = ask
        self._orders = cycle(_ORDERS)
        self._ranks: dict[Rank, OrderedDict[Hashable, deque[_L]]] = {
            rank: OrderedDict() for rank in Rank
        }

    def __bool__(self) -> bool:
        return any(self._ranks.values())

    def has(self, rank: Rank) -> bool:
        return bool(self._ranks[rank])

    def put(self, waiter: _L, rank: Rank, client: Hashable) -> None:
        """Let somebody wait, behind others of the same client."""
        self._ranks[rank].setdefault(client, deque()).append(waiter)

    def take(self, only: Rank | None = None) -> _L | None:
        """Return whose turn it is (``only``: of this rank), ``None`` if it can be nobody's."""
        for rank in next(self._orders) if only is None else (only,):
            taken = self._of_rank(rank)
            if taken is not None:
                return taken
        return None

    def _of_rank(self, rank: Rank) -> _L | None:
        clients, emptied = self._ranks[rank], []
        taken: _L | None = None
        for client, queue in clients.items():
            answer = self._first(queue, rank, client)
            if answer in (Answer.YES, Answer.LEFT):
                taken = queue.popleft()
            if not queue:
                emptied.append(client)
            elif taken is not None:
                clients.move_to_end(client)
            if taken is not None or answer is Answer.NOBODY:
                break
        for client in emptied:
            del clients[client]
        return taken

    def _first(self, queue: deque[_L], rank: Rank, client: Hashable) -> Answer:
        while queue:
            answer = self._ask(queue[0])
            if answer is Answer.LEFT and rank is not Rank.LEFT:
                self.put(queue.popleft(), Rank.LEFT, client)
            elif answer is Answer.GONE:
                queue.popleft()
            else:
                return answer
        return Answer.GONE
