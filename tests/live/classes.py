"""Whose WebSocket class the servers of a live test have: see the fixture ``ws``."""

import pytest

from tests.kit.server import OURS

__all__ = ["CLASSES", "on_ours"]

CLASSES = {"ours": OURS, "uvicorns": "auto"}

on_ours = pytest.mark.parametrize("ws", [OURS], ids=["ours"], indirect=True)
"""what has nothing to do with the class is tested on one"""
