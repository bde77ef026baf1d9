"""Sessions in the stores of Django, and handshakes that bring their cookies."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.test import override_settings

from django_ws_dispatch.handshake.request import HandshakeRequest, build_request

ENGINES = ["db", "cached_db", "cache", "file", "signed_cookies"]


MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


def engine(name: str) -> Any:
    return override_settings(SESSION_ENGINE=f"django.contrib.sessions.backends.{name}")


def new_session(**data: Any) -> SessionBase:
    """Save a session as a page does, and return it."""
    from importlib import import_module

    from django.conf import settings

    session: SessionBase = import_module(settings.SESSION_ENGINE).SessionStore()
    session.update(data)
    session.save()
    return session


def session_of(user: User, backend: str = MODEL_BACKEND, **changes: Any) -> SessionBase:
    data = {
        SESSION_KEY: str(user.pk),
        BACKEND_SESSION_KEY: backend,
        HASH_SESSION_KEY: user.get_session_auth_hash(),
    } | changes
    return new_session(**{key: value for key, value in data.items() if value is not None})


def request_with(session: SessionBase | str | None) -> HandshakeRequest:
    key = session.session_key if isinstance(session, SessionBase) else session
    headers = [(b"host", b"testserver")]
    if key is not None:
        headers.append((b"cookie", f"sessionid={key}".encode()))
    return build_request({"type": "websocket", "path": "/ws/", "headers": headers})
