"""What a test needs of the machine, and is not there."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

__all__ = ["missing"]


def missing(what: str) -> NoReturn:
    """Skip the test; where CI is set it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and this is CI.")
    pytest.skip(f"{what} is missing.")
