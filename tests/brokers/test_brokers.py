"""What WEBSOCKET_BROKERS may say of a broker, and what it is told when it is wrong."""

from __future__ import annotations

import time
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_ws_dispatch.brokers import build_broker, get_broker, opened_brokers
from django_ws_dispatch.brokers.memory import MemoryBroker

pytestmark = pytest.mark.usefixtures("no_connections")

MEMORY = "django_ws_dispatch.brokers.memory.MemoryBroker"


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


class Slow(MemoryBroker):
    """One that takes its time to be made, in which others may ask."""

    made: ClassVar[list[object]] = []

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        time.sleep(0.01)
        self.made.append(self)


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


def test_a_broker_is_made_once_until_the_setting_changes(settings: Any) -> None:
    settings.WEBSOCKET_BROKERS = {"default": {"BACKEND": MEMORY}}
    first = get_broker("default")
    assert get_broker("default") is first
    settings.WEBSOCKET_BROKERS = {"default": {"BACKEND": MEMORY, "OPTIONS": {"timeout": 5}}}
    second = get_broker("default")
    assert second is not first
    assert second.timeout == 5


def test_an_alias_that_is_not_there_is_told_with_those_that_are(settings: Any) -> None:
    settings.WEBSOCKET_BROKERS = {"default": {"BACKEND": MEMORY}, "chat": {"BACKEND": MEMORY}}
    with pytest.raises(ImproperlyConfigured, match=r"no broker 'char'.*'default', 'chat'"):
        get_broker("char")


def test_a_broker_of_an_earlier_setting_is_closed_and_still_known(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Any] = []
    monkeypatch.setattr(MemoryBroker, "close", lambda broker: closed.append(broker))
    settings.WEBSOCKET_BROKERS = {"default": {"BACKEND": MEMORY}}
    first = get_broker("default")
    assert closed == []
    settings.WEBSOCKET_BROKERS = {"default": {"BACKEND": MEMORY}}
    assert closed == [first]
    second = get_broker("default")
    assert {first, second} <= set(opened_brokers())


def test_two_threads_that_ask_at_once_get_the_same_broker(settings: Any) -> None:
    settings.WEBSOCKET_BROKERS = {"default": {"BACKEND": f"{__name__}.Slow"}}
    Slow.made.clear()
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(get_broker, ["default"] * 8))
    assert len(found) == len(Slow.made) == 1
