"""What the tests of handshakes have in common."""

from __future__ import annotations

import pytest

from . import middleware_examples


@pytest.fixture(autouse=True)
def seen():
    middleware_examples.seen.clear()
    return middleware_examples.seen
