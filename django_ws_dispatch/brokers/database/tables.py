"""The names of the tables, for SQL; what is in them stands in ``models.py``.

The broker speaks SQL, since it has connections that no request shares, which the ORM can not use.
"""

from __future__ import annotations

__all__ = [
    "CHANNELS",
    "COUNTERS",
    "EXAMINED",
    "HERE",
    "KEPT_FORGOTTEN",
    "KEPT_MESSAGE",
    "KEPT_ORDER",
    "MESSAGES",
    "NUMBERED",
    "PLAIN",
    "ROOMS",
    "TRACKED",
    "TRACKERS",
]

MESSAGES = "django_ws_dispatch_message"
CHANNELS = "django_ws_dispatch_channel"
COUNTERS = "django_ws_dispatch_counter"
ROOMS = "django_ws_dispatch_room"
HERE = "django_ws_dispatch_here"
TRACKERS = "django_ws_dispatch_tracker"
TRACKED = "django_ws_dispatch_tracked"

# What a message is: it is kept, or not, and may be an order. FORGOTTEN is an order as well.
PLAIN, KEPT_MESSAGE, KEPT_ORDER, KEPT_FORGOTTEN = range(4)

# The rows of the counters.
NUMBERED, EXAMINED = 1, 2
