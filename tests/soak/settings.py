"""The site of the soak, and of the program's own thread that publishes."""

import os

from tests.settings import *  # noqa: F403
from tests.soak.rooms import HISTORY, LINGER, STORE

DEBUG = False
ROOT_URLCONF = "tests.soak.site"
WEBSOCKET_HANDLERS = "tests.soak.sockets"
# Nothing here is a timing: a loaded machine may take its time.
WEBSOCKET_BROKERS = {
    alias: {
        "BACKEND": "django_ws_dispatch.brokers.redis.RedisBroker",
        "LOCATION": os.environ[variable],
        "OPTIONS": {"timeout": 30},
    }
    for alias, variable in (("default", "SOAK_BROKER"), (STORE, "SOAK_STORE"))
}
WEBSOCKET_GROUPS = {
    f"{kind}-*": {"history": history, "broker": STORE} for kind, history in HISTORY.items()
} | {
    "here-*": {"presence": True, "linger": LINGER},
    "back-*": {"presence": True, "linger": LINGER, "broker": STORE},
}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["SOAK_DATABASE"],
        "OPTIONS": {"timeout": 60, "transaction_mode": "IMMEDIATE"},
    }
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"meant": {"()": "tests.soak.failures.HideMeantFailures"}},
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "plain", "filters": ["meant"]}
    },
    "loggers": {"uvicorn.error": {"filters": ["meant"]}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
