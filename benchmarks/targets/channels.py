"""Channels, with consumers as its documentation has them."""

import os
import time

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

from django.core.asgi import get_asgi_application

pages = get_asgi_application()

from asgiref.sync import sync_to_async  # noqa: E402
from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.urls import path  # noqa: E402


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data=text_data)


class Full(Echo):
    async def connect(self):
        if self.scope["user"].is_authenticated:
            await self.accept()


class Member(AsyncWebsocketConsumer):
    groups = ["members"]

    async def connect(self):
        await self.accept()
        await self.send(text_data="joined")

    async def group_message(self, event):
        await self.send(text_data=event["text"])


class Publish(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        await self.channel_layer.group_send("members", {"type": "group.message", "text": text_data})


class Block(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        await sync_to_async(time.sleep)(1)
        await self.send(text_data=text_data)


sockets = URLRouter(
    [
        path("ws/echo/", Echo.as_asgi()),
        path("ws/member/", Member.as_asgi()),
        path("ws/publish/", Publish.as_asgi()),
        path("ws/block/", Block.as_asgi()),
        # Only here: the stack loads a user for every socket, and the others need none.
        path("ws/full/", AuthMiddlewareStack(Full.as_asgi())),
    ]
)
application = ProtocolTypeRouter({"http": pages, "websocket": AllowedHostsOriginValidator(sockets)})
