"""The site, with pages that send and that carry a token; who has a signed cookie is a user."""

import json
import os

from tests.live.envelope import GROUPS
from tests.live.settings import *  # noqa: F403

ROOT_URLCONF = "tests.live.envelope.urls"
WEBSOCKET_HANDLERS = "tests.live.envelope.sockets"  # type: ignore[assignment]
WEBSOCKET_GROUPS = json.loads(os.environ.get("WEBSOCKET_GROUPS", json.dumps(GROUPS)))
LOGIN_URL = "/login/"
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
AUTHENTICATION_BACKENDS = ["tests.servers.users.Visitors"]
