"""The site behind a middleware that wraps ``send()``."""

from __future__ import annotations

from django_ws_dispatch.typing import Event, Receive, Scope, Send
from tests.asgi import application as site

__all__ = ["application"]


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    async def send_on(event: Event) -> None:
        await send(event)

    await site(scope, receive, send_on)
