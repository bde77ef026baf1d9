"""What an entry of WEBSOCKET_BROKERS for Redis may say. Nothing connects."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_ws_dispatch.brokers.redis import RedisBroker

pytestmark = pytest.mark.usefixtures("no_connections")


def test_several_locations_share_the_groups() -> None:
    broker = RedisBroker("default", ["redis://a", "redis://b"], {})
    nodes = [broker._channel(f"group:{number}")[1] for number in range(100)]
    assert 20 < sum(nodes) < 80


def test_a_sentinel_that_is_no_name_is_not_printed() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"the name of a service.*not dict") as caught:
        RedisBroker("chat", "redis://host", {"sentinel": {"password": "secret"}})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout.*from 0.01 to 3600"),
        ({"timeout": "2"}, "timeout.*'2'"),
        ({"timeout": True}, "timeout"),
        ({"timeout": float("inf")}, "timeout.*inf"),
        ({"timeout": float("nan")}, "timeout.*nan"),
        ({"timeout": 1e12}, "timeout.*1000000000000"),
        ({"timeout": 1e-9}, "timeout.*1e-09"),
        ({"timeout": 10**400}, "'default'.*timeout.*1000.*2 is the default"),
        ({"prefix": 7}, "prefix"),
        ({"sentinel": 7}, "sentinel"),
        ({"connection": 7}, "connection"),
        ({"connection": {"nonsense": 7}}, "nonsense"),
        ({"hosts": [], "capacity": 7}, "does not know capacity, hosts; it takes cluster"),
    ],
)
def test_an_option_that_is_wrong_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        RedisBroker("default", "redis://localhost", options)


@pytest.mark.parametrize("prefix", ["", "site", "\u00e9"])
def test_the_prefix_stands_in_the_name_of_the_channels(prefix: str) -> None:
    broker = RedisBroker("default", "redis://a", {"prefix": prefix})
    assert [node.channels for node in broker.nodes] == [f"{prefix}:*"]


def test_without_a_prefix_the_channels_have_one_of_ours() -> None:
    assert [node.channels for node in RedisBroker("default", "redis://a", {}).nodes] == ["wsd:*"]


def test_urls_of_sentinels_are_one_server() -> None:
    urls = ["redis://a:26379", "redis://b:26379"]
    (node,) = RedisBroker("default", urls, {"sentinel": "chats"}).nodes
    assert node.name == "chats of redis://a:26379, redis://b:26379"
