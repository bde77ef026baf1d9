"""The members of a group whose clients are told who is here.

Each has a view that it was told of last, and hears what has changed since then: once for all that
have the same one.
"""

from __future__ import annotations

from .fanout import Channel, FanOut, Member
from .messages import PRESENCE, Message, Place
from .view import View

__all__ = ["Crowd"]


class Crowd:
    """Members, by what they have been told.

    Args:
        fan_out: of the event loop.
        place: of the group.
    """

    def __init__(self, fan_out: FanOut, place: Place) -> None:
        self._fan_out = fan_out
        self._place = place
        self._told: dict[View, Channel] = {}

    def __bool__(self) -> bool:
        return bool(self._told)

    def add(self, member: Member, view: View) -> None:
        """Have one be told of what changes after a view."""
        self._told.setdefault(view, Channel()).members[member] = 1

    def remove(self, member: Member) -> None:
        """Tell one nothing more."""
        for view, channel in list(self._told.items()):
            if member in channel.members:
                channel.remove(member)
                if not channel.members:
                    del self._told[view]

    def tell(self, view: View) -> None:
        """Tell all what they do not know."""
        told, self._told = self._told, {}
        largest = max(told.values(), key=lambda channel: len(channel.members), default=None)
        if largest is None:
            return
        for before, channel in told.items():
            if not before.shows(view):
                event = {"type": "websocket.send", "text": view.payload_after(before)}
                message = Message(PRESENCE, event, 0, None, place=self._place)
                self._fan_out.deliver(channel, message)
        # They share what comes next. Who hears of a change that it knows, on a busy loop, learns
        # nothing wrong.
        for channel in told.values():
            if channel is not largest:
                largest.members.update(channel.members)
        self._told = {view: largest}
