"""Who was in a group at some moment, as code sees it and as clients are told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from ..brokers.presence import Here

__all__ = ["Present", "View", "presents"]


@dataclass(frozen=True, slots=True)
class Present:
    """Somebody who is in a group.

    Attributes:
        key: who it is, as ``join(key=)`` has said: the primary key of a user, by default.
        info: what ``join(info=)`` or ``Membership.update()`` told of it last.
        sockets: how many of its sockets are members; 0 while it lingers.
        here_since: when the first one came, by the broker's clock.
    """

    key: str
    info: Any
    sockets: int
    here_since: datetime


def presents(here: Iterable[Here]) -> list[Present]:
    """Return those who are here, as code sees them."""
    return [
        Present(key, json.loads(info), sockets, datetime.fromtimestamp(since / 1_000_000, UTC))
        for key, sockets, since, info in here
    ]


class View:
    """Who was here at some moment. Nothing changes it.

    Args:
        here: by key; ``None`` where there were more than are listed.
        count: how many.
    """

    def __init__(self, here: Mapping[str, Here] | None, count: int) -> None:
        self.here = here
        self.count = count

    def shows(self, other: View) -> bool:
        """Return whether somebody who was told of the other one would learn nothing new."""
        if self.count != other.count or self.here is None or other.here is None:
            return self.count == other.count and self.here is other.here
        return self.here.keys() == other.here.keys() and not other.joined(self.here)

    def joined(self, before: Mapping[str, Here]) -> list[Here]:
        """Return who came, came again, or has other info."""
        return [
            one
            for key, one in (self.here or {}).items()
            if (had := before.get(key)) is None or (had.since, had.info) != (one.since, one.info)
        ]

    def left(self, before: Mapping[str, Here]) -> list[Here]:
        """Return who left; who came again in between has left in between."""
        here = self.here or {}
        return [
            one
            for key, one in before.items()
            if (now := here.get(key)) is None or now.since != one.since
        ]

    @cached_property
    def _longest_first(self) -> list[Here]:
        return sorted((self.here or {}).values(), key=lambda one: one.since)

    @cached_property
    def present(self) -> list[Present] | None:
        """All of them, made once for all who look."""
        return None if self.here is None else presents(self._longest_first)

    # As clients are told

    @cached_property
    def payload(self) -> str:
        """All of them, as JSON."""
        if self.here is None:
            return f'{{"count":{self.count}}}'
        return f'{{"count":{self.count},"present":{_listed(self._longest_first)}}}'

    def payload_after(self, before: View) -> str:
        """What has changed since then, as JSON."""
        if self.here is None or before.here is None:
            return self.payload
        left, joined = self.left(before.here), self.joined(before.here)
        return f'{{"count":{self.count},"left":{_listed(left)},"joined":{_listed(joined)}}}'


def _listed(here: Iterable[Here]) -> str:
    listed = ",".join(  # the info is JSON already
        f'{{"key":{json.dumps(key)},"info":{info},"sockets":{sockets},"since":{since / 1_000_000}}}'
        for key, sockets, since, info in here
    )
    return f"[{listed}]"
