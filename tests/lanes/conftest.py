from __future__ import annotations

import pytest
from django.db import connections

from django_ws_dispatch import lanes
from django_ws_dispatch.lanes import caretaker
from tests.lanes.sockets import ALIAS, extra_database


@pytest.fixture(autouse=True)
def no_lane_outlives_its_test():
    yield
    lanes.shutdown()


@pytest.fixture
def database(tmp_path, django_db_blocker, monkeypatch):
    options = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3")}
    monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 0.05)
    with django_db_blocker.unblock(), extra_database(**options):
        yield connections[ALIAS].settings_dict
