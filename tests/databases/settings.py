"""The site of these tests, and what they themselves run on.

``LIVE_DATABASE`` in the environment, as JSON, is its database, which is its broker, too.
"""

import json
import os

from tests.databases import GROUPS
from tests.live.settings import *  # noqa: F403

INSTALLED_APPS = [  # type: ignore[assignment]
    "django_ws_dispatch.brokers.database",
    *INSTALLED_APPS,  # noqa: F405
]
ROOT_URLCONF = "tests.databases.pages"
WEBSOCKET_HANDLERS = "tests.databases.sockets"  # type: ignore[assignment]
WEBSOCKET_GROUPS = GROUPS
if "LIVE_DATABASE" in os.environ:
    DATABASES = {"default": json.loads(os.environ["LIVE_DATABASE"])}
