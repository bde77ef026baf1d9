import os
from pathlib import Path

from django_ws_dispatch.routing import path

BASE_DIR = Path(__file__).resolve().parent

DEBUG = True
SECRET_KEY = "for-the-demo-only"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = [
    "django_ws_dispatch",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "example_site.playground",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
ROOT_URLCONF = "example_site.urls"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("EXAMPLE_DATABASE", BASE_DIR / "example.sqlite3"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "rooms"
LOGOUT_REDIRECT_URL = "ping"
TIME_ZONE = "UTC"
USE_TZ = True

ASGI_APPLICATION = "example_site.asgi.application"
WEBSOCKET_HANDLERS = [
    path("ws/ping/", "example_site.playground.sockets.ping", name="ping"),
    path("ws/raw/", "example_site.playground.sockets.raw_ping", name="raw-ping"),
    path("ws/rooms/<slug:slug>/", "example_site.playground.sockets.room", name="room"),
    path("ws/notices/", "example_site.playground.sockets.notices", name="notices"),
]
# A page that was away gets what was sent meanwhile: so many messages, for an hour. And a room knows
# who is in it.
WEBSOCKET_GROUPS = {
    "room:*": {"history": 200, "ttl": 3600, "presence": True},
    "notices": {"history": 50, "ttl": 3600},
    "<user>": {"history": 50, "ttl": 3600},
}
# Several processes, or a command that wants to be heard, need a broker that they share.
if "REDIS_URL" in os.environ:
    WEBSOCKET_BROKERS = {
        "default": {
            "BACKEND": "django_ws_dispatch.brokers.redis.RedisBroker",
            "LOCATION": os.environ["REDIS_URL"],
        }
    }
