"""What has to be done now and then for groups that remember, or know who is here.

Where a group with history is here is compared with where its store has it: a subscription may be
deaf, say on a server that is no primary any more, and still answer. Who is here is said again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from ..brokers import BaseBroker
from ..brokers.presence import REFRESH
from ..exceptions import BrokerError
from .kept import KeptGroup
from .present import PresentGroup

__all__ = ["beat", "patrol"]

logger = logging.getLogger("django_ws_dispatch.groups")

# Seconds between two looks, and after how many of them what the store has is renewed: a group's
# position outlives its last message by a day.
PAUSE = 30.0
RENEWED_AFTER = 120
# Groups that say at once that they are there: all of them do in the time between two times.
AT_ONCE = 32


async def patrol(broker: BaseBroker, groups: Mapping[str, KeptGroup]) -> None:
    """Compare the groups of a broker, by channel, until cancelled."""
    rounds = 0
    while True:
        await asyncio.sleep(PAUSE)
        rounds += 1
        try:
            await _compare(broker, dict(groups), groups, renew=rounds % RENEWED_AFTER == 0)
        except BrokerError as exc:
            logger.debug("Positions could not be compared: %s", exc)
        except Exception:
            logger.exception("Positions could not be compared.")


async def _compare(
    broker: BaseBroker, now: dict[str, KeptGroup], groups: Mapping[str, KeptGroup], *, renew: bool
) -> None:
    if renew:
        for channel, group in now.items():
            await broker.atop(channel, group.options.keep)
    tops = await broker.atops(list(now))
    for (channel, group), top in zip(now.items(), tops, strict=True):
        if groups.get(channel) is group:
            group.compare(top)


async def beat(groups: Mapping[str, PresentGroup]) -> None:
    """Have groups say that this process is there still, until cancelled."""
    while True:
        now = list(groups.values())
        parts = [now[start : start + AT_ONCE] for start in range(0, len(now), AT_ONCE)] or [now]
        for part in parts:
            await asyncio.sleep(REFRESH / len(parts))
            for group in part:
                group.refresh()
