"""A site whose processes know who is here."""

from tests.live.presence import GROUPS
from tests.live.settings import *  # noqa: F403

WEBSOCKET_HANDLERS = "tests.live.presence.sockets"  # type: ignore[assignment]
WEBSOCKET_GROUPS = GROUPS
