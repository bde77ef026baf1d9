"""The pages of the soak: what a server process holds, and logging in and out."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections import Counter
from pathlib import Path

from django.conf import settings
from django.contrib.auth import login as auth_login
from django.contrib.auth import logout as auth_logout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from django_ws_dispatch.brokers import opened_brokers
from django_ws_dispatch.conf import conf
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.groups import members as registry

LANE = "websocket-lane-"
# Those that look after the lanes are there while there is something to look after.
PASSING = ("ThreadPoolExecutor", "websocket-lane")


async def state(request: HttpRequest) -> JsonResponse:
    gc.collect()
    await asyncio.sleep(0)  # generators that were collected end in tasks
    files = []
    for one in os.listdir("/proc/self/fd"):
        try:
            files.append(os.readlink(Path("/proc/self/fd", one)))
        except OSError:
            continue  # that of the listing itself
    database = settings.DATABASES["default"]["NAME"]
    members, subscriptions, idle = 0, 0, 0
    for link in registry.local()._links.values():
        members += sum(len(group.channel.members) for group in link.groups.values())
        for subscriber in link.subscriber._subscribers:  # type: ignore[attr-defined]
            subscriptions += len(subscriber.wanted.subscriptions)
    for broker in opened_brokers():
        # How many connections a pool keeps is not a matter of who is here now.
        idle += sum(len(one._idle) for one in broker._calls)  # type: ignore[attr-defined]
        for local in broker._local.values():  # type: ignore[attr-defined]
            idle += sum(len(one._idle) for one in local.calls)
    watch = connections.local().watch
    verifier = watch.verifier
    looked_at = (verifier._ready, verifier._looking, verifier._pauses, verifier._doubted)
    most = conf.sync_threads
    threads = sorted(thread.name for thread in threading.enumerate())
    tasks = Counter(_name(task) for task in asyncio.all_tasks())
    return JsonResponse(
        {
            "sockets": connections.count(),
            "members": members,
            "subscriptions": subscriptions,
            "watched": len(watch._by_user) + len(watch._by_session) + len(watch._resolving),
            "verified": sum(map(len, looked_at)) + len(verifier._timers) + len(verifier._again),
            "database connections": files.count(database),
            "tasks": sum(tasks.values()),
            # asgiref has a thread for each request, this one and one that is just ending.
            "threads": sum(not name.startswith(PASSING) for name in threads),
            "lanes too many": max(sum(name.startswith(LANE) for name in threads) - most, 0),
            "files": len(files) - idle,
            "of tasks": dict(tasks),
            "of threads": threads,
        }
    )


def _name(task: asyncio.Task[object]) -> str:
    coroutine = task.get_coro()
    return getattr(coroutine, "__qualname__", repr(coroutine))


def login(request: HttpRequest) -> HttpResponse:
    auth_login(request, User.objects.get(username=request.GET["user"]))
    return HttpResponse("in")


def logout(request: HttpRequest) -> HttpResponse:
    auth_logout(request)
    return HttpResponse("out")


urlpatterns = [path("state/", state), path("login/", login), path("logout/", logout)]
