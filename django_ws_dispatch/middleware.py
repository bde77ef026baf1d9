"""Middleware for pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .groups.namespaces import anamespace_of, load_namespace, namespace, namespace_of

__all__ = ["NamespaceMiddleware"]


class NamespaceMiddleware:
    """Makes the namespace of a page that of its request, as ``WEBSOCKET_NAMESPACE`` has it.

    What the view sends to groups and users goes to the sockets of that namespace, and so does what
    its logout, or a user that it saves, means for them. It belongs below the middleware that the
    function of the setting looks at, and above what sends.

    Raises:
        MiddlewareNotUsed: ``WEBSOCKET_NAMESPACE`` is not set.
        ImproperlyConfigured: it is wrong.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        function = load_namespace()
        if function is None:
            raise MiddlewareNotUsed("WEBSOCKET_NAMESPACE is not set.")
        self._function = function
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._acall(request)
        with namespace(namespace_of(self._function, request)):
            response: HttpResponseBase = self._get_response(request)
        return response

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        with namespace(await anamespace_of(self._function, request)):
            response: HttpResponseBase = await self._get_response(request)
        return response
