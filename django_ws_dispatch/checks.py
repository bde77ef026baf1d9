"""System checks: what is wrong with the ``WEBSOCKET_...`` settings, and how to put it right.

===================  ==============================================================================
id                   says
===================  ==============================================================================
ws_dispatch.E001     ``WEBSOCKET_HANDLERS`` is not set, or can not be read.
ws_dispatch.E002     A route of ``WEBSOCKET_HANDLERS`` is wrong, or its handler is none.
ws_dispatch.E003     ``WEBSOCKET_ALLOWED_ORIGINS`` is wrong.
ws_dispatch.E004     ``WEBSOCKET_MIDDLEWARE`` is wrong, or names what is no middleware.
ws_dispatch.E005     ``WEBSOCKET_MAX_MESSAGE_SIZE`` is wrong.
ws_dispatch.E006     ``WEBSOCKET_RATE_LIMIT`` is wrong.
ws_dispatch.E007     ``WEBSOCKET_IDLE_TIMEOUT`` is wrong.
ws_dispatch.E008     ``WEBSOCKET_MAX_CONNECTIONS`` is wrong.
ws_dispatch.E009     ``WEBSOCKET_OUTBOX_SIZE`` is wrong.
ws_dispatch.E010     ``WEBSOCKET_SYNC_THREADS`` is wrong.
ws_dispatch.E011     ``WEBSOCKET_BROKERS`` is wrong, or a broker does not take its configuration.
ws_dispatch.E012     ``WEBSOCKET_LIFESPAN`` is wrong, or names what is no context manager.
ws_dispatch.E013     ``SECURE_PROXY_SSL_HEADER``, which the Origin check reads, is wrong.
ws_dispatch.E014     ``WEBSOCKET_SYNC_CONTEXT`` is wrong, or names what is no function.
ws_dispatch.E015     ``WEBSOCKET_NAMESPACE`` is wrong, or names what is no function.
ws_dispatch.W001     There is no ASGI application, or its import fails.
ws_dispatch.W002     The ASGI application leads to no ``WebSocketDispatcher``.
ws_dispatch.W003     The ``runserver`` of another app hides this package's.
ws_dispatch.W004     A route begins with a slash.
ws_dispatch.W005     Two routes differ only in the slash at their end.
ws_dispatch.W006     A route is there twice.
ws_dispatch.W007     ``--deploy``: the Origin check is turned off.
ws_dispatch.W008     ``--deploy``: any Host is allowed, which the Origin check compares with.
ws_dispatch.W009     ``--deploy``: a broker reaches this process only.
ws_dispatch.W010     An allowed origin is one that no browser sends.
ws_dispatch.W012     A handler has another one inside, whose decorators do not count.
===================  ==============================================================================

Django's own checks of URL patterns (``urls.W003`` and its like) run on the routes as well. No check
connects to a broker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.core.management import get_commands, load_command_class
from django.urls.resolvers import RegexPattern, URLResolver

from .asgi import NoApplication, application_path, leads_to_dispatcher, load_application
from .brokers import build_broker
from .conf import SETTINGS, conf
from .handshake.middleware import Chain
from .handshake.origin import OriginCheck
from .lanes import load_sync_context
from .lifespan import load_lifespan
from .lost import warnings
from .namespaces import load_namespace
from .origins import unsent
from .patterns import shape_of
from .routes import Routes

__all__ = ["check_deployment", "check_websockets", "register"]

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
}

# Said above in words of ours.
_OWN_WORDS = {"urls.W002", "urls.E009"}


def register() -> None:
    """Register the checks with Django, under the tag ``websockets``."""
    checks.register(check_websockets, "websockets")
    checks.register(check_deployment, "websockets", checks.Tags.security, deploy=True)


def check_websockets(app_configs: object = None, **kwargs: object) -> list[CheckMessage]:
    """Check the settings, every route, and that the site's ASGI application serves them.

    Args:
        app_configs, kwargs: Django's, and not used.
    """
    messages: list[CheckMessage] = [*_check_settings(), *_check_proxy(), *_check_order()]
    messages += _check_routes({message.msg for message in messages})
    messages += _check_unsent_origins()
    if not any(isinstance(message, Error) for message in messages):
        # A wrong setting stops the import of asgi.py: that has been said.
        messages += _check_application()
    return messages


def check_deployment(app_configs: object = None, **kwargs: object) -> list[CheckMessage]:
    """Check what is right for development only.

    Args:
        app_configs, kwargs: Django's, and not used.
    """
    return [*_check_open_origins(), *_check_open_hosts(), *_check_deaf_brokers()]


def _check_settings() -> Iterator[Error]:
    for attribute in SETTINGS:
        for problem in _problems(attribute):
            yield _setting_error(attribute, problem)


def _setting_error(attribute: str, problem: str) -> Error:
    number, example = SETTING_CHECKS[attribute]
    hint = f"Write {SETTINGS[attribute]} = {example}."
    return Error(problem, hint=hint, id=f"ws_dispatch.{number}")


def _problems(attribute: str) -> Iterator[str]:
    """Everything that is wrong with one setting, but for the routes."""
    name = SETTINGS[attribute]
    try:
        value = getattr(conf, attribute)
    except ImproperlyConfigured as exc:
        yield str(exc)
        return
    attempts: list[Callable[[], object]] = []
    if attribute == "middleware":
        attempts = [lambda path=path: Chain([path]) for path in value]  # type: ignore[misc]
    elif attribute == "brokers":
        attempts = [lambda item=item: build_broker(*item) for item in value.items()]  # type: ignore[misc]
    elif attribute == "lifespan":
        attempts = [load_lifespan]
    elif attribute == "sync_context":
        attempts = [load_sync_context]
    elif attribute == "namespace":
        attempts = [load_namespace]
    for attempt in attempts:
        try:
            attempt()
        except ImproperlyConfigured as exc:
            yield str(exc)
        except Exception as exc:
            yield f"{name} can not be used: {type(exc).__name__}: {exc}."


def _check_order() -> Iterator[Warning]:
    ours, theirs = "django_ws_dispatch", get_commands()["runserver"]
    with suppress(Exception):  # One that can not be imported says so itself.
        command = theirs != ours and load_command_class(theirs, "runserver")
        if command and not any(kind.__module__.startswith(ours) for kind in type(command).__mro__):
            yield Warning(
                f"'manage.py runserver' is that of {theirs!r}, which stands above {ours!r}.",
                hint=f"Put {ours!r} first.",
                id="ws_dispatch.W003",
            )


def _check_routes(said: set[str]) -> Iterator[CheckMessage]:
    try:
        routes = Routes(conf.handlers, strict=False)
        routes.learn_languages()
    except Exception as exc:
        problem = str(exc)
        if not isinstance(exc, ImproperlyConfigured):
            problem = f"WEBSOCKET_HANDLERS can not be read: {type(exc).__name__}: {exc}."
        if problem not in said:
            yield _setting_error("handlers", problem)
        return
    for route in routes.routes:
        # A wrong limit is wrong for every route; once is enough.
        if route.error is not None and route.error.problem not in said:
            yield Error(
                route.error.problem,
                hint=route.error.remedy or "Correct this route of WEBSOCKET_HANDLERS.",
                obj=_obj(route.route),
                id="ws_dispatch.E002",
            )
    handlers = ((_obj(one.route), one.handler) for one in routes.routes if one.handler is not None)
    yield from warnings(handlers, "ws_dispatch.W012")
    patterns = list(_walk(routes.reverse_conf.urlpatterns, ""))
    yield from _check_slashes(patterns)
    yield from _check_twins(patterns)
    yield from _check_patterns(patterns)


def _obj(route: str) -> str:
    return f"WEBSOCKET_HANDLERS[{route!r}]"


def _walk(patterns: Iterable[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Every pattern once, behind the text of those around it."""
    seen = set()
    for pattern in patterns:
        if id(pattern.pattern) in seen:
            continue  # the same again, under its handler's dotted path
        seen.add(id(pattern.pattern))
        yield prefix, pattern
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, prefix + str(pattern.pattern))


def _check_slashes(patterns: Iterable[tuple[str, Any]]) -> Iterator[Warning]:
    for prefix, pattern in patterns:
        text = str(pattern.pattern)
        slashes = ("/", "^/", "^\\/", "\\/") if isinstance(pattern.pattern, RegexPattern) else "/"
        if text.startswith(slashes) and (not prefix or prefix.endswith("/")):
            yield Warning(
                "The route begins with a slash, so that only a path with two of them fits it.",
                hint="Remove the slash: Django matches what follows the first one.",
                obj=_obj(prefix + text),
                id="ws_dispatch.W004",
            )


def _check_twins(patterns: Iterable[tuple[str, Any]]) -> Iterator[Warning]:
    found: dict[str, list[str]] = {}
    for prefix, pattern in patterns:
        if isinstance(pattern, URLResolver):
            continue
        route = prefix + str(pattern.pattern)
        shape = shape_of(pattern, prefix)
        if shape in found:
            yield Warning(
                f"The route fits the same paths as {found[shape][0]!r} above it, so that its "
                "handler is never called.",
                hint="Remove one of the two.",
                obj=_obj(route),
                id="ws_dispatch.W006",
            )
        found.setdefault(shape, []).append(route)
    for shape, routes in found.items():
        if shape.endswith("/") and shape[:-1] in found:
            yield Warning(
                f"The route looks like {found[shape[:-1]][0]!r}, which has no slash at its end: "
                "no redirect leads a WebSocket from one to the other.",
                hint="Give them the same handler, or other names.",
                obj=_obj(routes[0]),
                id="ws_dispatch.W005",
            )


def _check_patterns(patterns: Iterable[tuple[str, Any]]) -> Iterator[CheckMessage]:
    for _, pattern in patterns:
        checked = pattern.pattern if isinstance(pattern, URLResolver) else pattern
        yield from (message for message in checked.check() if message.id not in _OWN_WORDS)


def _check_proxy() -> Iterator[Error]:
    try:
        OriginCheck([])
    except ImproperlyConfigured as exc:
        yield Error(
            str(exc),
            hint='Write SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https"), or None.',
            id="ws_dispatch.E013",
        )


def _check_application() -> Iterator[Warning]:
    hint = (
        'Write ASGI_APPLICATION = "mysite.asgi.application" in the settings: runserver, the live '
        "server and the test client use it."
    )
    try:
        path = application_path()
        application = load_application()
    except NoApplication as exc:
        yield Warning(str(exc), hint=hint, id="ws_dispatch.W001")
    except Exception as exc:
        module = path.rpartition(".")[0]
        yield Warning(
            f"The import of {module}, the module of the ASGI application, fails: "
            f"{type(exc).__name__}: {exc}",
            hint=f'Correct it there, or in what it imports: python -c "import {module}" shows the '
            "line.",
            id="ws_dispatch.W001",
        )
    else:
        if not leads_to_dispatcher(application):
            yield Warning(
                f"The ASGI application {path} ({type(application).__name__}) leads to no "
                "WebSocketDispatcher: the routes of WEBSOCKET_HANDLERS are not served.",
                hint="In asgi.py import get_asgi_application from django_ws_dispatch.asgi instead "
                "of django.core.asgi. Where something is wrapped around it that hides it, silence "
                "this check.",
                id="ws_dispatch.W002",
            )


def _allowed_origins() -> Iterator[tuple[str, Iterable[str], str | None]]:
    """Every list of origins that can be read, with its name, and its route where it has one."""
    with suppress(ImproperlyConfigured):  # said by _check_settings
        yield "WEBSOCKET_ALLOWED_ORIGINS", conf.allowed_origins or (), None
    with suppress(Exception):  # said by _check_routes
        for route in Routes(conf.handlers, strict=False).routes:
            if route.handler is not None:
                origins = route.handler.options.allowed_origins or ()
                yield "@allowed_origins()", origins, _obj(route.route)


def _check_unsent_origins() -> Iterator[Warning]:
    for name, origins, obj in _allowed_origins():
        for origin in origins:
            if (remedy := unsent(origin)) is not None:
                text = f"{name} has {origin!r}, which no browser sends."
                hint = f"{remedy} Where a native client sends it as it is, silence this check."
                yield Warning(text, hint=hint, obj=obj, id="ws_dispatch.W010")


def _check_open_origins() -> Iterator[Warning]:
    hint = 'Name the origins: ["https://example.com", "https://*.example.com"].'
    for name, origins, obj in _allowed_origins():
        if "*" in origins:
            text = f'{name} has "*", which lets any page of any site open a WebSocket here with '
            text += "the cookies of its visitor."
            yield Warning(text, hint=hint, obj=obj, id="ws_dispatch.W007")


def _check_open_hosts() -> Iterator[Warning]:
    credentials = map(apps.is_installed, ("django.contrib.sessions", "django.contrib.auth"))
    with suppress(ImproperlyConfigured):  # said by check_websockets
        if conf.allowed_origins is None and "*" in settings.ALLOWED_HOSTS and any(credentials):
            yield Warning(
                'ALLOWED_HOSTS has "*", and the Origin check compares with the Host of the '
                "handshake: a page of any name that somebody points to this server passes.",
                hint="Name the hosts in ALLOWED_HOSTS, or the origins in "
                "WEBSOCKET_ALLOWED_ORIGINS.",
                id="ws_dispatch.W008",
            )


def _check_deaf_brokers() -> Iterator[Warning]:
    configs: dict[str, Any] = {}
    with suppress(ImproperlyConfigured):  # said by check_websockets
        configs = conf.brokers
    for alias, config in configs.items():
        with suppress(Exception):  # so is this
            if build_broker(alias, config).in_process:
                yield Warning(
                    f"The broker {alias!r} of WEBSOCKET_BROKERS reaches the sockets of one process "
                    "only: groups and logouts do not cross processes.",
                    hint="Use django_ws_dispatch.brokers.redis.RedisBroker, or silence this check "
                    "where the whole site is one process.",
                    id="ws_dispatch.W009",
                )
