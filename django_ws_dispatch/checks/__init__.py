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
ws_dispatch.E016     ``WEBSOCKET_DRAIN`` is wrong.
ws_dispatch.E017     ``WEBSOCKET_GROUPS`` is wrong, or a broker can not do what it asks.
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
ws_dispatch.W011     A connection pool has no more connections than sockets may use at once.
ws_dispatch.W012     A handler has another one inside, whose decorators do not count.
ws_dispatch.W013     A site of django-tenants says nothing of its tenants to the sockets.
===================  ==============================================================================

Django's own checks of URL patterns (``urls.W003`` and its like) run on the routes as well. No check
connects to a broker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from django.core import checks
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from .routing import check_open_origins, check_routes, check_unsent_origins
from .site import (
    check_application,
    check_deaf_brokers,
    check_open_hosts,
    check_order,
    check_pools,
    check_proxy,
    check_tenants,
)
from .values import check_settings

__all__ = ["check_deployment", "check_websockets", "register"]


def register() -> None:
    """Register the checks with Django, under the tag ``websockets``."""
    checks.register(check_websockets, "websockets")
    checks.register(check_deployment, "websockets", checks.Tags.security, deploy=True)


def check_websockets(app_configs: object = None, **kwargs: object) -> list[CheckMessage]:
    """Check the settings, every route, and that the site's ASGI application serves them.

    Args:
        app_configs, kwargs: Django's, and not used.
    """
    messages = [*_run(check_settings, check_proxy, check_order)]
    messages += check_routes({message.msg for message in messages})
    messages += _run(check_unsent_origins, check_tenants, check_pools)
    if not any(isinstance(message, Error) for message in messages):
        # A wrong setting stops the import of asgi.py: that has been said.
        messages += check_application()
    return messages


def check_deployment(app_configs: object = None, **kwargs: object) -> list[CheckMessage]:
    """Check what is right for development only.

    Args:
        app_configs, kwargs: Django's, and not used.
    """
    return [*_run(check_open_origins, check_open_hosts, check_deaf_brokers)]


def _run(*checks: Callable[[], Iterable[CheckMessage]]) -> Iterator[CheckMessage]:
    for check in checks:
        with suppress(ImproperlyConfigured):  # check_settings says that a setting is wrong
            yield from check()
