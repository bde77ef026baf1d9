"""What every broker takes, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_ws_dispatch.brokers.base import BaseBroker, BaseSubscriber, Receiver


class Broker(BaseBroker):
    """One that carries nothing."""

    option_names = frozenset({"timeout", "color"})

    def publish(self, channel: str, message: bytes) -> None: ...

    async def apublish(self, channel: str, message: bytes) -> None: ...

    def subscriber(self, receiver: Receiver) -> BaseSubscriber:
        raise NotImplementedError

    async def aclose(self) -> None: ...


def make(options: Mapping[str, Any]) -> Broker:
    return Broker("chat", "somewhere", options)


def test_it_keeps_what_it_was_given() -> None:
    broker = make({})
    assert (broker.alias, broker.location) == ("chat", "somewhere")


@pytest.mark.parametrize(
    ("options", "timeout"),
    [({}, 2.0), ({"timeout": 5}, 5.0), ({"timeout": 0.01}, 0.01), ({"timeout": 3600}, 3600.0)],
)
def test_a_timeout_is_a_number_of_seconds_and_2_where_nothing_is_said(
    options: dict[str, Any], timeout: float
) -> None:
    found = make(options).timeout
    assert found == timeout
    assert type(found) is float


@pytest.mark.parametrize(
    "timeout", [0, -1, 0.009, 3600.1, True, None, "2", float("nan"), float("inf"), [2]]
)
def test_a_timeout_that_is_none_is_told_with_what_it_may_be(timeout: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"'chat'.*timeout.*0\.01 to 3600.*default"):
        make({"timeout": timeout})


def test_options_that_a_broker_does_not_know_are_named_with_those_that_it_does() -> None:
    with pytest.raises(
        ImproperlyConfigured,
        match=r"WEBSOCKET_BROKERS\['chat'\]: .*know capacity, hosts; it takes color, timeout",
    ):
        make({"hosts": 1, "capacity": 2, "color": 3})


def test_a_class_may_know_options_of_its_own() -> None:
    assert make({"color": "red"}).timeout == 2


def test_what_is_wrong_is_said_of_the_entry_of_the_setting() -> None:
    error = make({}).misconfigured("it is too small.")
    assert str(error) == "WEBSOCKET_BROKERS['chat']: it is too small."


def test_a_broker_reaches_others_and_has_nothing_to_close_unless_it_says_so() -> None:
    broker = make({})
    assert not broker.in_process
    broker.close()


@pytest.mark.parametrize("name", ["publish", "apublish", "subscriber", "aclose"])
def test_a_broker_without_one_of_its_methods_can_not_be_made(name: str) -> None:
    methods = {
        other: getattr(Broker, other)
        for other in ("publish", "apublish", "subscriber", "aclose")
        if other != name
    }
    incomplete = type("Incomplete", (BaseBroker,), methods)
    with pytest.raises(TypeError, match=name):
        incomplete("chat", None, {})
