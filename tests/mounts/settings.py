"""A site whose sockets are other people's applications."""

import os

from tests.settings import *  # noqa: F403

DEBUG = False
ROOT_URLCONF = "tests.mounts.urls"
ASGI_APPLICATION = "tests.asgi.application"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("MOUNTS_DATABASE", ":memory:"),
    }
}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
WEBSOCKET_HANDLERS = os.environ.get("MOUNTS_HANDLERS", [])
WEBSOCKET_MAX_MESSAGE_SIZE = 10_000
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
