"""What both sites have."""

import json
import os

from tests.live.settings import *  # noqa: F403

ALLOWED_HOSTS = [".example.com"]
ROOT_URLCONF = "tests.live.tenants.urls"
WEBSOCKET_HANDLERS = "tests.live.tenants.sockets"
SESSION_ENGINE = "django.contrib.sessions.backends.db"
STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
# After what says for whom.
MORE_MIDDLEWARE = ["tests.live.tenants.slow.SlowMiddleware"] if "LIVE_SLOW" in os.environ else []
DATABASES = {"default": json.loads(os.environ["LIVE_DATABASE"])}
WEBSOCKET_BROKERS = {
    "default": {
        "BACKEND": "django_ws_dispatch.brokers.redis.RedisBroker",
        "LOCATION": os.environ["LIVE_BROKER"],
    }
}
