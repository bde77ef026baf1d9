"""What was found, by name."""

from __future__ import annotations

import pytest
from django.test import override_settings

from django_ws_dispatch.conf import conf
from django_ws_dispatch.dispatcher import WebSocketDispatcher
from tests.fake_server import _no_pages

from .machine import DENIAL, Conversation, judge


@pytest.mark.asyncio
async def test_a_scope_without_a_path_is_not_a_failure():
    """It was a KeyError, and so a 500 with a traceback."""
    scope = {"type": "websocket", "headers": [(b"host", b"testserver")], "extensions": DENIAL}
    conversation = Conversation(scope, [])
    await conversation.run(WebSocketDispatcher(_no_pages))
    judge(conversation)
    assert conversation.sent[0]["status"] == 404
    assert not conversation.errors


@override_settings(WEBSOCKET_IDLE_TIMEOUT=10**400)
def test_an_idle_timeout_that_no_float_holds_is_a_long_one():
    """It was an OverflowError."""
    assert conf.idle_timeout == 1e9
