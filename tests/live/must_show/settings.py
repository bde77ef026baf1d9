"""The site of ``test_must_show``."""

import json
import os

from tests.settings import *  # noqa: F403

DEBUG = False
ROOT_URLCONF = "tests.live.must_show.urls"
ASGI_APPLICATION = "tests.asgi.application"
WEBSOCKET_HANDLERS = "tests.live.must_show.sockets"
WEBSOCKET_SYNC_THREADS = 4
DATABASES = {"default": json.loads(os.environ["LIVE_DATABASE"])}
SESSION_ENGINE = os.environ.get("LIVE_SESSION_ENGINE", "django.contrib.sessions.backends.db")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "ERROR"},
}
