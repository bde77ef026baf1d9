"""The middleware for pages: what a view sends goes to the namespace of its request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory, override_settings

from django_ws_dispatch.groups.namespaces import active_namespace
from django_ws_dispatch.middleware import NamespaceMiddleware


def of_header(request: Any) -> Any:
    tenant = request.headers.get("X-Tenant", "")
    return None if tenant == "wrong" else tenant


async def of_header_async(request: Any) -> Any:
    await asyncio.sleep(0)
    return of_header(request)


site = override_settings(WEBSOCKET_NAMESPACE=f"{__name__}.of_header")


def page(request: Any) -> HttpResponse:
    return HttpResponse(active_namespace())


async def apage(request: Any) -> HttpResponse:
    return HttpResponse(active_namespace())


@site
@pytest.mark.parametrize("function", ["of_header", "of_header_async"])
def test_a_page_is_in_the_namespace_of_its_request(function: str) -> None:
    with override_settings(WEBSOCKET_NAMESPACE=f"{__name__}.{function}"):
        request = RequestFactory().get("/", headers={"x-tenant": "red"})
        assert NamespaceMiddleware(page)(request).content == b"red"  # type: ignore[union-attr]
        request = AsyncRequestFactory().get("/", headers={"x-tenant": "blue"})
        middleware: Any = NamespaceMiddleware(apage)
        assert async_to_sync(middleware)(request).content == b"blue"
    assert active_namespace() == ""


def test_the_middleware_is_not_used_without_the_setting() -> None:
    from django.core.exceptions import MiddlewareNotUsed

    with pytest.raises(MiddlewareNotUsed):
        NamespaceMiddleware(page)


@site
def test_what_the_function_returns_is_checked_on_a_page_too() -> None:
    request = RequestFactory().get("/", headers={"x-tenant": "wrong"})
    with pytest.raises(TypeError, match="WEBSOCKET_NAMESPACE"):
        NamespaceMiddleware(page)(request)


@site
def test_what_a_view_raises_leaves_no_namespace_behind() -> None:
    def view(request: Any) -> HttpResponse:
        raise LookupError(active_namespace())

    async def aview(request: Any) -> HttpResponse:
        raise LookupError(active_namespace())

    headers = {"x-tenant": "red"}
    with pytest.raises(LookupError, match="red"):
        NamespaceMiddleware(view)(RequestFactory().get("/", headers=headers))
    middleware: Any = NamespaceMiddleware(aview)
    with pytest.raises(LookupError, match="red"):
        async_to_sync(middleware)(AsyncRequestFactory().get("/", headers=headers))
    assert active_namespace() == ""


@site
def test_it_is_async_where_what_is_behind_it_is() -> None:
    assert iscoroutinefunction(NamespaceMiddleware(apage))
    assert not iscoroutinefunction(NamespaceMiddleware(page))
