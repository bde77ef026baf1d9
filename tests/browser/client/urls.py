from __future__ import annotations

import json
from pathlib import Path

from django.contrib.staticfiles import finders
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path

from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group, since_token


def page(request: HttpRequest) -> HttpResponse:
    """Return a page with a socket: see ``pages.address()``."""
    asked = json.loads(request.GET["asked"])
    if "url" not in asked:
        asked["options"].setdefault("since", since_token(f"talk:{asked['talk']}"))
    return render(request, "page.html", {"asked": asked})


def client(request: HttpRequest) -> HttpResponse:
    found = finders.find("django_ws_dispatch/client.js")
    return HttpResponse(Path(str(found)).read_bytes(), content_type="text/javascript")


def say(request: HttpRequest, name: str) -> HttpResponse:
    try:
        Group(f"talk:{name}").send(request.body.decode())
    except BrokerError:
        return HttpResponse(status=503)
    return HttpResponse(status=201)


def logged_in(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=204 if request.user.is_authenticated else 401)


urlpatterns = [
    path("page/", page),
    path("client.js", client),
    path("say/<slug:name>/", say),
    path("logged-in/", logged_in),
]
