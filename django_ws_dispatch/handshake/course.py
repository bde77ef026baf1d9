"""A handshake's course through the middleware: who has failed, and whose answer it is.

Django makes a response of whatever a middleware raises, so that the ones around it see responses
only (``django.core.handlers.exception``). Here that is the same, but for who tells of it: one line,
with the middleware's name, of the logger that tells of all that becomes of handshakes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from inspect import isawaitable, iscoroutine
from typing import Any, NamedTuple, cast

from asgiref.sync import sync_to_async
from django.core.exceptions import BadRequest, SuspiciousOperation
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import get_resolver, get_urlconf

from ..exceptions import BrokerError, Deny
from ..reports import Meaning, meaning_of
from .denial import plain_response

__all__ = ["Course", "Failure", "current", "guard", "watch"]


Route = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Failure(NamedTuple):
    """A middleware that has failed: ``"the middleware a.b.C"``, and what it raised."""

    culprit: str
    exc: Exception


class Course:
    """What happened to one handshake so far."""

    route: Route  # as process_view gets it

    def __init__(self) -> None:
        # Those that raised what has no meaning for a handshake, in their order.
        self.failures: list[Failure] = []
        # The hook that raised: it is called by what is behind all middleware.
        self.blamed: tuple[Exception, str] | None = None
        self._response: HttpResponseBase | None = None
        self._reason: str | None = None

    def reason(self, response: HttpResponseBase) -> str | None:
        """Return why the handshake is denied with ``response``; ``None`` for a failure's."""
        return self._reason if response is self._response else _culprit(None)

    def answer(self, response: HttpResponseBase, reason: str | None) -> None:
        """Note whose a response is: not of those who only hand it on."""
        if response is not self._response:
            self._response, self._reason = response, reason

    def culprit(self, name: str | None, exc: Exception) -> str:
        """Return who raised it, where it came out of ``name``."""
        if self.blamed is not None and self.blamed[0] is exc:
            return _culprit(self.blamed[1])
        if name is None and self._reason is not None:
            return self._reason  # whose process_view has returned a template that fails
        return _culprit(name)


# One chain serves many handshakes at once, and parts of it run in threads.
current: ContextVar[Course] = ContextVar("current")


def guard(name: str | None, middleware: Callable[..., Any], is_async: bool) -> Callable[..., Any]:
    """Return a middleware that raises nothing, and returns nothing but responses.

    Its name is the dotted path; ``None`` for what is behind all of them.
    """
    # Wrapped as Django does it: for middleware that looks at its get_response.
    if is_async:

        @wraps(middleware)
        async def inner(request: HttpRequest) -> HttpResponseBase:
            try:
                response = middleware(request)
                return _checked(name, await response if isawaitable(response) else response)
            except Exception as exc:
                if _meaning(exc) is None:
                    return _failed(name, exc)
                return await sync_to_async(_answered)(name, request, exc)

        return inner

    @wraps(middleware)
    def sync_inner(request: HttpRequest) -> HttpResponseBase:
        try:
            return _checked(name, middleware(request))
        except Exception as exc:
            return _answered(name, request, exc)

    return sync_inner


def watch(name: str, middleware: Any, hook: Callable[..., Any], is_async: bool) -> Any:
    """Return a hook of a middleware, such as ``process_view``, that is known for what it does."""

    def answered(response: Any) -> Any:
        if response is not None:
            current.get().answer(response, _culprit(name))
        return response

    async def watched(*args: Any) -> Any:
        try:
            return answered(await hook(*args))
        except Exception as exc:
            current.get().blamed = exc, name
            raise

    def sync_watched(*args: Any) -> Any:
        try:
            return answered(hook(*args))
        except Exception as exc:
            current.get().blamed = exc, name
            raise

    result: Any = watched if is_async else sync_watched
    # Django asks for its class, to complain of a process_template_response that returns nothing.
    result.__self__ = middleware
    return result


def _culprit(name: str | None) -> str:
    return "a middleware of WEBSOCKET_MIDDLEWARE" if name is None else f"the middleware {name}"


def _checked(name: str | None, response: Any) -> HttpResponseBase:
    if not isinstance(response, HttpResponseBase):
        remedy = ""
        if iscoroutine(response):
            response.close()
            remedy = " Decorate it with django.utils.decorators.async_only_middleware."
        raise TypeError(f"It returned {response!r}, which is no response.{remedy}")
    current.get().answer(response, _culprit(name))
    return response


def _meaning(exc: Exception) -> Meaning | None:
    # A page knows no outage of a broker.
    return None if isinstance(exc, BrokerError) else meaning_of(exc)


def _failed(name: str | None, exc: Exception) -> HttpResponseBase:
    course = current.get()
    response = plain_response(500)
    course.failures.append(Failure(course.culprit(name, exc), exc))
    course.answer(response, None)
    return response


def _answered(name: str | None, request: HttpRequest, exc: Exception) -> HttpResponseBase:
    meaning = _meaning(exc)
    if meaning is None:
        return _failed(name, exc)
    try:
        response = exc.response if isinstance(exc, Deny) else _page(request, exc, meaning.status)
    except Exception as failure:  # of the site's handler404, say
        return _failed(name, failure)
    course = current.get()
    course.answer(response, f"{course.culprit(name, exc)} raised {type(exc).__name__}")
    return response


def _page(request: HttpRequest, exc: Exception, status: int) -> HttpResponseBase:
    """The response that the site has for it, as Django makes it of what a view raises."""
    if isinstance(exc, SuspiciousOperation) and not isinstance(exc, BadRequest):
        extra = {"status_code": 400, "request": request}
        name = f"django.security.{type(exc).__name__}"
        logging.getLogger(name).error(str(exc), exc_info=exc, extra=extra)
    resolver: Any = get_resolver(get_urlconf())
    response = resolver.resolve_error_handler(status)(request, exception=exc)
    if not getattr(response, "is_rendered", True):
        response = response.render()
    return cast("HttpResponseBase", response)
