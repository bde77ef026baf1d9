"""The pages: they send to groups as a form would, and say where groups stand."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import path

from django_ws_dispatch.groups import Group, since_token, user_group
from tests.live.envelope.sockets import gates


def say(request: HttpRequest, group: str) -> HttpResponse:
    """Send what is posted, to all but the page that posts."""
    data: str | bytes = request.body
    if request.content_type != "application/octet-stream":
        data = request.body.decode()
    position = Group(group).send(data, exclude=request.headers.get("X-Socket-ID"))
    return HttpResponse(position or "")


def say_to_user(request: HttpRequest, pk: int) -> HttpResponse:
    return HttpResponse(user_group(User(pk=pk)).send(request.body.decode()))


def token(request: HttpRequest, names: str) -> HttpResponse:
    """A page that will listen."""
    return HttpResponse(since_token(*names.split(",")))


def user_token(request: HttpRequest, pk: int) -> HttpResponse:
    return HttpResponse(since_token(user_group(User(pk=pk))))


def release(request: HttpRequest, gate: str) -> HttpResponse:
    """Let a handler go on."""
    gates[gate].set()
    return HttpResponse()


urlpatterns = [
    path("say/<str:group>/", say),
    path("say-to-user/<int:pk>/", say_to_user),
    path("token/<str:names>/", token),
    path("user-token/<int:pk>/", user_token),
    path("release/<str:gate>/", release),
]
