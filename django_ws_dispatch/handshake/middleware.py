"""``WEBSOCKET_MIDDLEWARE``: Django middleware around the handshake.

The middleware sees a request, and a response with the status 101 that stands for the accept. It is
Django's own machinery that runs it (``django.core.handlers.base.BaseHandler``), so that sync and
async classes, ``process_view`` and ``MiddlewareNotUsed`` mean what they mean on a page; ``course``
sees to exceptions.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.core.handlers.base import BaseHandler
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from .. import lanes
from ..auth.sessions import guard_session
from ..conf import import_setting
from .course import Course, current, guard, watch
from .denial import response_headers
from .request import HandshakeRequest

__all__ = ["Chain", "SwitchingProtocols", "accept_headers", "is_accepted"]

logger = logging.getLogger("django_ws_dispatch")

REMEDY = "Write dotted paths of Django middleware, as in MIDDLEWARE."

# What describes a body. CommonMiddleware gives a length even to a response without one.
_OF_A_BODY = frozenset((b"content-encoding", b"content-length", b"content-type"))


class SwitchingProtocols(HttpResponse):
    """What the innermost ``get_response`` returns: the handshake may be accepted."""

    status_code = 101


async def _switch_protocols(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    return SwitchingProtocols()


class Chain(BaseHandler):
    """The middleware of ``WEBSOCKET_MIDDLEWARE``, made once and run for each handshake.

    Args:
        paths: dotted paths of middleware classes or factories, the outermost first.
        urlconf: what they find as ``request.urlconf``; ``None``: nothing, as on most pages.
            ``LocaleMiddleware`` looks there for ``i18n_patterns()``.

    Raises:
        ImproperlyConfigured: one of them can not be imported or is no middleware.
    """

    def __init__(self, paths: Sequence[str], urlconf: Any = None) -> None:
        # BaseHandler.load_middleware(is_async=True) of Django 5.2 to 6.1, which knows no other list
        # than settings.MIDDLEWARE.
        super().__init__()
        self._urlconf = urlconf
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        hooks = {  # where each is kept, and whether it is awaited
            "process_view": (self._view_middleware, True),
            "process_template_response": (self._template_response_middleware, True),
            "process_exception": (self._exception_middleware, False),
        }
        innermost = self._get_response_async  # type: ignore[attr-defined]
        handler = guard(None, innermost, True)
        handler_is_async = True
        for path in reversed(paths):
            factory = import_setting("WEBSOCKET_MIDDLEWARE", path, REMEDY)
            can_sync = getattr(factory, "sync_capable", True)
            can_async = getattr(factory, "async_capable", False)
            if not (can_sync or can_async):
                raise ImproperlyConfigured(
                    f"WEBSOCKET_MIDDLEWARE: {path} must have at least one of sync_capable and "
                    "async_capable set to True."
                )
            is_async = can_async if handler_is_async or not can_sync else False
            adapted = self.adapt_method_mode(
                is_async, handler, handler_is_async, settings.DEBUG, f"middleware {path}"
            )
            try:
                middleware = factory(adapted)
            except MiddlewareNotUsed as exc:
                if settings.DEBUG:
                    logger.debug("MiddlewareNotUsed: %r %s", path, exc)
                continue
            except TypeError as exc:
                raise ImproperlyConfigured(
                    f"WEBSOCKET_MIDDLEWARE: {path} can not be called with get_response ({exc}). "
                    f"{REMEDY}"
                ) from exc
            if not callable(middleware):
                if inspect.iscoroutine(middleware):  # of a handler, say
                    middleware.close()
                raise ImproperlyConfigured(
                    f"WEBSOCKET_MIDDLEWARE: the middleware factory {path} returned "
                    f"{middleware!r}. {REMEDY}"
                )
            for name, (kept, awaited) in hooks.items():
                if hasattr(middleware, name):
                    hook = self.adapt_method_mode(awaited, getattr(middleware, name))
                    kept.append(watch(path, middleware, hook, awaited))
            handler, handler_is_async = guard(path, middleware, is_async), is_async
        self._view_middleware.reverse()  # a request passes the outermost first
        self._chain: Any = self.adapt_method_mode(True, handler, handler_is_async)

    async def run(
        self,
        request: HandshakeRequest,
        handler: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        course: Course | None = None,
    ) -> HttpResponseBase:
        """Run the handshake through the middleware, in the calling task.

        What they activate (a language, a time zone, any context variable) holds in the caller's
        context afterwards. Exceptions become what Django makes of them; cancellation passes.

        Args:
            request: with ``resolver_match`` set, as ``process_view`` may read it.
            handler: what ``process_view`` gets as the view, with ``args`` and ``kwargs``.
            course: finds out who failed, and who answered.

        Returns:
            A response that ``is_accepted()``, or the one to deny the handshake with.
        """
        if self._urlconf is not None:
            request.urlconf = self._urlconf
        course = course or Course()
        course.route = (handler, tuple(args), dict(kwargs or {}))
        token = current.set(course)
        try:
            # What sync middleware leaves on its thread, or on a connection, ends there.
            with lanes.private_lane():
                response: HttpResponseBase = await self._chain(request)
        finally:
            current.reset(token)
        if is_accepted(response) and request.has_session:
            # From here on there is no response that could carry a session's cookie.
            guard_session(request.session)
        return response

    def resolve_request(self, request: HttpRequest) -> Any:
        """Django's hook for routing, which is over: the handler is the view."""
        return current.get().route

    def make_view_atomic(self, view: Callable[..., Any]) -> Callable[..., Any]:
        """Django's last hook before it calls the view: the handler's turn comes later."""
        return _switch_protocols


def is_accepted(response: HttpResponseBase) -> bool:
    """Return whether the chain let the handshake pass."""
    return isinstance(response, SwitchingProtocols) and response.status_code == 101


def accept_headers(response: HttpResponseBase) -> list[tuple[bytes, bytes]]:
    """Return the headers and cookies that middleware set, for ``websocket.accept``.

    Without those that describe a body, and those that only the server may set (RFC 6455 section
    4.2.2): the subprotocol has a key of its own in the event.
    """
    return [
        (name, value)
        for name, value in response_headers(response)
        if name not in _OF_A_BODY and not name.startswith(b"sec-websocket-")
    ]
