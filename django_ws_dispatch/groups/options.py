"""``WEBSOCKET_GROUPS``: what a broker remembers of which groups.

Names are those that code gives to ``Group()``, without a namespace.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import cache, lru_cache
from typing import NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from ..brokers import get_broker
from ..brokers.history import Keep
from ..conf import conf

__all__ = ["USERS", "GroupOptions", "load_groups", "options_of"]

USERS = "<user>"
"""The pattern of the groups of users, which no other fits."""

MEMO_SIZE = 10_000

any_kept = True
"""Whether to ask for the options of a group: ``False`` once it is known that none has any."""


class GroupOptions(NamedTuple):
    """What is kept of the groups that a pattern fits."""

    pattern: str
    history: int
    """how many messages"""
    ttl: float
    """seconds after the last one"""

    @property
    def keep(self) -> Keep:
        """As a broker is told."""
        return Keep(self.history, self.ttl)


def options_of(name: str, broker: str, *, is_user: bool = False) -> GroupOptions | None:
    """Return the options of a group, ``None`` where nothing is kept of it.

    Args:
        name: of the group, without its namespace.
        broker: the alias of its broker.
        is_user: it is a group of ``user_group()``.

    Raises:
        ImproperlyConfigured: ``WEBSOCKET_GROUPS`` is wrong.
    """
    global any_kept
    if _patterns():
        return _find(name, broker, is_user)
    any_kept = False
    return None


@lru_cache(maxsize=MEMO_SIZE)
def _find(name: str, broker: str, is_user: bool) -> GroupOptions | None:
    for pattern, options in _patterns().get(broker, ()):
        if is_user if pattern is None else not is_user and pattern.match(name):
            return options if options.history else None
    return None


@cache
def _patterns() -> dict[str, list[tuple[re.Pattern[str] | None, GroupOptions]]]:
    """Alias of a broker -> patterns in order, ``None`` for that of users."""
    found: dict[str, list[tuple[re.Pattern[str] | None, GroupOptions]]] = {}
    for pattern, options in conf.groups.items():
        compiled = None if pattern == USERS else re.compile(translate(pattern))
        one = GroupOptions(pattern, options["history"], options["ttl"])
        found.setdefault(options["broker"], []).append((compiled, one))
    return found


def load_groups() -> None:
    """Check ``WEBSOCKET_GROUPS``, and that its brokers remember messages.

    Raises:
        ImproperlyConfigured: it is wrong, or one of its brokers can not be made.
    """
    for pattern, options in conf.groups.items():
        if not options["history"]:
            continue
        broker = get_broker(options["broker"])
        if not broker.has_history:
            raise ImproperlyConfigured(
                f"WEBSOCKET_GROUPS[{pattern!r}]['history']: the broker {broker.alias!r}, a "
                f"{type(broker).__qualname__}, keeps no messages. Remove 'history', or name with "
                "'broker' one that does, such as django_ws_dispatch.brokers.redis.RedisBroker."
            )


def _forget(*, setting: str, **kwargs: object) -> None:
    global any_kept
    if setting in ("WEBSOCKET_GROUPS", "WEBSOCKET_BROKERS"):
        any_kept = True
        _patterns.cache_clear()
        _find.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_ws_dispatch.groups.options")
