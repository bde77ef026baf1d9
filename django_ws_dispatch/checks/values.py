"""What is wrong with one setting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from django.core.checks import Error
from django.core.exceptions import ImproperlyConfigured

from ..brokers import build_broker
from ..conf import SETTINGS, conf
from ..dispatcher.lifespan import load_lifespan
from ..groups.namespaces import load_namespace
from ..groups.options import load_groups
from ..handshake.allowed import load_allowed_origins
from ..handshake.middleware import Chain
from ..lanes import load_sync_context

__all__ = ["SETTING_CHECKS", "check_settings", "setting_error"]

# Property of conf -> id, what to write.
SETTING_CHECKS = {
    "handlers": ("E001", '{"ws/ping/": "chat.sockets.ping"}'),
    "allowed_origins": ("E003", '["https://example.com"], or None for the page\'s own origin'),
    "middleware": ("E004", '["django.middleware.locale.LocaleMiddleware"], or []'),
    "max_message_size": ("E005", "1024 * 1024, the default"),
    "rate_limit": ("E006", '"20/s", or None for no limit'),
    "idle_timeout": ("E007", "300, or None for no limit"),
    "max_connections": ("E008", "1000, or None for no limit"),
    "outbox_size": ("E009", "1024 * 1024, the default"),
    "sync_threads": ("E010", "4, the default"),
    "brokers": (
        "E011",
        '{"default": {"BACKEND": "django_ws_dispatch.brokers.redis.RedisBroker", "LOCATION": '
        '"redis://127.0.0.1:6379/0"}}, or leave it out for the memory broker',
    ),
    "lifespan": ("E012", "the dotted path of an @asynccontextmanager function, or None"),
    "sync_context": (
        "E014",
        "the dotted path of a function of the websocket that returns a context manager, or None",
    ),
    "namespace": ("E015", "the dotted path of a function of the request, or None"),
    "drain": ("E016", "20, or 0 to tell all sockets at once"),
    "groups": ("E017", '{"room:*": {"history": 100, "presence": True}}, or {} to remember nothing'),
}

# What is built of a setting alone, and may fail where its property does not.
_BUILT: dict[str, Callable[[], object]] = {
    "allowed_origins": load_allowed_origins,
    "lifespan": load_lifespan,
    "sync_context": load_sync_context,
    "namespace": load_namespace,
    "groups": load_groups,
}


def check_settings() -> Iterator[Error]:
    """Check every setting, but for the routes."""
    said: set[str] = set()  # a wrong broker is one also for the groups
    for attribute in SETTINGS:
        for problem in _problems(attribute):
            if problem not in said:
                said.add(problem)
                yield setting_error(attribute, problem)


def setting_error(attribute: str, problem: str) -> Error:
    """Return what says that a setting is wrong, and what to write."""
    number, example = SETTING_CHECKS[attribute]
    hint = f"Write {SETTINGS[attribute]} = {example}."
    return Error(problem, hint=hint, id=f"ws_dispatch.{number}")


def _problems(attribute: str) -> Iterator[str]:
    try:
        value = getattr(conf, attribute)
    except ImproperlyConfigured as exc:
        yield str(exc)
        return
    attempts: list[Callable[[], object]] = []
    if attribute == "middleware":
        attempts = [partial(Chain, [path]) for path in value]
    elif attribute == "brokers":
        attempts = [partial(build_broker, *item) for item in value.items()]
    elif attribute in _BUILT:
        attempts = [_BUILT[attribute]]
    for attempt in attempts:
        try:
            attempt()
        except ImproperlyConfigured as exc:
            yield str(exc)
        except Exception as exc:
            yield f"{SETTINGS[attribute]} can not be used: {type(exc).__name__}: {exc}."
