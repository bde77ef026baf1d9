from django.http import HttpRequest, HttpResponse
from django.urls import path


async def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("page", headers={"Content-Length": "4"})


urlpatterns = [path("page/", page)]
