"""What a process knows of who is in a group: the broker's list, and every change since then."""

from __future__ import annotations

from collections.abc import Mapping

from ..brokers.presence import Changes, Here, Roll, version_of
from .view import View

__all__ = ["Mirror"]

# Changes that are kept while a list is on its way.
MOST_EARLY = 1000


class Mirror:
    """Who is here.

    Args:
        most: how many keys are listed.

    Attributes:
        wants_list: the changes have a hole, or nothing is known yet: ask the broker for a list.
        has_lost: the broker has forgotten who is here, and has begun anew.
    """

    def __init__(self, most: int) -> None:
        self.wants_list = True
        self.has_lost = False
        self._most = most
        self._version: str | None = None
        self._count = 0
        self._here: dict[str, Here] | None = None  # None above the limit
        self._ghosts: dict[str, Here] = {}
        # Of those who were held and came back: since when by the broker, and since when in truth.
        self._since: dict[str, tuple[int, int]] = {}
        self._asked = False
        self._early: list[Changes] = []
        self._view: View | None = None  # made once for all who look

    @property
    def is_filled(self) -> bool:
        """Whether it has had a list."""
        return self._version is not None

    def ask(self) -> None:
        """A list is on its way: what changes meanwhile waits for it."""
        self._asked, self.wants_list = True, False
        self._early.clear()

    def fill(self, roll: Roll, *, hold: bool = False) -> None:
        """Take a list.

        Args:
            roll: the answer to what was asked for.
            hold: who is not on it has not left, as far as is known: they stay until ``let_go()``.
        """
        if self._version is not None:
            self.has_lost = version_of(self._version)[0] != version_of(roll.version)[0]
            hold = hold or self.has_lost
        before, self._view = self._shown() or {}, None
        self._version, self._count = roll.version, roll.total
        self._here = {} if roll.total <= self._most else None
        self._ghosts = dict(before) if hold and self._here is not None else {}
        known, self._since = self._since, {}
        for one in roll.here:
            if one.key in known:
                self._since[one.key] = known[one.key]
            self._return(one)
        self._asked = False
        early, self._early = self._early, []
        for changes in early:
            self.apply(changes)

    def apply(self, changes: Changes, *, early: bool = False) -> None:
        """Take what has changed. It may come twice, late, or with a hole before it.

        Args:
            changes: from one version to the next.
            early: they come with the channel as well, behind what they have overtaken.
        """
        if self._asked or self._version is None:
            if len(self._early) >= MOST_EARLY:
                self._early.clear()  # that is a hole
            self._early.append(changes)
        elif changes.previous == self._version:
            self._version, self._view = changes.version, None
            if self._here is None and changes.here is not None:
                self.wants_list = True  # they are few enough again: how many comes with that
            else:
                self._count = changes.total
                self._take(changes)
        elif not early and version_of(changes.version) > version_of(self._version):
            self.wants_list = True

    def lacks(self, changes: Changes) -> bool:
        """Return whether they have overtaken others, which are still to come with the channel."""
        return (
            self._version is not None
            and not self._asked
            and not self.wants_list
            and version_of(changes.version) > version_of(self._version)
        )

    def _take(self, changes: Changes) -> None:
        if changes.here is None:
            self._here = None
            self._ghosts, self._since = {}, {}
            return
        if self._here is None:
            return
        for key in changes.left:
            self._here.pop(key, None)
            self._ghosts.pop(key, None)
            self._since.pop(key, None)
        for one in changes.here:
            self._return(one)

    def _return(self, one: Here) -> None:
        """Take one who is here, and had not left meanwhile if it was held."""
        if self._here is not None:
            ghost = self._ghosts.pop(one.key, one)
            if ghost.since < one.since:
                self._since[one.key] = (one.since, ghost.since)
            told, since = self._since.get(one.key, (one.since, one.since))
            if told != one.since:
                del self._since[one.key]  # it has left since, and has come again
                since = one.since
            self._here[one.key] = one._replace(since=since)

    def begin_anew(self) -> None:
        """Nothing is heard any more: what is known is not what is here."""
        self._version, self.wants_list = None, True

    def let_go(self) -> bool:
        """Whoever has not come back by now has left. Return whether that is anybody."""
        ghosts, self._ghosts, self._view = self._ghosts, {}, None
        return bool(ghosts)

    def _shown(self) -> Mapping[str, Here] | None:
        if self._here is None or not self._ghosts:
            return self._here
        return {**self._ghosts, **self._here}

    def view(self) -> View:
        """Return what is to be told: nothing changes it any more."""
        if self._view is None:
            shown = self._shown()
            if shown is None:
                self._view = View(None, self._count)
            else:
                self._view = View(dict(shown), len(shown))
        return self._view
