"""What was found, by name."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_ws_dispatch.conf import conf
from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.routing import re_path
from tests.kit.fake_server import no_pages

from .machine import DENIAL, Conversation, judge


@pytest.mark.asyncio
async def test_a_scope_without_a_path_is_not_a_failure():
    """It was a KeyError, and so a 500 with a traceback."""
    scope = {"type": "websocket", "headers": [(b"host", b"testserver")], "extensions": DENIAL}
    conversation = Conversation(scope, [])
    await conversation.run(WebSocketDispatcher(no_pages))
    judge(conversation)
    assert conversation.sent[0]["status"] == 404
    assert not conversation.errors


@pytest.mark.asyncio
async def test_a_path_that_can_not_be_quoted_is_a_bad_request():
    """It was a UnicodeEncodeError in the first handler that asked for its own address."""

    async def handler(websocket):
        websocket.request.build_absolute_uri()

    for scope in {"path": "/ws/\udcff"}, {"path": "/ws/", "root_path": "/\udcff"}:
        with override_settings(WEBSOCKET_HANDLERS=[re_path("", handler)]):
            scope |= {"type": "websocket", "headers": [(b"host", b"testserver")]}
            conversation = Conversation(scope | {"extensions": DENIAL}, [])
            await conversation.run(WebSocketDispatcher(no_pages))
        assert conversation.sent[0]["status"] == 400
        assert not conversation.errors


@override_settings(WEBSOCKET_IDLE_TIMEOUT=10**400)
def test_an_idle_timeout_that_no_float_holds_is_a_long_one():
    """It was an OverflowError."""
    assert conf.idle_timeout == 1e9


@pytest.mark.parametrize("path", [".", "..", "/."])
@pytest.mark.parametrize("setting", ["WEBSOCKET_LIFESPAN", "WEBSOCKET_MIDDLEWARE"])
def test_a_path_of_dots_is_improperly_configured(setting, path):
    """It was a TypeError or a ValueError of the import."""
    value = path if setting == "WEBSOCKET_LIFESPAN" else [path]
    with (
        override_settings(**{setting: value}),
        pytest.raises(ImproperlyConfigured, match=setting),
    ):
        WebSocketDispatcher(no_pages)


@override_settings(WEBSOCKET_MIDDLEWARE=["tests.handlers.ping"])
def test_a_handler_is_no_middleware():
    """It was found out at the first handshake, with a coroutine that nobody awaited."""
    with pytest.raises(ImproperlyConfigured, match=r"tests\.handlers\.ping returned"):
        WebSocketDispatcher(no_pages)
