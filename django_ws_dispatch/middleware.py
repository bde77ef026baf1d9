"""Middleware for pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from .groups.namespaces import anamespace_of, load_namespace, namespace, namespace_of

__all__ = ["NamespaceMiddleware"]


class NamespaceMiddleware(MiddlewareMixin):
    """Makes the namespace of a page that of its request, as ``WEBSOCKET_NAMESPACE`` has it.

    What the view sends to groups and users goes to the sockets of that namespace, and so does what
    its logout, or a user that it saves, means for them. It belongs below the middleware that the
    function of the setting looks at, and above what sends.

    Raises:
        MiddlewareNotUsed: ``WEBSOCKET_NAMESPACE`` is not set.
        ImproperlyConfigured: it is wrong.
    """

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        function = load_namespace()
        if function is None:
            raise MiddlewareNotUsed("WEBSOCKET_NAMESPACE is not set.")
        self._function = function
        super().__init__(get_response)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.async_mode:
            return self.__acall__(request)
        with namespace(namespace_of(self._function, request)):
            return self.get_response(request)

    async def __acall__(self, request: HttpRequest) -> Any:
        with namespace(await anamespace_of(self._function, request)):
            response: Any = self.get_response(request)
            return await response
