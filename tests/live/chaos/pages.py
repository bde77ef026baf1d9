"""The pages on which people do things to their sessions, and to those of others.

A session is known by its "lineage", a name in its data: it stays where the key changes, and is gone
with a flush. A page answers 200 when it has done what it is for, and 409 or 503 when it has done
nothing. After anything else nobody knows but the store, which ``truth()`` looks into.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, update_session_auth_hash
from django.contrib.auth import login as auth_login
from django.contrib.auth import logout as auth_logout
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.cache import caches
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils.crypto import get_random_string

SessionStore = import_module(settings.SESSION_ENGINE).SessionStore
IN_CACHE = hasattr(SessionStore, "cache_key_prefix")


def page(view: Callable[[HttpRequest, Any], None]) -> Callable[[HttpRequest], HttpResponse]:
    """Do nothing where the store is away, or the browser is not in the session that is expected."""

    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        try:
            # Django takes a cache that is away for one that is empty.
            if settings.SESSION_ENGINE.endswith(".cache"):
                caches["default"].get("anything")
            lineage = request.session.get("lineage") if request.user.is_authenticated else None
            user = User.objects.filter(pk=request.GET.get("user"), is_active=True).first()
        except Exception:
            return HttpResponse(status=503)
        if lineage != request.GET.get("expected") or ("user" in request.GET and user is None):
            return HttpResponse(status=409)
        view(request, user)
        return HttpResponse("done")

    return guarded


@page
def look(request: HttpRequest, user: Any) -> None:
    pass


@page
def login(request: HttpRequest, user: Any) -> None:
    auth_login(request, user)  # flushes the session of somebody else
    request.session.setdefault("lineage", request.GET["lineage"])


@page
def logout(request: HttpRequest, user: Any) -> None:
    auth_logout(request)


@page
def cycle(request: HttpRequest, user: Any) -> None:
    request.session.cycle_key()


@page
def password(request: HttpRequest, user: Any) -> None:
    request.user.set_password(get_random_string(12))
    request.user.save(update_fields=["password"])
    update_session_auth_hash(request, request.user)


@page
def deactivate(request: HttpRequest, user: Any) -> None:
    user.is_active = False
    user.save(update_fields=["is_active"])


@page
def delete(request: HttpRequest, user: Any) -> None:
    SessionStore().delete(request.GET["key"])


def session_keys() -> set[str]:
    if SessionStore.__module__.endswith(".file"):
        prefix = settings.SESSION_COOKIE_NAME
        return {name.removeprefix(prefix) for name in os.listdir(settings.SESSION_FILE_PATH)}
    keys = set(Session.objects.values_list("session_key", flat=True))
    if IN_CACHE:
        prefix = SessionStore.cache_key_prefix
        found = caches["default"]._cache.get_client().scan_iter(f"*{prefix}*")
        keys |= {name.decode().rpartition(prefix)[2] for name in found}
    return keys


def truth(request: HttpRequest) -> JsonResponse:
    """Say which sessions somebody is in by. It writes nothing, as a look of Django's would."""
    found = []
    for session in map(SessionStore, session_keys()):
        user = User.objects.filter(pk=session.get(SESSION_KEY), is_active=True).first()
        if user and session.get(HASH_SESSION_KEY) == user.get_session_auth_hash():
            found.append(session["lineage"])
    return JsonResponse({"in": found})


VIEWS = [look, login, logout, cycle, password, deactivate, delete, truth]
urlpatterns = [path(f"{view.__name__}/", view) for view in VIEWS]
