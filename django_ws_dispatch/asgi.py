"""What a project's ``asgi.py`` imports, and how the tools of this package find that file."""

from __future__ import annotations

from typing import cast

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.utils.module_loading import import_string

from .dispatcher import WebSocketDispatcher
from .typing import ASGIApplication

__all__ = ["get_asgi_application", "load_application"]


def get_asgi_application() -> WebSocketDispatcher:
    """Set Django up and return the site's application: its pages and, beside them, its sockets.

    All handlers of ``WEBSOCKET_HANDLERS`` are imported here, so that a wrong setting stops the
    start of the server.

    Raises:
        ImproperlyConfigured: a ``WEBSOCKET_...`` setting is wrong; the message names it and the
            remedy.
    """
    django.setup(set_prefix=False)
    return WebSocketDispatcher(cast(ASGIApplication, ASGIHandler()))


def application_path() -> str:
    """Return the dotted path of the site's application.

    Raises:
        ImproperlyConfigured: nothing says where it is.
    """
    path: str | None = getattr(settings, "ASGI_APPLICATION", None)
    if path is not None:
        return path
    package = str(getattr(settings, "ROOT_URLCONF", None) or "").rpartition(".")[0]
    if package:
        return f"{package}.asgi.application"
    raise ImproperlyConfigured(
        "Nothing says where the ASGI application is. Write "
        'ASGI_APPLICATION = "mysite.asgi.application" in the settings.'
    )


def load_application() -> ASGIApplication:
    """Return the application that ``ASGI_APPLICATION`` names, or that of the asgi.py next to the
    root urls.py: what runserver, the live server and the test client use.

    Raises:
        ImproperlyConfigured: there is none; the message has the line to write.
    """
    path = application_path()
    try:
        return cast(ASGIApplication, import_string(path))
    except ImportError as exc:
        module = path.rpartition(".")[0]
        if (
            isinstance(exc, ModuleNotFoundError)
            and exc.name
            and not (module + ".").startswith(exc.name + ".")
        ):
            raise  # asgi.py is there; what it imports is not.
        raise ImproperlyConfigured(
            f"The ASGI application {path} can not be imported ({exc}). Put "
            '"from django_ws_dispatch.asgi import get_asgi_application; '
            f'application = get_asgi_application()" into {module}, or name another one: '
            'ASGI_APPLICATION = "mysite.asgi.application".'
        ) from exc
