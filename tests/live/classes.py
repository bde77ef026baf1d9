"""Whose WebSocket class the servers of a live test have: see the fixture ``ws``."""

import pytest

from tests.kit.server import OURS

__all__ = ["CLASSES", "LOST", "MISSED", "on_ours"]

CLASSES = {"ours": OURS, "uvicorns": "auto"}

# The codes that a handler is told where its client is lost, and where it has missed a pong.
LOST = {"auto": 1005, OURS: 1006}
MISSED = {"auto": 1005, OURS: 1011}

on_ours = pytest.mark.parametrize("ws", [OURS], ids=["ours"], indirect=True)
"""what has nothing to do with the class is tested on one"""
