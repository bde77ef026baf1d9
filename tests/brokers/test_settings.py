"""What ``WEBSOCKET_BROKERS`` may say, and what it is told when it is wrong. Nothing connects."""

from __future__ import annotations

import socket
import sys
import traceback
from abc import abstractmethod
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_ws_dispatch.brokers import build_broker, get_broker
from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.brokers.redis import RedisBroker

REDIS = "django_ws_dispatch.brokers.redis.RedisBroker"
MEMORY = "django_ws_dispatch.brokers.memory.MemoryBroker"


@pytest.fixture(autouse=True)
def _no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*args: object) -> None:
        raise AssertionError("a check must not connect")

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("redis://", "redis://localhost:6379"),
        ("redis://:secret@example.com/2", "redis://example.com:6379"),
        ("rediss://ann:secret@example.com:6380/0", "rediss://example.com:6380"),
        ("redis://[::1]:7000", "redis://::1:7000"),
        ("unix:///run/valkey.sock?db=1", "unix:///run/valkey.sock"),
        ("redis://localhost?max_connections=5&socket_timeout=9", "redis://localhost:6379"),
    ],
)
def test_a_location_is_a_url_whose_name_has_no_password(location: str, name: str) -> None:
    broker = RedisBroker("default", location, {})
    assert [node.name for node in broker.nodes] == [name]


def test_several_locations_share_the_groups() -> None:
    broker = RedisBroker("default", ["redis://a", "redis://b"], {})
    nodes = [broker._channel(f"group:{number}")[1] for number in range(100)]
    assert 20 < sum(nodes) < 80


# Sentinels and their primary


def arguments_of(node: Any) -> dict[str, Any]:
    """What redis-py gets for a connection of a node, sync and async."""
    made: list[dict[str, Any]] = [
        node._arguments(arguments, {}, 1.0)
        for arguments in (node._location.arguments, node._location.async_arguments)
    ]
    assert made[0] == made[1]
    return made[0]


def sentinel(urls: list[str], **connection: object) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The arguments for the primary, and for each of the Sentinels."""
    (node,) = RedisBroker("default", urls, {"sentinel": "chats", "connection": connection}).nodes
    return arguments_of(node), [arguments_of(one) for one in node._sentinels]  # type: ignore[attr-defined]


TLS = {"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False, "ssl_certfile": "/cert.pem"}


def test_what_is_said_of_tls_for_the_primary_is_for_the_sentinels_too() -> None:
    primary, sentinels = sentinel(["rediss://a:26379", "rediss://b:26379"], **TLS)
    for made in (primary, *sentinels):
        assert made.items() >= TLS.items()


def test_what_a_sentinels_url_says_of_tls_is_for_the_primary_too() -> None:
    primary, (first, second, third) = sentinel(
        [
            "rediss://a:26379",
            "rediss://b:26379?ssl_ca_certs=/ca.pem&ssl_check_hostname=false",
            "rediss://c:26379?ssl_ca_certs=/other.pem",
        ]
    )
    assert primary["ssl_ca_certs"] == "/ca.pem"
    assert primary["ssl_check_hostname"] is False
    assert second["ssl_ca_certs"] == "/ca.pem"
    assert third["ssl_ca_certs"] == "/other.pem"
    assert "ssl_ca_certs" not in first


def test_what_is_said_of_tls_for_one_of_them_counts_there() -> None:
    primary, (first,) = sentinel(
        ["rediss://a:26379?ssl_ca_certs=/sentinels.pem"], ssl_ca_certs="/primary.pem"
    )
    assert primary["ssl_ca_certs"] == "/primary.pem"
    assert first["ssl_ca_certs"] == "/sentinels.pem"


def test_a_sentinel_without_tls_gets_no_arguments_of_it() -> None:
    _, (first, second) = sentinel(["rediss://a:26379", "redis://b:26379"], **TLS)
    assert first.items() >= TLS.items()
    assert not any(name.startswith("ssl") for name in second)


def test_users_and_databases_do_not_cross_between_sentinels_and_primary() -> None:
    primary, (first,) = sentinel(
        ["rediss://watcher:theirs@a:26379"], username="ann", password="hers", db=3, client_name="x"
    )
    assert (first["username"], first["password"]) == ("watcher", "theirs")
    assert not first.keys() & {"db", "client_name"}
    assert (primary["username"], primary["password"], primary["db"]) == ("ann", "hers", 3)
    primary, _ = sentinel(["rediss://watcher:theirs@a:26379/2"])
    assert not primary.keys() & {"username", "password", "db"}


# What is wrong


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        7,
        [],
        [7],
        "localhost:6379",
        "http://localhost",
        "redis://localhost:port",
        "redis://localhost/zero",
        "redis://localhost?socket_timeout=soon",
        "redis://:secret@localhost?nonsense=1",
        "unix://",
        ["redis://localhost", "nonsense"],
    ],
)
def test_a_location_that_is_wrong_is_told_with_the_remedy(location: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"'chat'.*LOCATION.*redis://127") as caught:
        RedisBroker("chat", location, {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("redis://:hush#hush@host:6379/0", "the port must be a number.*%23"),
        ("redis://:hush/hush@host:6379/0", "the port must be a number.*%2F"),
        ("redis://ann:hush?hush@host:6379/0", "the port must be a number.*%3F"),
        ("redis://:[hush]@host:6379/0", "the port must be a number"),
        ("redis://:hush\u2100@host:6379/0", "the port must be a number"),
        # A piece of the password looks like a port.
        ("redis://:12#hush@host:6379/0", "password.*percent-encoded"),
        ("redis://:12/hush@host:6379/0", "password.*percent-encoded"),
        ("redis://:12?hush@host:6379/0", "password.*percent-encoded"),
        ("redis://ann/x:hush@host:6379/0", "password.*percent-encoded"),
        ("unix://:12/hush@/run/valkey.sock", "password.*percent-encoded"),
        ("redis:/:hush@host:6379/0", "database.*not a number"),
        ("redis://:hush@host/zero", "database.*not a number"),
        ("redis://:hush@host?socket_timeout=hush", "socket_timeout"),
        (b"redis://:hush@host", "a URL is a str, not bytes"),
        ({"host": "host", "password": "hush"}, "a URL is a str, not dict"),
        ([{"host": "host", "password": "hush"}], "a URL is a str, not dict"),
        ([], "list is empty"),
    ],
)
def test_no_error_has_a_piece_of_the_password(location: Any, message: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"LOCATION: .*{message}") as caught:
        RedisBroker("chat", location, {})
    assert "hush" not in "".join(traceback.format_exception(caught.value))


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
        ({"hosts": [], "capacity": 7}, "does not know capacity, hosts; it takes connection"),
    ],
)
def test_an_option_that_is_wrong_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        RedisBroker("default", "redis://localhost", options)


def test_what_would_break_a_subscription_can_not_be_set() -> None:
    url = "redis://localhost?health_check_interval=1&protocol=3&decode_responses=1"
    node = RedisBroker("default", url, {"connection": {"client_name": "site"}}).nodes[0]
    arguments = node._arguments(node._location.async_arguments, {}, None)
    assert arguments["protocol"] == 2
    assert arguments["socket_timeout"] is None
    assert arguments["health_check_interval"] == 0
    assert arguments["decode_responses"] is False
    assert arguments["client_name"] == "site"


@pytest.mark.parametrize(
    "backend", ["nowhere.Broker", "django_ws_dispatch.brokers.redis.Nothing", "nodots"]
)
def test_a_backend_that_can_not_be_imported_is_named(backend: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"'chat'.*{backend}.*imported"):
        build_broker("chat", {"BACKEND": backend})


def test_a_backend_that_is_no_broker_is_named() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"not a subclass"):
        build_broker("chat", {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"})


class Unfinished(MemoryBroker):
    @abstractmethod
    def flush(self) -> None: ...


class Narrow(MemoryBroker):
    def __init__(self, alias: str) -> None:
        super().__init__(alias, None, {})


@pytest.mark.parametrize(
    ("backend", "problem"),
    [
        ("django_ws_dispatch.brokers.BaseBroker", "is abstract.*apublish, publish, subscriber"),
        (f"{__name__}.Unfinished", "is abstract.*flush"),
        (f"{__name__}.Narrow", "TypeError.*takes alias, location and options"),
    ],
)
def test_a_backend_that_can_not_be_made_is_named(backend: str, problem: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"'chat'.*{backend}.*{problem}"):
        build_broker("chat", {"BACKEND": backend})


def test_without_redis_py_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name == "redis" or name.startswith(("redis.", "django_ws_dispatch.brokers.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImproperlyConfigured, match=r"pip install .*\[redis\]"):
        build_broker("default", {"BACKEND": REDIS, "LOCATION": "redis://localhost"})


def test_a_broker_is_made_once_until_the_setting_changes(settings: Any) -> None:
    settings.WEBSOCKET_BROKERS = {"default": {"BACKEND": MEMORY}}
    first = get_broker("default")
    assert get_broker("default") is first
    settings.WEBSOCKET_BROKERS = {"default": {"BACKEND": MEMORY, "OPTIONS": {"timeout": 5}}}
    second = get_broker("default")
    assert second is not first
    assert second.timeout == 5
