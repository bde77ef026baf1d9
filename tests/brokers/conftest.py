"""What the tests of brokers have in common."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture
def no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*args: object) -> None:
        raise AssertionError("a check must not connect")

    monkeypatch.setattr(socket.socket, "connect", connect)
