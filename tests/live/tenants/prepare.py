"""Makes the database of a site: ``python -m tests.live.tenants.prepare``.

With row-level security as its owner; the site's processes are a role that the policies bind.
"""

from __future__ import annotations

import django

django.setup()

from django.apps import apps  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib import auth  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from tests.live.tenants.shop.models import Item  # noqa: E402

TENANTS = ["red", "blue"]
USERS = ["ada", "ben", "cleo", "dan", "eve"]
ROWS = 5


def people(tenant: str) -> None:
    for pk, name in enumerate(USERS, start=1):
        user = User.objects.create(pk=pk, username=name, first_name=tenant, password="the same")
        session = SessionStore()
        session[auth.SESSION_KEY] = str(pk)
        session[auth.BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        session[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()
        session._session_key = f"session{name}".ljust(32, "0")
        session.save(must_create=True)


def rows(tenant: str) -> None:
    Item.objects.bulk_create(Item(pk=pk, text=f"{tenant} {pk}") for pk in range(1, ROWS + 1))


def schemas() -> None:
    from django_tenants.utils import schema_context

    from tests.live.tenants.customers.models import Client, Domain

    call_command("migrate_schemas", schema_name="public", verbosity=0)
    shared = apps.get_app_config("auth").name in settings.SHARED_APPS
    for name in TENANTS:
        client = Client(schema_name=name)
        client.save(verbosity=0)
        Domain.objects.create(domain=f"{name}.example.com", tenant=client, is_primary=True)
        with schema_context(name):
            rows(name)
            if not shared:
                people(name)
    if shared:
        people("all")


POLICY = """
ALTER TABLE {table} ADD tenant text NOT NULL;
ALTER TABLE {table} ALTER tenant SET DEFAULT current_setting('app.tenant');
ALTER TABLE {table} DROP CONSTRAINT {table}_pkey CASCADE;
ALTER TABLE {table} ADD PRIMARY KEY (tenant, {key});
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON {table} USING (tenant = current_setting('app.tenant'));
"""
ROLE = """
GRANT USAGE ON SCHEMA public TO site;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO site;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO site;
"""


def policies() -> None:
    from tests.live.tenants.policies import within

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        for table, key in [
            ("auth_user", "id"),
            ("django_session", "session_key"),
            ("shop_item", "id"),
        ]:
            cursor.execute(POLICY.format(table=table, key=key))
        cursor.execute("ALTER TABLE auth_user DROP CONSTRAINT auth_user_username_key")
        cursor.execute(ROLE)
    for name in TENANTS:
        with within(name):
            people(name)
            rows(name)


if __name__ == "__main__":
    schemas() if hasattr(settings, "TENANT_MODEL") else policies()
