"""The site of the server tests: everybody who has a signed cookie is a user, without a database."""

from tests.live.settings import *  # noqa: F403

SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
AUTHENTICATION_BACKENDS = ["tests.servers.users.Visitors"]
