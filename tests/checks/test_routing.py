"""The checks of routes, and of the origins that they allow."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import pytest
from django.urls import path as django_path

from django_ws_dispatch.decorators import allowed_origins
from django_ws_dispatch.routing import include, path, re_path
from tests.checks.sites import (
    Consumer,
    decorated,
    deployment,
    found,
    ids,
    one,
    one_room,
    other_room,
    plain,
)
from tests.handlers import ping, raw_ping, room


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "no.such.module",
        "tests.handlers",
        {5: "tests.handlers.ping"},
        {"ws/<nope:x>/": "tests.handlers.ping"},
        {"ws/": None},
        {"ws/": ["tests.handlers.ping"]},
        ["ws/"],
        [None],
        [re_path("(", "tests.handlers.ping")],
        [path("ws/", include("no.such.module"))],
        [django_path("ws/", lambda request: None)],
        SimpleNamespace(),
        object,
    ],
    ids=repr,
)
def test_no_value_of_websocket_handlers_crashes_the_check(value):
    messages = found(WEBSOCKET_HANDLERS=value)
    assert len(messages) == 1
    assert ids(messages)[0] in ("E001", "E002")
    assert messages[0].hint


def test_every_broken_route_is_reported_where_it_stands():
    messages = found(
        WEBSOCKET_HANDLERS={
            "a/": "tests.handlers.nothing",
            "b/": plain,
            "c/": Consumer,
            "d/": decorated,
            "e/": room,
            "f/": ping,
            "g/": "tests.checks.broken_sockets.ping",
        }
    )
    assert [message.obj for message in messages] == [
        f"WEBSOCKET_HANDLERS['{route}/']" for route in "abcdeg"
    ]
    assert set(ids(messages)) == {"E002"}
    hints = [message.hint for message in messages]
    assert "async def" in hints[1]
    assert hints[2] == "Pass Consumer.as_asgi()."
    assert "django_ws_dispatch.decorators" in hints[3]
    assert hints[4] == "It is called with (websocket)."
    assert "ZeroDivisionError" in messages[5].msg


def test_a_wrong_limit_is_not_said_again_for_each_route():
    messages = found(
        WEBSOCKET_HANDLERS={"a/": ping, "b/": ping, "c/": plain}, WEBSOCKET_OUTBOX_SIZE=0
    )
    assert ids(messages) == ["E009", "E002"]
    assert messages[1].obj == "WEBSOCKET_HANDLERS['c/']"


def test_routes_inside_an_include_are_checked():
    (message,) = found(WEBSOCKET_HANDLERS=[path("in/", include([path("x/", plain)]))])
    assert (message.id, message.obj) == ("ws_dispatch.E002", "WEBSOCKET_HANDLERS['in/x/']")


@pytest.mark.parametrize(
    "route", [path("/ws/", ping), re_path("^/ws/$", ping), re_path(r"\/ws$", ping)], ids=str
)
def test_a_leading_slash_is_a_warning_with_the_remedy(route):
    (message,) = found(WEBSOCKET_HANDLERS=[route])
    assert message.id == "ws_dispatch.W004"
    assert "Remove the slash" in message.hint


def test_a_slash_that_joins_an_include_is_none():
    assert found(WEBSOCKET_HANDLERS=[path("ws", include([path("/ping/", ping)]))]) == []


def test_two_routes_that_differ_in_the_slash_at_the_end_are_a_warning():
    (message,) = found(
        WEBSOCKET_HANDLERS={"ws/<slug:a>/": one_room, "ws/<slug:b>": other_room, "x/": ping}
    )
    assert message.id == "ws_dispatch.W005"
    assert message.obj == "WEBSOCKET_HANDLERS['ws/<slug:a>/']"
    assert "'ws/<slug:b>'" in message.msg


@pytest.mark.parametrize(
    "routes",
    [
        (re_path("^y$", ping), re_path("^y/$", ping)),
        (path("y", ping), re_path(r"^y/\Z", ping)),
        (re_path("^y$", ping), path("y/", ping)),
        (re_path(r"^y/(?P<a>\w+)$", one_room), re_path(r"^y/(?P<a>\w+)/$", one_room)),
        (path("in/", include([re_path("^y$", ping), re_path("^y/$", ping)])),),
    ],
)
def test_regular_expressions_that_differ_in_the_slash_at_the_end_are_a_warning(routes):
    (message,) = found(WEBSOCKET_HANDLERS=routes)
    assert message.id == "ws_dispatch.W005"


@pytest.mark.parametrize(
    "routes",
    [
        (re_path("^y$", ping), re_path("^y/", raw_ping)),
        (re_path("^y$", ping), re_path("^y", raw_ping)),
        (re_path("^y.$", ping), path("y./", ping)),
        (re_path(r"^y\$", raw_ping), re_path("^y/$", ping)),
    ],
)
def test_a_mount_and_another_expression_look_like_nothing_else(routes):
    assert found(WEBSOCKET_HANDLERS=routes) == []


def test_a_route_that_is_there_twice_is_a_warning():
    routes = [path("ws/<a>/", one_room), path("ws/<str:b>/", other_room), path("ws/", ping)]
    (message,) = found(WEBSOCKET_HANDLERS=routes)
    assert message.id == "ws_dispatch.W006"
    assert message.obj == "WEBSOCKET_HANDLERS['ws/<str:b>/']"
    assert "'ws/<a>/'" in message.msg


def test_a_regular_expression_for_one_text_is_that_route_again():
    (message,) = found(WEBSOCKET_HANDLERS=[path("y/", ping), re_path("^y/$", ping)])
    assert message.id == "ws_dispatch.W006"
    assert message.obj == "WEBSOCKET_HANDLERS['^y/$']"


def test_a_named_route_by_a_dotted_path_is_not_there_twice():
    assert found(WEBSOCKET_HANDLERS=[path("ws/", "tests.handlers.ping", name="ping")]) == []


def test_djangos_own_checks_of_patterns_run():
    messages = found(
        WEBSOCKET_HANDLERS=[
            path("ws/a/$", ping),
            path("ws/b/", ping, name="a:b"),
            re_path("^in/$", include([path("c/", ping)])),
        ]
    )
    assert ids(messages) == ["2_0.W001", "urls.W003", "urls.W001"]


def test_an_origin_that_no_browser_sends_is_a_warning_with_the_right_spelling():
    messages = found(WEBSOCKET_ALLOWED_ORIGINS=["wss://a.example", "https://a.example", "app://."])
    assert ids(messages) == ["W010"]
    assert (
        messages[0].msg
        == "WEBSOCKET_ALLOWED_ORIGINS has 'wss://a.example', which no browser sends."
    )
    assert messages[0].hint.startswith('Write "https://a.example". Where a native client sends it')
    assert messages[0].obj is None


def test_an_origin_of_one_handler_that_no_browser_sends_is_a_warning_that_names_its_route():
    native = allowed_origins("http://a.example/", "file://")(functools.partial(one))
    messages = found(WEBSOCKET_HANDLERS={"ws/": ping, "native/": native})
    assert ids(messages) == ["W010"]
    assert messages[0].obj == "WEBSOCKET_HANDLERS['native/']"
    assert "@allowed_origins() has 'http://a.example/'" in messages[0].msg


def test_any_origin_is_none_that_no_browser_sends():
    assert found(WEBSOCKET_ALLOWED_ORIGINS=["*", "https://*.a.example"]) == []


def test_an_origin_check_that_is_off_is_a_warning():
    messages = deployment(WEBSOCKET_ALLOWED_ORIGINS=["*"])
    assert ids(messages) == ["W007", "W009"]


def test_an_origin_check_that_is_off_for_one_handler_is_a_warning_that_names_it():
    open_handler = allowed_origins("*")(functools.partial(one))
    messages = deployment(WEBSOCKET_HANDLERS={"ws/": ping, "open/": open_handler})
    assert ids(messages) == ["W007", "W009"]
    assert messages[0].obj == "WEBSOCKET_HANDLERS['open/']"
