"""Groups that remember: the settings, and joining one without a socket."""

from __future__ import annotations

from typing import Any

from django.test import override_settings

from django_ws_dispatch.groups import Group, members
from django_ws_dispatch.groups.kept import KeptGroup

from .members import FakeMember


def remembering(groups: dict[str, Any]) -> override_settings:
    """Settings with these groups, and a memory broker that was made anew: it remembers nothing."""
    backend = "django_ws_dispatch.brokers.memory.MemoryBroker"
    return override_settings(
        WEBSOCKET_GROUPS=groups, WEBSOCKET_BROKERS={"default": {"BACKEND": backend}}
    )


async def joined(member: FakeMember, group: Group) -> KeptGroup:
    """Have a member join a group with history."""
    options = group.options
    assert options is not None
    found = await members.local().join(member, group.place, kept={group.place: options})
    return found[group.place]
