from __future__ import annotations

import inspect

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from django_ws_dispatch.groups import since_token, user_group

from . import sockets
from .models import EVERYBODY, Message, Notice, Room

FORMS = [
    {
        "route": "ping",
        "title": "The WebSocket form",
        "says": "A coroutine with a WebSocket object. It echoes what is not a ping.",
        "code": inspect.getsource(sockets.ping),
    },
    {
        "route": "raw-ping",
        "title": "The raw ASGI form",
        "says": "What many sites have today, mounted unchanged. It answers a ping alone.",
        "code": inspect.getsource(sockets.raw_ping),
        "plain": True,
    },
]


@require_safe
def ping(request: HttpRequest) -> HttpResponse:
    return render(request, "playground/ping.html", {"forms": FORMS})


@require_safe
@login_required
def rooms(request: HttpRequest) -> HttpResponse:
    return render(request, "playground/rooms.html", {"rooms": Room.overview()})


@require_safe
@login_required
def room(request: HttpRequest, slug: str) -> HttpResponse:
    place = get_object_or_404(Room, slug=slug)
    context = {
        "room": place,
        # Before the messages are read: nothing falls between, and the page drops what comes twice.
        "since": since_token(place.group),
        "messages": place.newest(),
        "max_length": Message.MAX_LENGTH,
    }
    return render(request, "playground/room.html", context)


@require_safe
@login_required
def notices(request: HttpRequest) -> HttpResponse:
    since = since_token(EVERYBODY, user_group(request.user))
    context = {"since": since, "notices": Notice.visible_to(request.user)[:20]}
    return render(request, "playground/notices.html", context)


@require_POST
@login_required
def send_notice(request: HttpRequest) -> HttpResponse:
    """A plain Django view: it writes a row, and says so to the open pages once it is committed."""
    text = request.POST.get("text", "").strip()[:200]
    if not text:
        return JsonResponse({"error": "Write something first."}, status=400)
    with transaction.atomic():
        user_id = request.user.pk if request.POST.get("to") == "me" else None
        notice = Notice.objects.create(user_id=user_id, text=text)
        transaction.on_commit(notice.publish)
    if request.accepts("text/html"):
        messages.success(request, "Sent.")
        return redirect("notices")
    return JsonResponse({"id": notice.pk}, status=201)
