"""Right sites and wrong ones, and what the checks find there."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required as views_login_required
from django.core.asgi import get_asgi_application as django_application
from django.test import override_settings

from django_ws_dispatch import checks
from tests.handlers import raw_ping


async def one(websocket: Any) -> None:
    """A handler of its own for each test that decorates."""


async def one_room(websocket: Any, a: str) -> None: ...


async def other_room(websocket: Any, b: str) -> None: ...


def plain(websocket: Any) -> None:
    """Not a coroutine function."""


class Consumer:
    @classmethod
    def as_asgi(cls) -> Any:
        return raw_ping


class BrokenMiddleware:
    def __init__(self, get_response: Any) -> None:
        raise RuntimeError("no key")


decorated = views_login_required(plain)


django_app = django_application()


def found(**changed: Any) -> list[Any]:
    with override_settings(**changed):
        return checks.check_websockets()


def ids(messages: list[Any]) -> list[str]:
    return [message.id.removeprefix("ws_dispatch.") for message in messages]


def deployment(**changed: Any) -> list[Any]:
    with override_settings(**changed):
        return checks.check_deployment()


WRONG = {
    "WEBSOCKET_HANDLERS": ("E001", 5),
    "WEBSOCKET_ALLOWED_ORIGINS": ("E003", ["example.com"]),
    "WEBSOCKET_MIDDLEWARE": ("E004", "one.string"),
    "WEBSOCKET_MAX_MESSAGE_SIZE": ("E005", "1"),
    "WEBSOCKET_RATE_LIMIT": ("E006", 20),
    "WEBSOCKET_IDLE_TIMEOUT": ("E007", -1),
    "WEBSOCKET_MAX_CONNECTIONS": ("E008", 0),
    "WEBSOCKET_OUTBOX_SIZE": ("E009", 1.5),
    "WEBSOCKET_SYNC_THREADS": ("E010", None),
    "WEBSOCKET_BROKERS": ("E011", {"other": {}}),
    "WEBSOCKET_LIFESPAN": ("E012", 5),
    "WEBSOCKET_DRAIN": ("E016", "20"),
    "WEBSOCKET_GROUPS": ("E017", {"room:*": {"history": "100"}}),
}
