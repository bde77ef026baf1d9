"""``WEBSOCKET_GROUPS``: what a broker remembers of which groups, and whether it knows who is here.

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
from ..brokers.presence import Listed
from ..conf import conf

__all__ = ["USERS", "GroupOptions", "load_groups", "options_of"]

USERS = "<user>"
"""The pattern of the groups of users, which no other fits."""

MEMO_SIZE = 10_000

any_options = True
"""Whether to ask for the options of a group: ``False`` once it is known that none has any."""


class GroupOptions(NamedTuple):
    """What a broker has to do for the groups that a pattern fits."""

    pattern: str
    history: int
    """how many messages it keeps"""
    ttl: float
    """seconds after the last one"""
    presence: int
    """how many keys it lists of who is here; 0: it does not know"""
    linger: float
    """seconds for which somebody who left is still here"""

    @property
    def keep(self) -> Keep:
        """As a broker is told that keeps messages."""
        return Keep(self.history, self.ttl)

    @property
    def listed(self) -> Listed:
        """As a broker is told that knows who is here."""
        return Listed(self.presence, self.linger)


def options_of(name: str, broker: str, *, is_user: bool = False) -> GroupOptions | None:
    """Return the options of a group, ``None`` where no pattern fits it.

    One without history and presence has a name for the clients of ``django-ws-dispatch.v1``.

    Args:
        name: of the group, without its namespace.
        broker: the alias of its broker.
        is_user: it is a group of ``user_group()``.

    Raises:
        ImproperlyConfigured: ``WEBSOCKET_GROUPS`` is wrong.
    """
    global any_options
    if _patterns():
        return _find(name, broker, is_user)
    any_options = False
    return None


@lru_cache(maxsize=MEMO_SIZE)
def _find(name: str, broker: str, is_user: bool) -> GroupOptions | None:
    for pattern, options in _patterns().get(broker, ()):
        if is_user if pattern is None else not is_user and pattern.match(name):
            return options
    return None


@cache
def _patterns() -> dict[str, list[tuple[re.Pattern[str] | None, GroupOptions]]]:
    """Alias of a broker -> patterns in order, ``None`` for that of users."""
    found: dict[str, list[tuple[re.Pattern[str] | None, GroupOptions]]] = {}
    for pattern, options in conf.groups.items():
        compiled = None if pattern == USERS else re.compile(translate(pattern))
        values = {name: options[name] for name in GroupOptions._fields[1:]}
        found.setdefault(options["broker"], []).append((compiled, GroupOptions(pattern, **values)))
    return found


def load_groups() -> None:
    """Check ``WEBSOCKET_GROUPS``, and that its brokers can do what it asks for.

    Raises:
        ImproperlyConfigured: it is wrong, or one of its brokers can not be made.
    """
    for pattern, options in conf.groups.items():
        if not options["history"] and not options["presence"]:
            continue
        broker = get_broker(options["broker"])
        for name, can, lack in (
            ("history", broker.has_history, "keeps no messages"),
            ("presence", broker.has_presence, "does not know who is here"),
        ):
            if options[name] and not can:
                raise ImproperlyConfigured(
                    f"WEBSOCKET_GROUPS[{pattern!r}][{name!r}]: the broker {broker.alias!r}, a "
                    f"{type(broker).__qualname__}, {lack}. Remove {name!r}, or name with 'broker' "
                    "one that does, such as django_ws_dispatch.brokers.redis.RedisBroker."
                )


def _forget(*, setting: str, **kwargs: object) -> None:
    global any_options
    if setting in ("WEBSOCKET_GROUPS", "WEBSOCKET_BROKERS"):
        any_options = True
        _patterns.cache_clear()
        _find.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_ws_dispatch.groups.options")
