"""What LOCATION may say, and what it is told when it is wrong. Nothing connects."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from redis.exceptions import NoPermissionError

from django_ws_dispatch.brokers.redis import RedisBroker
from django_ws_dispatch.brokers.redis.nodes import describe

pytestmark = pytest.mark.usefixtures("no_connections")


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


def test_what_would_break_a_subscription_can_not_be_set() -> None:
    url = "redis://localhost?health_check_interval=1&protocol=3&decode_responses=1"
    node = RedisBroker("default", url, {"connection": {"client_name": "site"}}).nodes[0]
    arguments = node._arguments(node._location.async_arguments, {}, None)
    assert arguments["protocol"] == 2
    assert arguments["socket_timeout"] is None
    assert arguments["health_check_interval"] == 0
    assert arguments["decode_responses"] is False
    assert arguments["client_name"] == "site"


def test_who_may_not_use_a_channel_is_told_what_the_user_needs() -> None:
    (node,) = RedisBroker("default", "redis://a", {"prefix": "site"}).nodes
    refused = NoPermissionError("this user has no permissions to access one of the channels")
    assert node.why(refused).endswith("channels (the ACL of its user needs &site:*)")
    refused = NoPermissionError("this user has no permissions to run the 'publish' command.")
    assert node.why(refused) == "this user has no permissions to run the 'publish' command"


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (OSError("no route to host."), "no route to host"),
        (TimeoutError(), "TimeoutError"),
        (KeyError("x"), "KeyError('x')"),
    ],
)
def test_what_went_wrong_stands_in_the_middle_of_a_sentence(exc: Exception, text: str) -> None:
    assert describe(exc) == text
