"""The checks of settings."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.core.checks import Error
from django.test import override_settings

from django_ws_dispatch import checks
from django_ws_dispatch.checks.values import SETTING_CHECKS
from django_ws_dispatch.conf import SETTINGS
from tests.checks.sites import WRONG, found, ids


def test_every_setting_has_an_id_of_its_own():
    numbers = [number for number, _ in SETTING_CHECKS.values()]
    assert set(SETTING_CHECKS) == set(SETTINGS)
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_one_error_that_names_it_with_a_hint(name):
    number, value = WRONG[name]
    (error,) = found(**{name: value})
    assert isinstance(error, Error)
    assert ids([error]) == [number]
    assert name in error.msg
    assert error.hint.startswith(f"Write {name} = ")


def test_a_missing_websocket_handlers_is_named():
    with override_settings():
        del settings.WEBSOCKET_HANDLERS
        (error,) = checks.check_websockets()
    assert error.id == "ws_dispatch.E001"
    assert "WEBSOCKET_HANDLERS is not set" in error.msg


def test_each_middleware_that_can_not_be_used_is_reported():
    messages = found(
        WEBSOCKET_MIDDLEWARE=[
            "no.such.Middleware",
            "django.middleware.locale.LocaleMiddleware",
            "tests.checks.sites.BrokenMiddleware",
        ]
    )
    assert ids(messages) == ["E004", "E004"]
    assert "'no.such.Middleware'" in messages[0].msg
    assert "RuntimeError: no key" in messages[1].msg


def test_each_broker_that_does_not_take_its_configuration_is_reported():
    memory = "django_ws_dispatch.brokers.memory.MemoryBroker"
    messages = found(
        WEBSOCKET_BROKERS={
            "default": {"BACKEND": memory},
            "a": {"BACKEND": "no.such.Broker"},
            "b": {"BACKEND": "django_ws_dispatch.conf.Conf"},
            "c": {"BACKEND": memory, "OPTIONS": {"colour": "red"}},
            "d": {"BACKEND": "django_ws_dispatch.brokers.BaseBroker"},
            "e": {"BACKEND": "tests.brokers.test_brokers.Narrow"},
            "f": {"BACKEND": memory, "OPTIONS": {"timeout": 10**400}},
        }
    )
    assert ids(messages) == ["E011"] * 6
    for alias, message in zip("abcdef", messages, strict=True):
        assert f"WEBSOCKET_BROKERS['{alias}']" in message.msg


def test_groups_of_a_broker_that_keeps_nothing_are_an_error():
    brokers = {
        "default": {"BACKEND": "django_ws_dispatch.brokers.memory.MemoryBroker"},
        "plain": {"BACKEND": "tests.groups.test_options.Forgetful"},
    }
    groups = {"a": {"history": 1}, "b": {"broker": "plain"}}
    assert found(WEBSOCKET_BROKERS=brokers, WEBSOCKET_GROUPS=groups) == []
    groups["b"]["history"] = 1
    (error,) = found(WEBSOCKET_BROKERS=brokers, WEBSOCKET_GROUPS=groups)
    assert ids([error]) == ["E017"]
    assert "WEBSOCKET_GROUPS['b']['history']: the broker 'plain'" in error.msg


def test_groups_of_a_broker_that_does_not_know_who_is_here_are_an_error():
    brokers = {
        "default": {"BACKEND": "django_ws_dispatch.brokers.memory.MemoryBroker"},
        "blind": {"BACKEND": "tests.groups.test_options.Blind"},
    }
    groups = {"a": {"presence": True}, "b": {"broker": "blind", "history": 1}}
    assert found(WEBSOCKET_BROKERS=brokers, WEBSOCKET_GROUPS=groups) == []
    groups["b"]["presence"] = True
    (error,) = found(WEBSOCKET_BROKERS=brokers, WEBSOCKET_GROUPS=groups)
    assert ids([error]) == ["E017"]
    assert "WEBSOCKET_GROUPS['b']['presence']: the broker 'blind'" in error.msg


@pytest.mark.parametrize(
    ("option", "value"),
    [("presence", 0), ("presence", 1001), ("presence", "yes"), ("linger", True), ("linger", 301)],
)
def test_a_wrong_option_of_groups_that_know_who_is_here_is_an_error(option, value):
    (error,) = found(WEBSOCKET_GROUPS={"a": {"presence": True, option: value}})
    assert ids([error]) == ["E017"]
    assert f"WEBSOCKET_GROUPS['a']['{option}']" in error.msg


@pytest.mark.parametrize("brokers", [5, {"default": {"BACKEND": "no.such.Broker"}}])
def test_a_wrong_broker_is_said_once(brokers):
    groups = {"a": {"history": 1}}
    (error,) = found(WEBSOCKET_BROKERS=brokers, WEBSOCKET_GROUPS=groups)
    assert ids([error]) == ["E011"]


def test_a_location_that_does_not_parse_is_reported_without_a_connection():
    pytest.importorskip("redis")
    redis = "django_ws_dispatch.brokers.redis.RedisBroker"
    configs = {
        "default": {"BACKEND": redis, "LOCATION": "redis://127.0.0.1:1/0"},
        "other": {"BACKEND": redis, "LOCATION": "127.0.0.1:6379"},
    }
    (message,) = found(WEBSOCKET_BROKERS=configs)
    assert message.id == "ws_dispatch.E011"
    assert "'other'" in message.msg


@pytest.mark.parametrize(
    "value", ["no.such.lifespan", "tests.handlers.ping", "tests.checks.sites.Consumer"]
)
def test_a_lifespan_that_is_none_is_an_error(value):
    (error,) = found(WEBSOCKET_LIFESPAN=value)
    assert ids([error]) == ["E012"]
    assert f"WEBSOCKET_LIFESPAN: {value!r}" in error.msg


def test_a_class_of_context_managers_is_a_lifespan():
    assert found(WEBSOCKET_LIFESPAN="contextlib.AsyncExitStack") == []
