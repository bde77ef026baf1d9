"""Fixtures for pytest, registered through the entry point ``pytest11``.

Loading it imports nothing of Django: there may be no settings yet, or no Django site at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import asyncio

    from .client import WebSocketClient
    from .live import ASGILiveServer

__all__ = ["asgi_live_server", "asgi_live_server_ws", "websocket_client"]


def _has_pytest_django(config: pytest.Config) -> bool:
    manager = config.pluginmanager
    return manager.has_plugin("django") or manager.has_plugin("pytest_django.plugin")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give tests of the live server transactions: pytest-django looks for its own mark, early."""
    if not _has_pytest_django(config):
        return
    for item in items:
        if "asgi_live_server" in getattr(item, "fixturenames", ()):
            mark = item.get_closest_marker("django_db") or pytest.mark.django_db.mark
            options = {key: value for key, value in mark.kwargs.items() if key != "transaction"}
            item.add_marker(pytest.mark.django_db(True, *mark.args[1:], **options), append=False)


@pytest.fixture
def websocket_client() -> WebSocketClient:
    """A ``WebSocketClient`` with a cookie jar of its own."""
    from .client import WebSocketClient

    return WebSocketClient()


@pytest.fixture(scope="session")
def asgi_live_server_ws() -> str | type[asyncio.Protocol]:
    """What serves the sockets of ``asgi_live_server``; write your own to choose another ``ws``."""
    from ..management.protocols import DEFAULT

    return DEFAULT


@pytest.fixture(scope="session")
def _asgi_live_server(
    request: pytest.FixtureRequest, asgi_live_server_ws: str | type[asyncio.Protocol]
) -> Iterator[ASGILiveServer]:
    """The server itself: one for the session, started on the test database."""
    if _has_pytest_django(request.config):
        request.getfixturevalue("django_db_setup")
    from .live import ASGILiveServer

    server = ASGILiveServer(ws=asgi_live_server_ws)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def asgi_live_server(request: pytest.FixtureRequest) -> Iterator[ASGILiveServer]:
    """The site on uvicorn: ``.url``, and ``.websocket_url("/ws/ping/")`` for its sockets.

    One server serves the whole session. As with pytest-django's ``live_server`` a test that uses it
    has ``transactional_db``, and the server's host is in ``ALLOWED_HOSTS`` for its duration.
    """
    if _has_pytest_django(request.config):
        request.getfixturevalue("transactional_db")
    server: ASGILiveServer = request.getfixturevalue("_asgi_live_server")
    with server.allow_host():
        yield server
