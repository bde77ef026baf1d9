"""What every broker must do, on each database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_ws_dispatch.brokers import build_broker
from django_ws_dispatch.brokers.base import BaseBroker
from django_ws_dispatch.testing.brokers import BrokerConformance

from .database import Database

pytestmark = [pytest.mark.live, pytest.mark.databases]


class TestConformance(BrokerConformance):
    @pytest.fixture(autouse=True)
    def _database(self, lasting_database: Database) -> Iterator[None]:
        self._brokers = lasting_database.brokers(lasting_database.alias)
        yield
        lasting_database.release()

    def make_broker(self) -> BaseBroker:
        return build_broker("default", self._brokers["default"])
