"""Any value of a setting works, or is ``ImproperlyConfigured`` when the application is built."""

from __future__ import annotations

from contextlib import suppress

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from django_ws_dispatch.conf import SETTINGS, conf
from django_ws_dispatch.dispatcher import WebSocketDispatcher
from tests.kit.fake_server import no_pages

from .conftest import PROFILE

pytestmark = pytest.mark.slow

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -1, 0, 1, float("nan"), float("inf"), 1.5, 1e-320]),
    st.text(max_size=12),
    st.binary(max_size=5),
    st.sampled_from(
        [
            "20/s",
            "0/s",
            "9" * 400 + "/s",
            "٣/s",
            "*",
            "https://*.example.com",
            "https://[",
            "tests.handlers.ping",
            "django_ws_dispatch.brokers.memory.MemoryBroker",
            "django.middleware.common.CommonMiddleware",
            "tests.nowhere.nothing",
            "tests",
            "..",
            "ws/",
            "ws/<int:x>/",
            "<",
            "BACKEND",
            "OPTIONS",
            "default",
            "timeout",
            "history",
            "ttl",
            "broker",
        ]
    ),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=5), leaves), inner, max_size=3),
    ),
    max_leaves=6,
)
NAMES = [
    "WEBSOCKET_HANDLERS",
    "WEBSOCKET_ALLOWED_ORIGINS",
    "WEBSOCKET_MIDDLEWARE",
    "WEBSOCKET_MAX_MESSAGE_SIZE",
    "WEBSOCKET_RATE_LIMIT",
    "WEBSOCKET_IDLE_TIMEOUT",
    "WEBSOCKET_MAX_CONNECTIONS",
    "WEBSOCKET_OUTBOX_SIZE",
    "WEBSOCKET_SYNC_THREADS",
    "WEBSOCKET_BROKERS",
    "WEBSOCKET_LIFESPAN",
    "WEBSOCKET_DRAIN",
    "WEBSOCKET_GROUPS",
    "WEBSOCKET_NAMESPACE",
    "WEBSOCKET_SYNC_CONTEXT",
]


def test_every_setting_is_tried():
    assert len(NAMES) == len(SETTINGS)


@pytest.mark.parametrize("name", NAMES)
@profile(max_examples=1000 if PROFILE == "large" else 60)
@given(value=values)
def test_a_setting_works_or_is_improperly_configured(name, value):
    with override_settings(**{name: value}), suppress(ImproperlyConfigured):
        WebSocketDispatcher(no_pages)
        for setting in SETTINGS:
            getattr(conf, setting)
