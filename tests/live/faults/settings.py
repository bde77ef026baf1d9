"""The site of the fault tests: handlers of every kind, and a page that counts what it holds."""

import json
import os

from tests.live.settings import *  # noqa: F403

ROOT_URLCONF = "tests.soak.site"
WEBSOCKET_HANDLERS = "tests.live.faults.sockets"
SESSION_ENGINE = "django.contrib.sessions.backends.db"
if "LIVE_DATABASE" in os.environ:
    DATABASES = {"default": json.loads(os.environ["LIVE_DATABASE"])}
