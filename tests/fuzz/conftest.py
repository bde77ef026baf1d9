"""The two profiles."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

COMMON = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
}
settings.register_profile("small", max_examples=60, derandomize=True, database=None, **COMMON)
settings.register_profile("large", max_examples=10_000, **COMMON)
PROFILE = os.environ.get("WS_DISPATCH_FUZZ", "small")


def pytest_configure() -> None:
    settings.load_profile(PROFILE)
