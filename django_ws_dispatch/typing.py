"""The ASGI callables and messages as this package passes them on (ASGI spec, "Applications")."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["ASGIApplication", "Event", "Receive", "Scope", "Send"]

# The values differ from key to key and from server to server, hence Any.
Scope = MutableMapping[str, Any]
"""What is known of a connection, as ``scope["type"]`` and ``scope["path"]``."""
Event = MutableMapping[str, Any]
"""A message between the server and an application, such as ``{"type": "websocket.accept"}``."""
Receive = Callable[[], Awaitable[Event]]
"""Waits for the next message of the server."""
Send = Callable[[Event], Awaitable[None]]
"""Hands the server a message."""
ASGIApplication = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI 3 application, such as a raw handler."""
