"""The tests that any broker with a history can run, on one that has none."""

from __future__ import annotations

import pytest

from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.testing.histories import HistoryConformance, expect


class Forgetful(MemoryBroker):
    has_history = False


class TestWithoutHistory(HistoryConformance):
    def make_broker(self) -> MemoryBroker:
        return Forgetful("default", None, {})


def test_what_is_not_as_expected_is_an_assertion_error() -> None:
    with pytest.raises(AssertionError, match="expected 1, got 2"):
        expect(2, 1)
