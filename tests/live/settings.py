"""The site of the live tests. ``WEBSOCKET_...`` in the environment, as JSON, are its settings, and
what it believes of a proxy.
"""

import json
import os

from tests.settings import *  # noqa: F403

DEBUG = False
WEBSOCKET_HANDLERS = "tests.live.handlers"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
globals().update(
    {
        name: json.loads(value)
        for name, value in os.environ.items()
        if name.startswith("WEBSOCKET_") or name == "SECURE_PROXY_SSL_HEADER"
    }
)
