"""Who is here, for tests of those who are told."""

from __future__ import annotations

from django_ws_dispatch.brokers.presence import Here
from django_ws_dispatch.groups.view import View


def here(key, since=1, info="null", sockets=1):
    return Here(key, sockets, since, info)


def view(*them, count=None):
    """Who is here; keys, or ``Here``."""
    found = [here(one) if isinstance(one, str) else one for one in them]
    return View({one.key: one for one in found}, len(found) if count is None else count)


def keys(found):
    return [one.key for one in found]
