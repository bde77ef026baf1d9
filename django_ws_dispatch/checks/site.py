"""What is wrong with the site around the sockets: applications, proxies, brokers, databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.core.management import get_commands, load_command_class
from django.db import connections

from ..asgi import NoApplication, application_path, leads_to_dispatcher, load_application
from ..brokers import build_broker
from ..conf import conf
from ..handshake.origin import OriginCheck

__all__ = [
    "check_application",
    "check_deaf_brokers",
    "check_open_hosts",
    "check_order",
    "check_pools",
    "check_proxy",
    "check_tenants",
]

# The connections of a pool whose size nobody has said: psycopg's, and Oracle's.
POOL_SIZE = 4

TENANTS = """\
Write mysite/tenants.py:

    @contextlib.contextmanager
    def sync_context(websocket):
        with tenant_context(websocket.request.tenant):
            yield

    def namespace(request):
        return request.tenant.schema_name

and in the settings:

    WEBSOCKET_SYNC_CONTEXT = "mysite.tenants.sync_context"
    WEBSOCKET_NAMESPACE = "mysite.tenants.namespace"
    WEBSOCKET_MIDDLEWARE = ["django_tenants.middleware.main.TenantMainMiddleware"]

and in MIDDLEWARE, below TenantMainMiddleware:

    "django_ws_dispatch.middleware.NamespaceMiddleware",
"""


def check_order() -> Iterator[Warning]:
    """Look for an app whose runserver hides this package's."""
    ours, theirs = "django_ws_dispatch", get_commands()["runserver"]
    with suppress(Exception):  # One that can not be imported says so itself.
        command = theirs != ours and load_command_class(theirs, "runserver")
        if command and not any(kind.__module__.startswith(ours) for kind in type(command).__mro__):
            yield Warning(
                f"'manage.py runserver' is that of {theirs!r}, which stands above {ours!r}.",
                hint=f"Put {ours!r} first.",
                id="ws_dispatch.W003",
            )


def check_proxy() -> Iterator[Error]:
    """Check what is believed of a proxy."""
    try:
        OriginCheck([])
    except ImproperlyConfigured as exc:
        yield Error(
            str(exc),
            hint='Write SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https"), or None.',
            id="ws_dispatch.E013",
        )


def check_application() -> Iterator[Warning]:
    """Check that the site's application serves the routes."""
    hint = (
        'Write ASGI_APPLICATION = "mysite.asgi.application" in the settings: runserver, the live '
        "server and the test client use it."
    )
    try:
        path = application_path()
        application = load_application()
    except NoApplication as exc:
        yield Warning(str(exc), hint=hint, id="ws_dispatch.W001")
    except Exception as exc:
        module = path.rpartition(".")[0]
        yield Warning(
            f"The import of {module}, the module of the ASGI application, fails: "
            f"{type(exc).__name__}: {exc}",
            hint=f'Correct it there, or in what it imports: python -c "import {module}" shows the '
            "line.",
            id="ws_dispatch.W001",
        )
    else:
        if not leads_to_dispatcher(application):
            yield Warning(
                f"The ASGI application {path} ({type(application).__name__}) leads to no "
                "WebSocketDispatcher: the routes of WEBSOCKET_HANDLERS are not served.",
                hint="In asgi.py import get_asgi_application from django_ws_dispatch.asgi instead "
                "of django.core.asgi. Where something is wrapped around it that hides it, silence "
                "this check.",
                id="ws_dispatch.W002",
            )


def check_open_hosts() -> Iterator[Warning]:
    """Look for hosts that anybody may name."""
    credentials = map(apps.is_installed, ("django.contrib.sessions", "django.contrib.auth"))
    if conf.allowed_origins is None and "*" in settings.ALLOWED_HOSTS and any(credentials):
        yield Warning(
            'ALLOWED_HOSTS has "*", and the Origin check compares with the Host of the '
            "handshake: a page of any name that somebody points to this server passes.",
            hint="Name the hosts in ALLOWED_HOSTS, or the origins in WEBSOCKET_ALLOWED_ORIGINS.",
            id="ws_dispatch.W008",
        )


def check_deaf_brokers() -> Iterator[Warning]:
    """Look for brokers that reach one process only."""
    for alias, config in conf.brokers.items():
        with suppress(Exception):  # said by check_settings
            if build_broker(alias, config).in_process:
                yield Warning(
                    f"The broker {alias!r} of WEBSOCKET_BROKERS reaches the sockets of one process "
                    "only: groups and logouts do not cross processes.",
                    hint="Use django_ws_dispatch.brokers.redis.RedisBroker, or silence this check "
                    "where the whole site is one process.",
                    id="ws_dispatch.W009",
                )


def check_tenants() -> Iterator[Warning]:
    """Look for a site of django-tenants that says nothing of it to the sockets."""
    if hasattr(settings, "TENANT_MODEL") and not (conf.sync_context or conf.namespace):
        yield Warning(
            "TENANT_MODEL is set, and sockets know of no tenants: their queries run in no "
            "tenant's schema, and what is sent to user 1 of a tenant reaches user 1 of others.",
            hint=TENANTS,
            id="ws_dispatch.W013",
        )


def check_pools() -> Iterator[Warning]:
    """Compare Django's connection pools with the calls of sockets that may run at once."""
    used, because = conf.sync_threads, "WEBSOCKET_SYNC_THREADS"
    if conf.middleware:  # has as many again
        used, because = 2 * used, f"{because} and WEBSOCKET_MIDDLEWARE"
    for alias in connections:
        pool: Any = connections.settings[alias]["OPTIONS"].get("pool")
        options = pool if isinstance(pool, dict) else {}
        most = options.get("max_size", options.get("max", options.get("min_size", POOL_SIZE)))
        if pool and isinstance(most, int) and most <= used:
            yield Warning(
                f"The connection pool of the database {alias!r} has {most} connections, and "
                f"sockets may use {used} of them at once ({because}): pages wait for one then.",
                hint=f'Write "pool": {{"max_size": {used + POOL_SIZE}}}, which leaves some '
                "to the pages, or a smaller WEBSOCKET_SYNC_THREADS.",
                id="ws_dispatch.W011",
            )
