"""What a client has in groups that know who is here: it is on the list while it is there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.soak.rooms import BACK, HERE

if TYPE_CHECKING:
    from tests.soak.clients import Client

__all__ = ["Seats"]


class Seats:
    """The groups that know who is here, for one client.

    Args:
        client: whose.
        page: the key of its page, whose sockets come one after the other; a few share another key.
    """

    def __init__(self, client: Client, page: str) -> None:
        self._client = client
        self._page = page
        self._rolls = client.site.rolls
        self._keys: dict[str, str] = {}
        self._infos: dict[str, Any] = {}
        # By group, as those who watch it are told.
        self._told: dict[str, dict[str, str]] = {}
        self._seen: set[str] = set()
        """the groups on whose list it has been told to be"""

    async def act(self) -> None:
        """Do something, as the seed wants it."""
        client, choose = self._client, self._client.random.choice
        action = client.random.randrange(100)
        free = [name for name in (*HERE, *BACK) if name not in self._keys]
        if (action < 40 or not self._keys) and free:
            await self.join(choose(free))
        elif not self._keys:
            return
        elif action < 55:
            await self.leave(choose(sorted(self._keys)))
        elif action < 75:
            name = choose(sorted(self._keys))
            self._infos[name] = {"client": client.number, "n": client.random.random()}
            await client.ask("update_here", group=name, info=self._infos[name])
        elif (name := choose(sorted(self._keys))) in HERE:
            await self.check(name)

    async def join(self, name: str) -> None:
        client = self._client
        shared = client.random.random() < 0.2
        key = f"user-{client.number % 5}" if shared else self._page
        info = {"client": client.number}
        self._rolls.ask(name, key)
        watches = client.random.random() < 0.5
        answer = await client.ask("join_here", group=name, key=key, info=info, watches=watches)
        if answer == "refused" and name in BACK:
            client.site.counts["joins, refused"] += 1
            return
        self._keys[name], self._infos[name] = key, info

    async def leave(self, name: str) -> None:
        # From here on it may be told to have left, to itself, too.
        del self._keys[name], self._infos[name]
        self._seen.discard(name)
        await self._client.ask("leave_here", group=name)
        self._told.pop(name, None)

    async def check(self, name: str) -> None:
        """Look whether it is on the list, and on what the broker has told."""
        client, key, info = self._client, self._keys[name], self._infos[name]
        answer = json.loads(await client.ask("who", group=name))
        await self._rolls.fence()
        told = self._rolls.here[name].get(key, 0)
        # It may have been closed meanwhile, and not know it yet.
        await client.ask("nothing")
        found = {one: (sockets, told) for one, sockets, told in answer["present"]}
        if len(found) != len(answer["present"]):
            client.violated(f"is told of somebody twice in {name}: {answer}")
        sockets, shown = found.get(key, (0, None))
        if sockets < 1 or told < 1:
            client.violated(f"is {key} in {name}, was told with {told} sockets, and got {answer}")
        elif key == self._page and shown != info:
            client.violated(f"is {key} in {name} with {info}, and others see {shown}")

    def tell(self, told: dict[str, Any]) -> None:
        """It was told of a change, as one who watches."""
        name, client = told["group"], self._client
        if told.get("forgotten"):
            self._told.pop(name, None)
            self._seen.discard(name)
            if name not in BACK or not client.site.ledger.kills:
                client.violated(f"was told that it is unknown who is in {name}, for no reason")
            return
        here = self._told.setdefault(name, {})
        for key in told["left"]:
            if here.pop(key, None) is None:
                client.violated(f"was told that {key} left {name}, and not that it came")
        here |= told["joined"]
        if here.keys() != set(told["present"]) or len(here) != told["count"]:
            client.violated(f"was told of {sorted(here)} in {name}, and in sum of {told}")
        # What its own coming has changed may be overtaken by the first list.
        key = self._keys.get(name)
        if key in here:
            self._seen.add(name)
        elif key is not None and name in self._seen:
            client.violated(f"is {key} in {name}, and was told {told}")

    def end(self) -> None:
        """The socket is gone."""
        self._keys.clear()
        self._told.clear()
