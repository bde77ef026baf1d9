"""Pages for the tests of the live server."""

import threading

from django.contrib.auth.models import User
from django.http import HttpResponse, JsonResponse
from django.urls import path


def users(request):
    """Create a user if there is a name; say which there are, and where this ran."""
    if "name" in request.GET:
        User.objects.create(username=request.GET["name"])
    return JsonResponse(
        {
            "users": list(User.objects.order_by("pk").values_list("username", flat=True)),
            "thread": threading.current_thread().name,
        }
    )


async def ausers(request):
    if "name" in request.GET:
        await User.objects.acreate(username=request.GET["name"])
    return JsonResponse({"users": [user.username async for user in User.objects.order_by("pk")]})


def host(request):
    return HttpResponse(request.build_absolute_uri())


urlpatterns = [path("users/", users), path("ausers/", ausers), path("host/", host)]
