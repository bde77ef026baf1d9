"""Becomes ``tests/protocols/conftest.py`` of uvicorn: its tests, on another class than its own."""

import pytest

import tests.protocols.test_websocket as suite
from django_ws_dispatch.uvicorn import WebSocketProtocol

# Some of them name a class of uvicorn and do not use the fixture.
for name in ("WebSocketProtocol", "WebSocketsSansIOProtocol"):
    if hasattr(suite, name):
        setattr(suite, name, WebSocketProtocol)


@pytest.fixture
def ws_protocol_cls():
    return WebSocketProtocol
