"""Brokers carry the messages of groups between processes (``WEBSOCKET_BROKERS``)."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from inspect import isabstract
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from ..conf import conf
from .base import BaseBroker

__all__ = ["BaseBroker", "build_broker", "get_broker", "opened_brokers"]

REMEDY = (
    'Write the dotted path of a broker class, as in "django_ws_dispatch.brokers.redis.RedisBroker".'
)

_brokers: dict[str, BaseBroker] = {}
# Those of earlier settings as well, as long as something holds them.
_opened: weakref.WeakSet[BaseBroker] = weakref.WeakSet()
_lock = threading.Lock()


def build_broker(alias: str, config: Mapping[str, Any]) -> BaseBroker:
    """Return a new broker for one entry of ``WEBSOCKET_BROKERS``; makes no connection.

    Args:
        alias: of the entry.
        config: its ``BACKEND``, ``LOCATION`` and ``OPTIONS``.

    Raises:
        ImproperlyConfigured: the backend can not be imported or made, or does not take its
            configuration.
    """
    backend = config["BACKEND"]
    which = f"WEBSOCKET_BROKERS[{alias!r}]: the BACKEND {backend!r}"
    try:
        broker_class = import_string(backend)
    except ImportError as exc:
        raise ImproperlyConfigured(f"{which} can not be imported: {exc}. {REMEDY}") from exc
    if not (isinstance(broker_class, type) and issubclass(broker_class, BaseBroker)):
        raise ImproperlyConfigured(
            f"{which} is not a subclass of django_ws_dispatch.brokers.BaseBroker."
        )
    if isabstract(broker_class):
        missing = ", ".join(sorted(broker_class.__abstractmethods__))
        raise ImproperlyConfigured(f"{which} is abstract, it has no {missing}. {REMEDY}")
    try:
        return broker_class(alias, config.get("LOCATION"), config.get("OPTIONS", {}))
    except ImproperlyConfigured:
        raise
    except Exception as exc:
        raise ImproperlyConfigured(
            f"{which} can not be made: {type(exc).__name__}: {exc}. A broker takes alias, location "
            "and options, as BaseBroker does, and raises ImproperlyConfigured where they are wrong."
        ) from exc


def get_broker(alias: str) -> BaseBroker:
    """Return this process's broker of that alias.

    Args:
        alias: a key of ``WEBSOCKET_BROKERS``.

    Raises:
        ImproperlyConfigured: ``WEBSOCKET_BROKERS`` has no such alias, or is wrong.
    """
    broker = _brokers.get(alias)
    if broker is not None:
        return broker
    with _lock:
        if alias not in _brokers:
            configs = conf.brokers
            if alias not in configs:
                raise ImproperlyConfigured(
                    f"There is no broker {alias!r} in WEBSOCKET_BROKERS. Add it, or use one of "
                    f"{', '.join(map(repr, configs))}."
                )
            _brokers[alias] = build_broker(alias, configs[alias])
            _opened.add(_brokers[alias])
        return _brokers[alias]


def opened_brokers() -> list[BaseBroker]:
    """Return the brokers that this process has used, those of an earlier setting included."""
    with _lock:
        return list(_opened)


def _rebuild(*, setting: str, **kwargs: Any) -> None:
    if setting == "WEBSOCKET_BROKERS":
        with _lock:
            brokers = list(_brokers.values())
            _brokers.clear()
        for broker in brokers:
            broker.close()


setting_changed.connect(_rebuild, dispatch_uid="django_ws_dispatch.brokers")
