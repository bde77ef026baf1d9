"""A user who is logged in and has sockets open."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import TransactionTestCase

from django_ws_dispatch.decorators import login_required
from django_ws_dispatch.exceptions import WebSocketDisconnect
from django_ws_dispatch.testing import WebSocketClient
from tests.kit.waiting import DEADLINE

__all__ = ["OpenSockets", "echo"]


@login_required
async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


class OpenSockets(TransactionTestCase):
    def setUp(self) -> None:
        self.user = User.objects.create_user("ada", password="first")

    async def logged_in(self, user: Any = None) -> WebSocketClient:
        client = WebSocketClient()
        await client.aforce_login(await User.objects.aget(pk=(user or self.user).pk))
        return client

    async def assertOpen(self, socket: Any) -> None:
        await socket.send("ping")
        assert await socket.receive(timeout=DEADLINE) == "ping"

    async def assertLoggedOut(self, socket: Any) -> None:
        with pytest.raises(WebSocketDisconnect) as caught:
            await socket.receive(timeout=DEADLINE)
        assert caught.value.code == 4401
