"""The site of the benchmarks. Its server processes get their differences from the environment."""

import json
import os
import tempfile

DIRECTORY = os.environ.get("BENCHMARK_DIRECTORY") or tempfile.gettempdir()

SECRET_KEY = "benchmarks-only"
ALLOWED_HOSTS = ["testserver", "127.0.0.1"]
USE_TZ = True
ROOT_URLCONF = "benchmarks.urls"
INSTALLED_APPS = [
    "django_ws_dispatch",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
]
MIDDLEWARE: list[str] = []
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{DIRECTORY}/benchmark.sqlite3"}
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOGGING_CONFIG = None

WEBSOCKET_HANDLERS = {
    "ws/raw/": "benchmarks.handlers.raw_echo",
    "ws/echo/": "benchmarks.handlers.echo",
    "ws/request/": "benchmarks.handlers.request_echo",
    "ws/session/": "benchmarks.handlers.session_echo",
    "ws/user/": "benchmarks.handlers.user_echo",
    "ws/full/": "benchmarks.handlers.full_echo",
    "ws/member/": "benchmarks.handlers.member",
    "ws/publish/": "benchmarks.handlers.publish",
    "ws/block/": "benchmarks.handlers.block",
    "ws/return/": "benchmarks.handlers.come_back",
    "ws/enter/": "benchmarks.handlers.come_in",
}
# Only where it is measured: without a pattern there is nothing to look for.
WEBSOCKET_GROUPS = json.loads(os.environ.get("BENCHMARK_GROUPS", "{}"))

CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
if BROKER := os.environ.get("BENCHMARK_BROKER"):
    WEBSOCKET_BROKERS = {
        "default": {
            "BACKEND": "django_ws_dispatch.brokers.redis.RedisBroker",
            "LOCATION": f"unix://{BROKER}",
        }
    }
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            # redis-py 8 has defaults that are too small for a socket with a blocking read each.
            "CONFIG": {
                "hosts": [
                    {
                        "address": f"unix://{BROKER}",
                        "max_connections": 10_000,
                        "socket_timeout": 60,
                    }
                ]
            },
        }
    }
