"""The broker over Redis (6.2 or later) or Valkey (7.2 or later), on redis-py.

One PUBLISH per message, or one script where it is kept, and one connection per process and event
loop that is subscribed, with exact SUBSCRIBE only, to the channels that have a member there.
Everything speaks RESP2, in which pub/sub replies look the same on every server and in every
redis-py.
"""

from __future__ import annotations

try:
    from .broker import RedisBroker
except ModuleNotFoundError as exc:
    if exc.name is None or exc.name.partition(".")[0] != "redis":
        raise
    from django.core.exceptions import ImproperlyConfigured

    raise ImproperlyConfigured(
        "The Redis broker of WEBSOCKET_BROKERS needs redis-py: "
        'pip install "django-ws-dispatch[redis]".'
    ) from exc

__all__ = ["RedisBroker"]
