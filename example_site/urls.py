from django.contrib.auth.views import LoginView, LogoutView
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import path

from .playground import views

urlpatterns = [
    path("", views.ping, name="ping"),
    path("rooms/", views.rooms, name="rooms"),
    path("rooms/<slug:slug>/", views.room, name="room"),
    path("notices/", views.notices, name="notices"),
    path("notices/send/", views.send_notice, name="send-notice"),
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    # runserver serves these anyway; with this line so does plain uvicorn, as long as DEBUG is on.
    *staticfiles_urlpatterns(),
]
