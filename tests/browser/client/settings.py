"""The site of these tests: one page, which is what its query says."""

import os
from pathlib import Path

from tests.settings import *  # noqa: F403

DEBUG = False
ROOT_URLCONF = "tests.browser.client.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent],
    }
]
WEBSOCKET_HANDLERS = "tests.browser.client.sockets"  # type: ignore[assignment]
WEBSOCKET_GROUPS = {"talk:*": {"history": 20_000, "presence": True, "linger": 0}}
WEBSOCKET_BROKERS = {
    "default": {
        "BACKEND": "django_ws_dispatch.brokers.redis.RedisBroker",
        "LOCATION": os.environ["REDIS_URL"],
    }
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
