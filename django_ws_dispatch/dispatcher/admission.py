"""What stands between a handshake and its handler: middleware, the user, counts."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.http.response import HttpResponseBase

from .. import lanes
from ..auth import watch
from ..auth.watched import key_of
from ..exceptions import Deny
from ..groups.namespaces import anamespace_of, set_namespace
from ..handshake.course import Course
from ..handshake.middleware import Chain, accept_headers, is_accepted
from ..routing.handlers import Handler, is_coroutine_function
from ..websockets import WebSocket
from .endings import report
from .sweep import local as connections

if TYPE_CHECKING:
    from . import Site

__all__ = ["Admission"]


class Admission:
    """One socket's way to a handler that asks for more than host and origin."""

    def __init__(self, site: Site, handler: Handler, socket: WebSocket) -> None:
        self._site = site
        self._handler = handler
        self._socket = socket

    async def admit(self) -> bool:
        """Return whether the handler may run; if not the handshake is denied."""
        chain, namespace, socket = self._site.chain, self._site.namespace, self._socket
        socket.lane_urgent = True
        if namespace is not None:
            socket.namespace = None
        try:
            if chain is not None and not await self._pass(chain):
                return False
            if namespace is not None:
                # That of the request is that of the handler, its tasks and its lanes.
                socket.namespace = await anamespace_of(namespace, socket.request)
                set_namespace(socket.namespace)
            if chain is not None and not await self._watch_known():
                return False
            if self._handler.options.needs_user and not await self._check_user():
                return False
            return await self._count()
        finally:
            # The handler begins on a lane of its own.
            socket.lane_urgent = False
            lanes.release(socket)

    async def _deny(self, response: HttpResponseBase | int, reason: str | None) -> bool:
        if isinstance(response, int):
            response = Deny(response).response
        await self._socket.connection.deny(response, reason)
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
        socket.connection.accept_headers = headers
        return True

    async def _watch_known(self) -> bool:
        """Hear of a logout or change of the user that the middleware has resolved, if it has."""
        if not self._socket.request.user_is_known:
            return True
        user: Any = self._socket.request.user

        async def known() -> Any:
            return user

        now = await watch.local().resolve_user(self._socket, known)
        if key_of(now) == key_of(user):
            return True
        return await self._deny(401, "no longer logged in")

    async def _check_user(self) -> bool:
        options = self._handler.options
        user: Any = await self._socket.auser()
        # A middleware may have set anything, also None.
        authenticated = getattr(user, "is_authenticated", False)
        if options.login and not authenticated:
            return await self._deny(401, "not logged in")
        for permission in options.permissions:
            # As on a page. Of a backend, ahas_perm() need not ask the has_perm() that it overrides.
            if not await _call(user.has_perm, permission):
                return await self._deny(403, f"permission {permission} is missing")
        for test in options.tests:
            if not await _call(test, user):
                return await self._deny(403, "user_passes_test()")
        if options.recheck_user is not None and authenticated:
            watch.local().recheck(self._socket, options.recheck_user)
        return True

    async def _count(self) -> bool:
        for most, per in set(self._handler.options.connection_limits):
            pk = key_of(await self._socket.auser()) if per == "user" else None
            if per == "user" and pk is None:
                continue
            namespace = self._socket.namespace if pk is not None else None
            key = (id(self._handler.given), most, per, namespace, pk)
            if not connections().count(self._socket, key, most):
                return await self._deny(429, f"connection_limit({most}, per={per!r})")
        return True


async def _call(test: Any, argument: Any) -> bool:
    if not is_coroutine_function(test):
        test = sync_to_async(test)
    result = await test(argument)
    if inspect.isawaitable(result):  # a lambda around a coroutine function: it is not yet an answer
        result = await result
    return bool(result)
