from django.contrib.auth import login as auth_login
from django.contrib.auth import logout as auth_logout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import path


def login(request: HttpRequest) -> HttpResponse:
    auth_login(request, User.objects.get(username="ann"))
    return HttpResponse("in")


def logout(request: HttpRequest) -> HttpResponse:
    auth_logout(request)
    return HttpResponse("out")


urlpatterns = [path("login/", login), path("logout/", logout)]
