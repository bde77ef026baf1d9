"""The site of the chaos test."""

import json
import os

from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.live.settings import *  # noqa: F403

ROOT_URLCONF = "tests.live.chaos.pages"
WEBSOCKET_HANDLERS = "tests.live.chaos.sockets"
DATABASES = {"default": json.loads(os.environ["LIVE_DATABASE"])}
SESSION_ENGINE = f"django.contrib.sessions.backends.{os.environ['LIVE_SESSIONS']}"
SESSION_FILE_PATH = os.environ["LIVE_FOLDER"]
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": os.environ["LIVE_CACHE"],
        "OPTIONS": {"socket_timeout": 1, "retry": Retry(NoBackoff(), 0)},
    }
}
WEBSOCKET_BROKERS = {
    "default": {
        "BACKEND": "django_ws_dispatch.brokers.redis.RedisBroker",
        "LOCATION": os.environ["LIVE_BROKER"],
    }
}
