"""What a client has of the groups that remember: it leaves, and comes back with its positions."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.soak.rooms import KEPT, SHORT_SIZES
from tests.soak.stays import Since, Stay

if TYPE_CHECKING:
    from tests.soak.clients import Client

__all__ = ["Visits"]

LOST = "messages were lost"
"""the reason of a close with 1012 where a close may have been missed"""


class Visits:
    """The groups that remember, for one client.

    Args:
        client: whose.
        since: group -> the position that a socket before this one has had.
    """

    def __init__(self, client: Client, since: dict[str, Since]) -> None:
        self._client = client
        self._ledger = client.site.ledger
        self.since = since
        self._together: dict[str, tuple[str, ...]] = {}

    @property
    def here(self) -> list[str]:
        return sorted(self._together)

    def _stay(self, name: str) -> Stay:
        stay = self._client.groups[name]
        if not isinstance(stay, Stay):
            raise TypeError(f"{name} remembers nothing")
        return stay

    # What it does

    async def act(self) -> None:
        """Do something, as the seed wants it."""
        client = self._client
        action = client.random.randrange(100)
        if action < 20 or not self._together:
            if len(self._together) < 4:
                await self.join_some()
        elif action < 35:
            # Some of the time something is sent meanwhile.
            name = client.random.choice(self.here)
            names = self._together[name]
            await self.leave(name)
            await asyncio.sleep(client.random.choice([0, 0.01, 0.5]))
            await self.join(names)
        elif action < 45:
            await self.leave(client.random.choice(self.here))
        elif action < 97:
            await self.publish(client.random.choice([*self.here, client.random.choice(KEPT)]))
        elif client.random.random() < 0.1:
            await client.close_a_group(client.random.choice(KEPT))

    async def join_some(self) -> None:
        free = [name for name in KEPT if name not in self._client.groups]
        count = min(self._client.random.choice([1, 1, 1, 3]), len(free))
        if count:
            await self.join(tuple(self._client.random.sample(free, count)))

    async def come_back(self) -> None:
        """Join what it has positions of."""
        if names := tuple(name for name in self.since if name not in self._client.groups):
            await self.join(names)

    async def join(self, names: tuple[str, ...]) -> None:
        client = self._client
        since = {name: self.since.get(name) for name in names}
        newest = client.random.choice([0, 0, 0, 5])
        for name in names:
            client.groups[name] = self._ledger.stay(client.number, name, since[name], newest)
            # What came of it to this socket before may come once more.
            client.last.pop(name, None)
            self._together[name] = names
        positions = {name: one.position if one else None for name, one in since.items()}
        answer = json.loads(await client.ask("join_kept", since=positions, newest=newest))
        if answer is None:  # the broker is away
            client.site.counts["joins, refused"] += 1
            for name in names:
                self._ledger.refuse(self._stay(name))
                del client.groups[name], self._together[name]
            return
        lost, recovered = answer["lost"], answer["recovered"]
        if (recovered is None) != (not any(since.values())) or (recovered is False) != bool(lost):
            client.violated(f"was told {answer} of {since}")
        for name in names:
            position = answer["positions"][name]
            ok = None if since[name] is None else name not in lost
            self._ledger.enter(self._stay(name), position, ok, name in lost)

    async def leave(self, name: str) -> None:
        names = self._together[name]
        gaps = json.loads(await self._client.ask("leave_kept", names=names))
        for one in names:
            stay = self._stay(one)
            self._ledger.tell(stay, gaps[one])
            stay.ordered = True
            self._end(one)
            del self._client.groups[one]

    async def publish(self, name: str, *, is_fence: bool = False) -> int | None:
        """Publish; return the message's id once it is known to be kept."""
        client = self._client
        size = 0 if is_fence else client.random.choice(SHORT_SIZES)
        exclude = False if is_fence else None
        messages, answer = await client.start_publishing(name, 1, size, exclude=exclude)
        positions = json.loads(await client.wait_for(answer))
        if positions is None:
            client.site.counts["messages, refused"] += 1
            return None
        self._ledger.acknowledge(messages, positions)
        return messages[0].id

    async def fence(self) -> None:
        """Learn whether all is there that must be, as far as the broker is there."""
        client = self._client
        for name in self.here:
            if name not in self._together:
                continue
            kills = len(self._ledger.kills)
            number = await self.publish(name, is_fence=True)
            if number is not None:
                with suppress(KeyError):
                    await client.until(
                        lambda: (
                            client.closed
                            or number <= client.groups[name].reach  # noqa: B023
                            or len(self._ledger.kills) > kills  # noqa: B023
                        )
                    )

    # What it is told

    def tell(self, gaps: dict[str, int]) -> None:
        for name, count in gaps.items():
            if name in self._together:
                self._ledger.tell(self._stay(name), count)

    def may_be_closed(self, code: int, reason: str) -> bool:
        """Return whether this close tells of lost messages, and is meant to."""
        return (
            code == 1012
            and reason == LOST
            and any(self._ledger.may_be_told(self._stay(name)) for name in self._together)
        )

    def end(self, closed_by: tuple[str, int] | None) -> None:
        """The socket is gone; ``closed_by`` is the group, and the id, that has closed it."""
        for name in self.here:
            self._end(name, closed_by[1] if closed_by and closed_by[0] == name else None)
            del self._client.groups[name]

    def _end(self, name: str, closed_by: int | None = None) -> None:
        stay = self._stay(name)
        since = self._ledger.since(stay)
        if since is not None:
            self.since[name] = since
        else:
            self.since.pop(name, None)
        del self._together[name]
        self._ledger.leave(stay, closed_by)
