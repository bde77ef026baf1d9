from django.contrib.auth import login as auth_login
from django.contrib.auth import logout as auth_logout
from django.contrib.auth.models import User
from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path


def login(request: HttpRequest) -> HttpResponse:
    auth_login(request, User.objects.get(username="ann"))
    return HttpResponse("in")


def logout(request: HttpRequest) -> HttpResponse:
    auth_logout(request)
    return HttpResponse("out")


def count(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(User.objects.count()))


def pool(request: HttpRequest) -> JsonResponse:
    return JsonResponse(connections["default"].pool.get_stats())


urlpatterns = [
    path("login/", login),
    path("logout/", logout),
    path("count/", count),
    path("pool/", pool),
]
