"""``{% websocket_url %}``."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.template import Context, Template, TemplateSyntaxError
from django.test import RequestFactory, override_settings
from django.urls import NoReverseMatch, set_script_prefix

from django_ws_dispatch.routing import include, path
from tests.handlers import ping, room

HANDLERS = [
    path("ws/ping/", "tests.handlers.ping", name="ping"),
    path("ws/rooms/<str:room>/", room, name="room"),
    path("ws/in/", include(([path("ping/", ping, name="ping")], "chat"))),
]


@pytest.fixture(autouse=True)
def _site():
    with override_settings(WEBSOCKET_HANDLERS=HANDLERS):
        yield


def render(tag: str, secure: bool = False, **context: Any) -> str:
    context.setdefault("request", RequestFactory().get("/page/", secure=secure))
    return Template("{% load websockets %}" + tag).render(Context(context))


def test_it_is_absolute_with_the_host_of_the_page():
    assert render('{% websocket_url "ping" %}') == "ws://testserver/ws/ping/"


def test_a_page_over_https_gets_wss():
    assert render('{% websocket_url "ping" %}', secure=True) == "wss://testserver/ws/ping/"


def test_the_port_of_the_page_is_kept():
    request = RequestFactory(headers={"host": "localhost:8000"}).get("/")
    assert render('{% websocket_url "ping" %}', request=request) == "ws://localhost:8000/ws/ping/"


@pytest.mark.parametrize("arguments", ["room=slug", "slug"])
def test_it_takes_positional_and_keyword_arguments(arguments):
    url = render(f'{{% websocket_url "room" {arguments} %}}', slug="a b")
    assert url == "ws://testserver/ws/rooms/a%20b/"


def test_names_have_namespaces_and_dotted_paths():
    assert render('{% websocket_url "chat:ping" %}') == "ws://testserver/ws/in/ping/"
    assert render('{% websocket_url "tests.handlers.ping" %}') == "ws://testserver/ws/ping/"


def test_it_is_escaped_in_html_and_can_be_kept_in_a_variable():
    assert render('{% websocket_url "room" "a&b" %}').endswith("/ws/rooms/a&amp;b/")
    kept = '{% websocket_url "room" "a&b" as url %}[{{ url|safe }}]'
    assert render(kept) == "[ws://testserver/ws/rooms/a&b/]"


def test_the_script_prefix_comes_first():
    set_script_prefix("/app/")
    try:
        assert render('{% websocket_url "ping" %}') == "ws://testserver/app/ws/ping/"
    finally:
        set_script_prefix("/")


def test_no_route_raises_as_url_does():
    with pytest.raises(NoReverseMatch):
        render('{% websocket_url "nothing" %}')


def test_a_context_without_a_request_names_the_remedy():
    with pytest.raises(ImproperlyConfigured, match=r"context_processors\.request"):
        render('{% websocket_url "ping" %}', request=None)


def test_a_tag_without_a_name_is_a_template_error():
    with pytest.raises(TemplateSyntaxError):
        render("{% websocket_url %}")
