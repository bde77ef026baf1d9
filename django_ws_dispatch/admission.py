"""What stands between a handshake and its handler: middleware, the user, counts."""

from __future__ import annotations

import inspect
from collections.abc import Hashable
from typing import Any

from asgiref.sync import sync_to_async
from django.http.response import HttpResponseBase

from .connections import Connections, counts
from .endings import report
from .exceptions import Deny
from .handlers import Handler, is_coroutine_function
from .handshake.course import Course
from .handshake.middleware import Chain, accept_headers, is_accepted
from .websockets import WebSocket

__all__ = ["Admission"]


class Admission:
    """One socket's way to a handler that asks for more than host and origin."""

    def __init__(self, handler: Handler, socket: WebSocket, home: Connections) -> None:
        self._handler = handler
        self._socket = socket
        self._home = home
        self._counted: list[Hashable] = []

    async def admit(self, chain: Chain | None) -> bool:
        """Return whether the handler may run; if not the handshake is denied."""
        if chain is not None and not await self._pass(chain):
            return False
        if self._handler.options.needs_user and not await self._check_user():
            return False
        return await self._count()

    def leave(self) -> None:
        """Count one fewer."""
        for key in self._counted:
            counts.leave(key)

    async def _deny(self, response: HttpResponseBase | int, reason: str | None) -> bool:
        if isinstance(response, int):
            response = Deny(response).response
        await self._socket.deny(response, reason)
        return False

    async def _pass(self, chain: Chain) -> bool:
        socket = self._socket
        request = socket.request
        resolved: Any = request.resolver_match
        callback, args, kwargs = self._handler.callback, resolved.args, resolved.kwargs
        course = Course()
        try:
            response = await chain.run(request, callback, args, kwargs, course)
        finally:
            for culprit, exc in course.failures:
                await report(socket, exc, culprit)
        if not is_accepted(response):
            return await self._deny(response, course.reason(response))
        try:
            headers = accept_headers(response)
        except ValueError as exc:
            await report(socket, exc, "a middleware of WEBSOCKET_MIDDLEWARE")
            return await self._deny(500, None)
        socket.accept_with(headers)
        if request.user_is_known:
            return await self._watch(request.user)
        return True

    async def _watch(self, user: Any) -> bool:
        """Hear of a logout or change of the user that the middleware has resolved."""

        async def known() -> Any:
            return user

        now = await self._home.resolve_user(self._socket, known)
        if getattr(now, "pk", None) == getattr(user, "pk", None):
            return True
        return await self._deny(401, "no longer logged in")

    async def _check_user(self) -> bool:
        options = self._handler.options
        user: Any = await self._socket.auser()
        # A middleware may have set anything, also None.
        authenticated = getattr(user, "is_authenticated", False)
        if (options.login or options.permissions) and not authenticated:
            return await self._deny(401, "not logged in")
        for permission in options.permissions:
            if not await _has_permission(user, permission):
                return await self._deny(403, f"permission {permission} is missing")
        for test in options.tests:
            if not await _call(test, user):
                return await self._deny(403, "user_passes_test()")
        if options.recheck_user is not None and authenticated:
            self._home.recheck(self._socket, options.recheck_user)
        return True

    async def _count(self) -> bool:
        callback = id(self._handler.callback)
        for most, per in set(self._handler.options.connection_limits):
            pk = getattr(await self._socket.auser(), "pk", None) if per == "user" else None
            if per == "user" and pk is None:
                continue
            key = (callback, most, per, pk)
            if not counts.enter(key, most):
                return await self._deny(429, f"connection_limit({most}, per={per!r})")
            self._counted.append(key)
        return True


async def _has_permission(user: Any, permission: str) -> bool:
    # As on a page. Of a backend, ahas_perm() need not ask the has_perm() that it overrides.
    return await _call(user.has_perm, permission)


async def _call(test: Any, argument: Any) -> bool:
    if not is_coroutine_function(test):
        test = sync_to_async(test)
    result = await test(argument)
    if inspect.isawaitable(result):  # a lambda around a coroutine function: it is not yet an answer
        result = await result
    return bool(result)
