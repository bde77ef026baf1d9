"""Consumers of Channels as people have them, and their routes. None knows of this package."""

from __future__ import annotations

import asyncio
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from channels.exceptions import DenyConnection
from channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    WebsocketConsumer,
)
from django.contrib.auth.models import User
from django.db import connection

from django_ws_dispatch.decorators import login_required, with_user
from django_ws_dispatch.routing import path, re_path

from .notes import note


class Chat(AsyncWebsocketConsumer):
    """As in the tutorial of Channels."""

    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept(subprotocol="v1" if "v1" in self.scope["subprotocols"] else None)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "close":
            await self.close(code=4001, reason="enough")
        elif text_data == "fail":
            raise LookupError("the consumer")
        elif bytes_data is not None:
            await self.send(bytes_data=bytes_data)
        else:
            event = {"type": "chat.message", "text": text_data}
            await self.channel_layer.group_send(self.room, event)

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)
        note(f"chat {code}")


class SyncChat(WebsocketConsumer):
    """The same, sync."""

    def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        async_to_sync(self.channel_layer.group_add)(self.room, self.channel_name)
        self.accept()

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "close":
            self.close(code=4001, reason="enough")
        elif text_data == "users":
            self.send(text_data=str(User.objects.count()))
        elif text_data == "fail":
            raise LookupError("the consumer")
        else:
            event = {"type": "chat.message", "text": text_data}
            async_to_sync(self.channel_layer.group_send)(self.room, event)

    def chat_message(self, event: dict[str, Any]) -> None:
        self.send(text_data=event["text"])

    def disconnect(self, code: int) -> None:
        assert connection.settings_dict["NAME"]
        async_to_sync(self.channel_layer.group_discard)(self.room, self.channel_name)
        note(f"chat {code}")


class Who(AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept()
        await self.send_json(
            {
                "user": self.scope["user"].username,
                "colour": await sync_to_async(self.scope["session"].get)("colour"),
                "route": [list(self.scope["url_route"]["args"]), self.scope["url_route"]["kwargs"]],
            }
        )

    async def disconnect(self, code: int) -> None:
        note(f"who {code}")


class SyncWho(WebsocketConsumer):
    def connect(self) -> None:
        self.accept()
        session = self.scope["session"]
        session["seen"] = session.get("seen", 0) + 1
        session.save()
        self.send(text_data=f"{self.scope['user'].username} {session['colour']} {session['seen']}")

    def disconnect(self, code: int) -> None:
        note(f"who {code}")


class Denies(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.close(code=4003)


class SyncDenies(WebsocketConsumer):
    def connect(self) -> None:
        raise DenyConnection


class FailsToConnect(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        raise LookupError("the consumer")


class Pusher(AsyncWebsocketConsumer):
    """Sends until it is told that nobody listens."""

    async def connect(self) -> None:
        await self.accept()
        while True:
            await self.send(text_data="x" * 1000)
            # A send does not always suspend, and a loop that never does is nobody's server.
            await asyncio.sleep(0)


pusher = Pusher.as_asgi()
sync_chat = SyncChat.as_asgi()
restricted = login_required(Chat.as_asgi())

urlpatterns = [
    path("chat/<slug:room>/", Chat.as_asgi()),
    path("sync/<slug:room>/", "tests.mounts.consumers.sync_chat"),
    path("restricted/<slug:room>/", "tests.mounts.consumers.restricted"),
    re_path(r"^who/(?P<name>\w+)/(?P<number>\d+)/$", login_required(Who.as_asgi()), {"page": 1}),
    path("args/", with_user(Who.as_asgi())),
    path("sync-who/", login_required(SyncWho.as_asgi())),
    path("denies/", Denies.as_asgi()),
    path("sync-denies/", SyncDenies.as_asgi()),
    path("fails/", FailsToConnect.as_asgi()),
    path("pusher/", pusher),
]
