"""What the tests of sessions have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.sessions.backends.file import SessionStore as FileStore


@pytest.fixture(autouse=True)
def _session_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Django looks at SESSION_FILE_PATH once in a process.
    monkeypatch.setattr(FileStore, "_storage_path", str(tmp_path), raising=False)
