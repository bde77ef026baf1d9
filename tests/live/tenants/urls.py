"""The pages of both sites."""

from __future__ import annotations

from typing import Any

from django.contrib import auth
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.urls import path

from django_ws_dispatch.groups import Group, user_group

from .sockets import texts


def rows(request: Any) -> HttpResponse:
    return HttpResponse(",".join(texts()))


def say(request: Any) -> HttpResponse:
    Group("lobby").send(request.GET["text"])
    return HttpResponse("said")


def tell(request: Any) -> HttpResponse:
    user_group(User.objects.get(username=request.GET["user"])).send(request.GET["text"])
    return HttpResponse("told")


def login(request: Any) -> HttpResponse:
    auth.login(request, User.objects.get(username=request.GET["user"]))
    return HttpResponse("in")


def logout(request: Any) -> HttpResponse:
    auth.logout(request)
    return HttpResponse("out")


def password(request: Any) -> HttpResponse:
    user = User.objects.get(username=request.GET["user"])
    user.set_password("another")
    user.save()
    return HttpResponse("changed")


def own_password(request: Any) -> HttpResponse:
    """Of who asks, whose session goes on with another key."""
    request.user.set_password("another")
    request.user.save()
    auth.update_session_auth_hash(request, request.user)
    return HttpResponse("changed")


def active(request: Any) -> HttpResponse:
    user = User.objects.get(username=request.GET["user"])
    user.is_active = request.GET["to"] == "1"
    user.save()
    return HttpResponse("saved")


urlpatterns = [
    path("rows/", rows),
    path("unset/", rows),
    path("say/", say),
    path("tell/", tell),
    path("login/", login),
    path("logout/", logout),
    path("password/", password),
    path("own-password/", own_password),
    path("active/", active),
]
