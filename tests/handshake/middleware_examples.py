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

seen: list[Any] = []
tenant = Local()

ERRORS = {
    404: Http404("no such room"),
    403: PermissionDenied("secret"),
    400: SuspiciousOperation("odd"),
    500: LookupError("broken"),
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
