"""Row-level security."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import Http404
from django.utils.decorators import async_only_middleware

from django_ws_dispatch import groups

TENANTS = {"red.example.com": "red", "blue.example.com": "blue"}


def tenant_of(request: Any) -> str:
    try:
        return TENANTS[request.get_host().partition(":")[0]]
    except KeyError:
        raise Http404 from None


def set_tenant(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('app.tenant', %s, false)", [name])


class TenantMiddleware:
    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        set_tenant(tenant_of(request))
        return self.get_response(request)


@async_only_middleware
def say_for_whom(get_response: Any) -> Any:
    """What TenantMiddleware does, as a coroutine."""

    async def middleware(request: Any) -> Any:
        await sync_to_async(set_tenant)(tenant_of(request))
        return await get_response(request)

    return middleware


@contextmanager
def sync_context(websocket: Any) -> Iterator[None]:
    set_tenant(tenant_of(websocket.request))
    yield


# What the pages, handlers and commands of both sites use.


def use(request: Any) -> None:
    """Make the tenant of a request that of this connection from here on."""
    set_tenant(tenant_of(request))


@contextmanager
def within(name: str) -> Iterator[None]:
    """In a command."""
    with groups.namespace(name):
        set_tenant(name)
        yield


class UnlessUnsetMiddleware(TenantMiddleware):
    """With a page that says for no tenant that it reads.

    The other pages leave theirs to nobody: what is still set on a connection of a pool is a
    socket's.
    """

    def __call__(self, request: Any) -> Any:
        if request.path == "/unset/":
            return self.get_response(request)
        try:
            return super().__call__(request)
        finally:
            if connection.connection is not None:
                connection.connection.close()  # a pool drops it
