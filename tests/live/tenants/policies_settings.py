"""One schema, in which policies decide what a tenant sees: what docs/howto/tenants.md has."""

import os

from tests.live.tenants.settings import *  # noqa: F403
from tests.live.tenants.settings import MORE_MIDDLEWARE

INSTALLED_APPS = [
    "django_ws_dispatch",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "tests.live.tenants.shop",
]
MIDDLEWARE = [
    "tests.live.tenants.policies.UnlessUnsetMiddleware",
    "django_ws_dispatch.middleware.NamespaceMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
# It needs none.
WEBSOCKET_MIDDLEWARE = {
    "sync": ["tests.live.tenants.policies.TenantMiddleware"],
    "async": ["tests.live.tenants.policies.say_for_whom"],
}.get(os.environ.get("LIVE_MIDDLEWARE", ""), []) + MORE_MIDDLEWARE
if "LIVE_WITHOUT" not in os.environ:
    WEBSOCKET_SYNC_CONTEXT = "tests.live.tenants.policies.sync_context"
    WEBSOCKET_NAMESPACE = "tests.live.tenants.policies.tenant_of"

TENANCY = "tests.live.tenants.policies"
