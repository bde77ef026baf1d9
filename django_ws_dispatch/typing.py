"""The ASGI callables and messages as this package passes them on (ASGI spec, "Applications")."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["ASGIApplication", "Event", "Receive", "Scope", "Send"]

# The values differ from key to key and from server to server, hence Any.
Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
ASGIApplication = Callable[[Scope, Receive, Send], Awaitable[None]]
