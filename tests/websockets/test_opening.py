"""The opening of a socket: who it is."""

from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import get_user_model
from django.core.exceptions import SynchronousOnlyOperation
from django.test import override_settings

from django_ws_dispatch.testing import WebSocketClient
from django_ws_dispatch.websockets import WebSocket


@async_to_sync
async def ask(question: Any) -> Any:
    """Return what a handler finds out."""
    answers = []

    async def handler(websocket: WebSocket) -> None:
        answers.append(await question(websocket))
        await websocket.send("asked")

    with override_settings(WEBSOCKET_HANDLERS={"ask/": handler}):
        async with WebSocketClient().connect("/ask/") as socket:
            await socket.receive()
    return answers[0]


@pytest.mark.django_db
def test_the_user_is_there_once_it_is_resolved():
    async def question(websocket: WebSocket) -> bool:
        user = await websocket.auser()
        return websocket.user is user and websocket.request.user is user

    assert ask(question)


@pytest.mark.django_db
def test_a_user_that_is_not_resolved_blocks_no_loop():
    async def question(websocket: WebSocket) -> Any:
        with pytest.raises(SynchronousOnlyOperation, match="auser"):
            _ = websocket.user
        return True

    assert ask(question)


@pytest.mark.django_db
def test_sync_code_may_have_the_user_at_once():
    async def question(websocket: WebSocket) -> bool:
        user = await sync_to_async(lambda: websocket.user)()
        return websocket.user is user and await websocket.auser() is user

    assert ask(question)


@pytest.mark.django_db
@override_settings(WEBSOCKET_HANDLERS={"name/": "tests.handlers.name"})
def test_the_user_has_what_the_sites_model_has():
    client = WebSocketClient()
    client.force_login(get_user_model().objects.create_user("ada"))

    @async_to_sync
    async def asked() -> str | bytes:
        async with client.connect("/name/") as socket:
            return await socket.receive()

    assert asked() == "ada"
