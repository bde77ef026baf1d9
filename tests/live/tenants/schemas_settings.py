"""A schema for each tenant: what docs/howto/tenants.md has."""

import os

from tests.live.tenants.settings import *  # noqa: F403
from tests.live.tenants.settings import DATABASES, MORE_MIDDLEWARE

DATABASES["default"]["ENGINE"] = "django_tenants.postgresql_backend"
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
TENANT_MODEL = "customers.Client"
TENANT_DOMAIN_MODEL = "customers.Domain"

_users = ["django.contrib.auth", "django.contrib.sessions"]
# Users and sessions are each tenant's own, or those of all tenants.
_shared = "LIVE_SHARED_USERS" in os.environ
SHARED_APPS = [
    "django_ws_dispatch",
    "django_tenants",
    "tests.live.tenants.customers",
    "django.contrib.contenttypes",
    *(_users if _shared else []),
]
TENANT_APPS = [
    "django.contrib.contenttypes",
    "tests.live.tenants.shop",
    *([] if _shared else _users),
]
INSTALLED_APPS = list(dict.fromkeys([*SHARED_APPS, *TENANT_APPS]))

MIDDLEWARE = [
    "django_tenants.middleware.main.TenantMainMiddleware",
    "django_ws_dispatch.middleware.NamespaceMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
WEBSOCKET_MIDDLEWARE = [
    "tests.live.tenants.schemas.find_tenant"
    if os.environ.get("LIVE_MIDDLEWARE") == "async"
    else "django_tenants.middleware.main.TenantMainMiddleware",
    *MORE_MIDDLEWARE,
]
if "LIVE_WITHOUT" not in os.environ:
    WEBSOCKET_SYNC_CONTEXT = "tests.live.tenants.schemas.sync_context"
    WEBSOCKET_NAMESPACE = "tests.live.tenants.schemas.namespace"

TENANCY = "tests.live.tenants.schemas"
