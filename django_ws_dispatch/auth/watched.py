"""By what a logout, or a change of a user, finds a socket."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

__all__ = ["NOBODY", "Socket", "Watched", "key_of"]


class Watched(NamedTuple):
    """Who a socket belongs to.

    Attributes:
        key: of its session. It stays in this process.
        sessions: the tokens of the key.
        user: the primary key of its user.
        in_session: that of the user whom the session names, which a middleware may overrule.
        key_since: when the session was given this key, on the clock of ``monotonic()``.
    """

    key: str | None = None
    sessions: tuple[str, ...] = ()
    user: str | None = None
    in_session: str | None = None
    key_since: float = float("-inf")

    def settled(self, key: str | None) -> Watched:
        """Return the same for a key under which somebody was found to be in."""
        return self._replace(key_since=float("-inf")) if self.key == key else self

    def __repr__(self) -> str:
        return f"<Watched user={self.user!r}>"  # a traceback may show it, and the key is a secret

    @property
    def users(self) -> set[str]:
        return {pk for pk in (self.user, self.in_session) if pk is not None}


NOBODY = Watched()


class Socket(Protocol):
    """What is watched."""

    watch: Any
    """``None`` once it is over"""
    watched: Watched | None
    namespace: str | None
    """``None`` as long as it is not known: then it may be any"""

    @property
    def is_over(self) -> bool: ...
    @property
    def path(self) -> str: ...
    @property
    def request(self) -> Any: ...
    @property
    def session(self) -> Any: ...
    def kick(self, code: int, reason: str = "", /) -> None: ...


def key_of(user: Any) -> str | None:
    """Return the primary key of a user as text, ``None`` where there is none."""
    pk = getattr(user, "pk", None)
    return None if pk is None else str(pk)
