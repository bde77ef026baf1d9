from django.contrib.auth import login as auth_login
from django.contrib.auth import logout as auth_logout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import path


def login(request: HttpRequest, name: str) -> HttpResponse:
    user = User.objects.get(username=name)
    auth_login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    request.session["colour"] = "red"
    return HttpResponse("in")


def logout(request: HttpRequest) -> HttpResponse:
    auth_logout(request)
    return HttpResponse("out")


urlpatterns = [path("login/<str:name>/", login), path("logout/", logout)]
