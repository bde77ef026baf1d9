"""django-tenants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import Http404
from django.utils.decorators import async_only_middleware
from django_tenants.utils import get_tenant_domain_model, schema_context, tenant_context

from django_ws_dispatch import groups


@contextmanager
def sync_context(websocket: Any) -> Iterator[None]:
    with tenant_context(websocket.request.tenant):
        yield


def namespace(request: Any) -> str:
    return request.tenant.schema_name


@async_only_middleware
def find_tenant(get_response: Any) -> Any:
    """What TenantMainMiddleware does, as a coroutine."""

    async def middleware(request: Any) -> Any:
        host = request.get_host().partition(":")[0]
        domains = get_tenant_domain_model().objects.select_related("tenant")
        try:
            request.tenant = (await domains.aget(domain=host)).tenant
        except get_tenant_domain_model().DoesNotExist:
            raise Http404 from None
        await sync_to_async(connection.set_tenant)(request.tenant)
        return await get_response(request)

    return middleware


# What the pages, handlers and commands of both sites use.


def use(request: Any) -> None:
    """Make the tenant of a request that of this connection from here on."""
    connection.set_tenant(request.tenant)


@contextmanager
def within(name: str) -> Iterator[None]:
    """In a command."""
    with schema_context(name), groups.namespace(name):
        yield
