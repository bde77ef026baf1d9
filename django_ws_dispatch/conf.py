"""The settings of this package: one property each, read on access, so that ``override_settings``
just works.

A property raises ``ImproperlyConfigured`` where its setting is wrong; the application raises it
when it is built, ``manage.py check`` reports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .limits import Rate, parse_rate

__all__ = ["SETTINGS", "Conf", "conf", "import_function", "import_setting", "strings"]

MEMORY_BROKER = "django_ws_dispatch.brokers.memory.MemoryBroker"
MEBIBYTE = 1024 * 1024
MAX_SECONDS = 1e9
MAX_THREADS = 10_000
MAX_HISTORY = 100_000
MAX_TTL = 31_536_000
# Keys that are listed of who is here: with True, and at most.
PRESENT, MAX_PRESENT = 200, 1000
MAX_LINGER = 300
ORIGINS = 'origins such as "https://example.com"'


def _wrong(name: str, value: object, expected: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{name} must be {expected}, not {value!r}.")


def _positive_int(name: str, unit: str, default: int | None = None, most: float = inf) -> int:
    value = getattr(settings, name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise _wrong(name, value, f"a positive whole number of {unit}")
    return value


def strings(name: str, value: object, what: str) -> list[str]:
    """Return the value of a setting or decorator as a list of strings, which it has to be."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise _wrong(name, value, f"a list of {what}")
    return list(value)


def _dotted_path(name: str, of: str) -> str | None:
    value = getattr(settings, name, None)
    if value is not None and not isinstance(value, str):
        raise _wrong(name, value, f"the dotted path of {of}")
    return value


def import_setting(name: str, path: str, remedy: str) -> Any:
    """Return what is at a dotted path in a setting, or raise ``ImproperlyConfigured``."""
    try:
        return import_string(path)
    except (ImportError, TypeError, ValueError) as exc:  # the last two for ".." and "."
        raise ImproperlyConfigured(
            f"{name}: {path!r} can not be imported: {exc}. {remedy}"
        ) from exc


def import_function(name: str, path: str, remedy: str) -> Any:
    """Return what can be called at a dotted path, or raise ``ImproperlyConfigured``."""
    function = import_setting(name, path, remedy)
    if not callable(function):
        raise ImproperlyConfigured(f"{name}: {path!r} is {function!r}, and no function. {remedy}")
    return function


def _group_options(pattern: object, value: object) -> dict[str, Any]:
    name = f"WEBSOCKET_GROUPS[{pattern!r}]"
    if not isinstance(pattern, str) or not pattern:
        raise ImproperlyConfigured(
            f"{name}: a pattern is a str that is not empty. Write one such as "
            '"room:*", or "<user>" for the groups of users.'
        )
    options = {
        "history": 0,
        "ttl": 3600,
        "presence": False,
        "linger": 10,
        "broker": "default",
    }
    if not isinstance(value, Mapping):
        raise _wrong(name, value, 'a dict of options such as {"history": 100}')
    if unknown := ", ".join(sorted(map(repr, set(value) - set(options)))):
        raise ImproperlyConfigured(
            f"{name} takes {', '.join(map(repr, options))}; remove {unknown}."
        )
    options.update(value)
    history, ttl = options["history"], options["ttl"]
    if isinstance(history, bool) or not isinstance(history, int) or not 0 <= history <= MAX_HISTORY:
        expected = f"a whole number of messages from 0, for none, to {MAX_HISTORY}"
        raise _wrong(f"{name}['history']", history, expected)
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 1 <= ttl <= MAX_TTL:
        raise _wrong(f"{name}['ttl']", ttl, f"a number of seconds from 1 to {MAX_TTL}")
    presence, linger = options["presence"], options["linger"]
    if not isinstance(presence, bool) and (
        not isinstance(presence, int) or not 1 <= presence <= MAX_PRESENT
    ):
        expected = f"True, False, or how many keys are listed, from 1 to {MAX_PRESENT}"
        raise _wrong(f"{name}['presence']", presence, expected)
    if (
        isinstance(linger, bool)
        or not isinstance(linger, (int, float))
        or not 0 <= linger <= MAX_LINGER
    ):
        raise _wrong(f"{name}['linger']", linger, f"a number of seconds from 0 to {MAX_LINGER}")
    if isinstance(presence, bool):
        presence = PRESENT if presence else 0
    return {**options, "ttl": float(ttl), "presence": presence, "linger": float(linger)}


class Conf:
    """The settings, checked at every access."""

    @property
    def handlers(self) -> Any:
        """``WEBSOCKET_HANDLERS``: a dict, a list of routes, or a dotted path to a module."""
        value = getattr(settings, "WEBSOCKET_HANDLERS", None)
        if value is None:
            raise ImproperlyConfigured(
                "WEBSOCKET_HANDLERS is not set. Add it to the settings, for example "
                'WEBSOCKET_HANDLERS = {"ws/ping/": "chat.sockets.ping"}.'
            )
        relative = isinstance(value, str) and (not value or value.startswith("."))
        if relative or not isinstance(value, (Mapping, list, tuple, str)):
            raise _wrong(
                "WEBSOCKET_HANDLERS",
                value,
                "a dict of route -> handler, a list of path() and re_path(), or the dotted path of "
                "a module with urlpatterns",
            )
        return value

    @property
    def allowed_origins(self) -> list[str] | None:
        """``WEBSOCKET_ALLOWED_ORIGINS``: strings, or ``None``. See ``load_allowed_origins()``."""
        value = getattr(settings, "WEBSOCKET_ALLOWED_ORIGINS", None)
        return None if value is None else strings("WEBSOCKET_ALLOWED_ORIGINS", value, ORIGINS)

    @property
    def middleware(self) -> list[str]:
        """``WEBSOCKET_MIDDLEWARE``: dotted paths of Django middleware."""
        name = "WEBSOCKET_MIDDLEWARE"
        return strings(name, getattr(settings, name, []), "dotted paths of Django middleware")

    @property
    def max_message_size(self) -> int:
        """``WEBSOCKET_MAX_MESSAGE_SIZE``: bytes in one incoming message."""
        return _positive_int("WEBSOCKET_MAX_MESSAGE_SIZE", "bytes", MEBIBYTE)

    @property
    def rate_limit(self) -> Rate | None:
        """``WEBSOCKET_RATE_LIMIT``: messages per time, like ``"20/s"``."""
        value = getattr(settings, "WEBSOCKET_RATE_LIMIT", None)
        try:
            return None if value is None else parse_rate(value)
        except ValueError as exc:
            raise ImproperlyConfigured(f"WEBSOCKET_RATE_LIMIT: {exc}.") from exc

    @property
    def idle_timeout(self) -> float | None:
        """``WEBSOCKET_IDLE_TIMEOUT``: seconds without a message from the client."""
        value = getattr(settings, "WEBSOCKET_IDLE_TIMEOUT", None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise _wrong("WEBSOCKET_IDLE_TIMEOUT", value, "a positive number of seconds or None")
        # A whole number may be larger than any float.
        return float(min(value, MAX_SECONDS))

    @property
    def max_connections(self) -> int | None:
        """``WEBSOCKET_MAX_CONNECTIONS``: open sockets in this process."""
        name = "WEBSOCKET_MAX_CONNECTIONS"
        if getattr(settings, name, None) is None:
            return None
        return _positive_int(name, "open sockets or None")

    @property
    def outbox_size(self) -> int:
        """``WEBSOCKET_OUTBOX_SIZE``: bytes of memory of group messages for one slow client."""
        return _positive_int("WEBSOCKET_OUTBOX_SIZE", "bytes", MEBIBYTE)

    @property
    def sync_threads(self) -> int:
        """``WEBSOCKET_SYNC_THREADS``: threads that all sockets of a process share."""
        # Each takes memory at the first sync call.
        unit = f"threads, {MAX_THREADS} at most"
        return _positive_int("WEBSOCKET_SYNC_THREADS", unit, 4, MAX_THREADS)

    @property
    def brokers(self) -> dict[str, dict[str, Any]]:
        """``WEBSOCKET_BROKERS``: alias -> ``BACKEND``, ``LOCATION``, ``OPTIONS``."""
        name = "WEBSOCKET_BROKERS"
        value = getattr(settings, name, None)
        if value is None:
            return {"default": {"BACKEND": MEMORY_BROKER}}
        if not isinstance(value, Mapping) or "default" not in value:
            # The options may have a password.
            came = type(value).__name__
            if isinstance(value, Mapping):
                came = f"one of {', '.join(map(repr, value)) or 'nothing'}"
            raise ImproperlyConfigured(
                f'{name} must be a dict of alias -> options with an alias "default", not {came}.'
            )
        for alias, options in value.items():
            if not isinstance(options, Mapping) or not isinstance(options.get("BACKEND"), str):
                raise ImproperlyConfigured(
                    f"{name}[{alias!r}] must be a dict with a BACKEND, the dotted path of a "
                    f'broker class such as "{MEMORY_BROKER}".'
                )
            unknown = set(options) - {"BACKEND", "LOCATION", "OPTIONS"}
            if unknown or not isinstance(options.get("OPTIONS", {}), Mapping):
                raise ImproperlyConfigured(
                    f"{name}[{alias!r}] takes BACKEND, LOCATION and OPTIONS (a dict); "
                    f"remove or move {', '.join(sorted(map(repr, unknown))) or 'OPTIONS'}."
                )
        return {alias: dict(options) for alias, options in value.items()}

    @property
    def groups(self) -> dict[str, dict[str, Any]]:
        """``WEBSOCKET_GROUPS``: pattern -> all of its options. See ``load_groups()``.

        It is in the order of the setting: the first pattern that fits counts.
        """
        value = getattr(settings, "WEBSOCKET_GROUPS", {})
        if not isinstance(value, Mapping):
            expected = 'a dict of pattern -> options such as {"room:*": {"history": 100}}'
            raise _wrong("WEBSOCKET_GROUPS", value, expected)
        groups = {pattern: _group_options(pattern, one) for pattern, one in value.items()}
        # Last, and only with groups: what is wrong with the brokers is no matter of this setting.
        aliases = self.brokers if groups else {}
        for pattern, options in groups.items():
            broker = options["broker"]
            if not isinstance(broker, str) or broker not in aliases:
                name = f"WEBSOCKET_GROUPS[{pattern!r}]['broker']"
                expected = f"an alias of WEBSOCKET_BROKERS, one of {', '.join(map(repr, aliases))}"
                raise _wrong(name, broker, expected)
        return groups

    @property
    def drain(self) -> float:
        """``WEBSOCKET_DRAIN``: seconds in which all sockets are told that the server stops."""
        value = getattr(settings, "WEBSOCKET_DRAIN", 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
            raise _wrong("WEBSOCKET_DRAIN", value, "a number of seconds, or 0")
        return float(min(value, MAX_SECONDS))

    @property
    def lifespan(self) -> str | None:
        """``WEBSOCKET_LIFESPAN``: dotted path of an ``@asynccontextmanager`` function."""
        of = "an @asynccontextmanager function without arguments"
        return _dotted_path("WEBSOCKET_LIFESPAN", of)

    @property
    def namespace(self) -> str | None:
        """``WEBSOCKET_NAMESPACE``: dotted path of a function of the request."""
        return _dotted_path("WEBSOCKET_NAMESPACE", "a function of the request, or None")

    @property
    def sync_context(self) -> str | None:
        """``WEBSOCKET_SYNC_CONTEXT``: dotted path of a function of the websocket."""
        of = "a function of the websocket that returns a context manager, or None"
        return _dotted_path("WEBSOCKET_SYNC_CONTEXT", of)


conf = Conf()

# Attribute of Conf -> name of the setting.
SETTINGS = {
    name: "WEBSOCKET_" + name.upper()
    for name, value in vars(Conf).items()
    if isinstance(value, property)
}
