"""Middleware of the kinds that sites have."""

from __future__ import annotations

import asyncio
import zoneinfo
from typing import Any

from asgiref.local import Local
from django.core.exceptions import MiddlewareNotUsed, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpResponse
from django.template.response import SimpleTemplateResponse
from django.utils import timezone
from django.utils.decorators import async_only_middleware, sync_only_middleware
from django.utils.deprecation import MiddlewareMixin

from django_ws_dispatch.exceptions import BrokerError, Deny

seen: list[Any] = []
tenant = Local()

ERRORS = {
    404: Http404("no such room"),
    403: PermissionDenied("secret"),
    400: SuspiciousOperation("odd"),
    429: Deny(429),
    500: LookupError("broken"),
    503: BrokerError("away"),
}


@sync_only_middleware
def sync_header(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        seen.append("sync in")
        tenant.name = request.GET.get("tenant")
        response = get_response(request)
        seen.append("sync out")
        response["X-Sync"] = "1"
        return response

    return middleware


@async_only_middleware
def async_header(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        seen.append("async in")
        response = await get_response(request)
        seen.append("async out")
        response["X-Async"] = "1"
        response.set_cookie("visited", "yes")
        response.set_cookie("again", "yes")
        return response

    return middleware


@sync_only_middleware
def time_zone(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        timezone.activate(zoneinfo.ZoneInfo(request.GET.get("tz", "Asia/Tokyo")))
        return get_response(request)

    return middleware


@async_only_middleware
def denying(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        return HttpResponse("teapot", status=418)

    return middleware


@async_only_middleware
def raising(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        raise ERRORS[int(request.GET.get("status", 500))]

    return middleware


def error_of(request: Any) -> Exception:
    return ERRORS[int(request.GET.get("status", 500))]


@sync_only_middleware
def sync_raising(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        raise error_of(request)

    return middleware


class RaisingMiddleware(MiddlewareMixin):
    """Raises in a hook of Django's old way."""

    def process_request(self, request: Any) -> None:
        raise error_of(request)


@async_only_middleware
def raising_out(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        await get_response(request)
        return 1 / 0

    return middleware


@async_only_middleware
def replacing(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        response = await get_response(request)
        return HttpResponse(f"{response.status_code} there", status=503)

    return middleware


@async_only_middleware
def changing(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        response = await get_response(request)
        response.status_code = 403
        return response

    return middleware


@sync_only_middleware
def returning_nothing(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        get_response(request)

    return middleware


@async_only_middleware
def async_returning_nothing(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        await get_response(request)

    return middleware


def unmarked_coroutine(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        return await get_response(request)

    return middleware


class DenyingView(MiddlewareMixin):
    """Denies once it knows the handler."""

    def process_view(self, request: Any, view: Any, args: Any, kwargs: Any) -> Any:
        return HttpResponse("teapot", status=418)


class SyncFailingHooks:
    """Fails in the hook that is named in the query string."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        return self.get_response(request)

    def process_view(self, request: Any, view: Any, args: Any, kwargs: Any) -> Any:
        if request.GET["hook"] == "view":
            raise LookupError("broken")
        return SimpleTemplateResponse("never found", status=451)

    def process_template_response(self, request: Any, response: Any) -> Any:
        if request.GET["hook"] == "template":
            raise LookupError("broken")
        return None if request.GET["hook"] == "nothing" else response

    def process_exception(self, request: Any, exception: Exception) -> Any:
        raise LookupError("broken")


class FailingHooks(SyncFailingHooks):
    """The same, for a chain of coroutines."""

    sync_capable, async_capable = False, True

    async def __call__(self, request: Any) -> Any:
        return await self.get_response(request)


@async_only_middleware
def waiting(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        request.reached.set()
        return await asyncio.Event().wait()

    return middleware


def unused(get_response: Any) -> Any:
    raise MiddlewareNotUsed("not here")


def forgetful(get_response: Any) -> Any:
    return None


class Incapable:
    sync_capable = async_capable = False


class TokenMiddleware:
    """Sets ``request.user`` from a header, as the middleware of API tokens does."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        if "X-Token" in request.headers:
            from django.contrib.auth.models import User

            request.user = User.objects.get(username=request.headers["X-Token"])
        return self.get_response(request)


class ViewMiddleware:
    """Has the hooks that come after routing."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        return self.get_response(request)

    def process_view(self, request: Any, view: Any, args: Any, kwargs: Any) -> Any:
        seen.append((view, args, kwargs))
        if request.GET.get("template"):
            return SimpleTemplateResponse("never found", status=451)
        return None

    def process_template_response(self, request: Any, response: Any) -> Any:
        from django.template import engines

        response.template_name = engines["django"].from_string("gone for {{ reason }}")
        response.context_data = {"reason": "good"}
        return response


class MissingTemplate(ViewMiddleware):
    """Returns a response that can not be rendered."""

    def process_template_response(self, request: Any, response: Any) -> Any:
        return response


class ExceptionMiddleware(ViewMiddleware):
    """Answers for a template that fails."""

    def process_template_response(self, request: Any, response: Any) -> Any:
        return response

    def process_exception(self, request: Any, exception: Exception) -> Any:
        return HttpResponse(type(exception).__name__, status=409)


@sync_only_middleware
def session_counter(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        request.session["visits"] = request.session.get("visits", 0) + 1
        return get_response(request)

    return middleware
