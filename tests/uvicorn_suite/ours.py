"""Becomes ``tests/protocols/conftest.py`` of uvicorn: its tests, on another class than its own."""

import pytest

import tests.protocols.test_websocket as suite
from django_ws_dispatch.uvicorn import WebSocketProtocol

# Some tests name the class of uvicorn and do not use the fixture; none of the oldest uvicorn.
if hasattr(suite, "WebSocketsSansIOProtocol"):
    suite.WebSocketsSansIOProtocol = WebSocketProtocol


@pytest.fixture
def ws_protocol_cls():
    return WebSocketProtocol
