"""The site behind a middleware that wraps ``send()``, in something that needs a task."""

from __future__ import annotations

import asyncio

from django_ws_dispatch.typing import Event, Receive, Scope, Send
from tests.asgi import application as site

__all__ = ["application"]


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    async def send_in_time(event: Event) -> None:
        async with asyncio.timeout(60):
            await send(event)

    await site(scope, receive, send_in_time)
