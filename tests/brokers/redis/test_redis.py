"""The package of the Redis broker."""

from __future__ import annotations

import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_ws_dispatch.brokers import build_broker

pytestmark = pytest.mark.usefixtures("no_connections")

REDIS = "django_ws_dispatch.brokers.redis.RedisBroker"


def test_without_redis_py_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name == "redis" or name.startswith(("redis.", "django_ws_dispatch.brokers.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImproperlyConfigured, match=r"pip install .*\[redis\]"):
        build_broker("default", {"BACKEND": REDIS, "LOCATION": "redis://localhost"})
