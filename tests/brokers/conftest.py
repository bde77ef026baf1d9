"""What the tests of brokers have in common."""

from __future__ import annotations

import socket

import pytest

from django_ws_dispatch.brokers import remembered

from ..kit.clock import Clock


@pytest.fixture
def no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*args: object) -> None:
        raise AssertionError("a check must not connect")

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The memory broker goes by this clock."""
    clock = Clock()
    monkeypatch.setattr(remembered, "now", clock)
    return clock
