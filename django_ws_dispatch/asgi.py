"""What a project's ``asgi.py`` imports, and how the tools of this package find that file."""

from __future__ import annotations

import sys
from typing import cast

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.utils.module_loading import import_string

from .dispatcher import WebSocketDispatcher
from .inside import walk
from .typing import ASGIApplication

__all__ = ["get_asgi_application", "load_application"]


def get_asgi_application() -> WebSocketDispatcher:
    """Set Django up and return the site's application: its pages and, beside them, its sockets.

    All handlers of ``WEBSOCKET_HANDLERS`` are imported here, so that a wrong setting stops the
    start of the server.

    Raises:
        ImproperlyConfigured: a ``WEBSOCKET_...`` setting is wrong, or ``INSTALLED_APPS`` lacks
            ``"django_ws_dispatch"``, whose receivers close the sockets of who logs out. The message
            names the line to write.
    """
    django.setup(set_prefix=False)
    return WebSocketDispatcher(cast(ASGIApplication, ASGIHandler()))


class NoApplication(ImproperlyConfigured):
    """There is none where ``ASGI_APPLICATION``, or the place of the root urls.py, says."""


def application_path() -> str:
    """Return the dotted path of the site's application, or raise ``NoApplication``."""
    path = getattr(settings, "ASGI_APPLICATION", None)
    if isinstance(path, str) and not path.startswith("."):
        return path
    if path is not None:
        raise NoApplication(f"ASGI_APPLICATION must be a dotted path, not {path!r}.")
    package = str(getattr(settings, "ROOT_URLCONF", None) or "").rpartition(".")[0]
    if package:
        return f"{package}.asgi.application"
    raise NoApplication(
        "Nothing says where the ASGI application is. Write "
        'ASGI_APPLICATION = "mysite.asgi.application" in the settings.'
    )


def load_application() -> ASGIApplication:
    """Return the application that ``ASGI_APPLICATION`` names, or that of the asgi.py next to the
    root urls.py: what runserver, the live server and the test client use.

    Raises:
        ImproperlyConfigured: there is none; the message has the line to write.
        Exception: whatever the import of its module raises.
    """
    path = application_path()
    module = path.rpartition(".")[0]
    try:
        return cast(ASGIApplication, import_string(path))
    except ImportError as exc:
        if not module:
            raise NoApplication(
                f"ASGI_APPLICATION = {path!r} names no application in a module. Write the dotted "
                'path of one: ASGI_APPLICATION = "mysite.asgi.application".'
            ) from exc
        missing = isinstance(exc, ModuleNotFoundError) and f"{module}.".startswith(f"{exc.name}.")
        if module not in sys.modules and not missing:
            raise  # asgi.py is there; what it imports is not.
        raise NoApplication(
            f"The ASGI application {path} can not be imported ({exc}). Put "
            '"from django_ws_dispatch.asgi import get_asgi_application; '
            f'application = get_asgi_application()" into {module}, or name another one: '
            'ASGI_APPLICATION = "mysite.asgi.application".'
        ) from exc


def leads_to_dispatcher(application: object) -> bool:
    """Whether an ASGI application is a dispatcher, or something around one."""
    return any(issubclass(type(one), WebSocketDispatcher) for one in walk(application))
