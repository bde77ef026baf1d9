"""Signals around the life of a socket.

Both are sent with ``asend(sender=WebSocket, websocket=...)``; a receiver may be sync or async. What
a receiver raises is logged and does not touch the socket. Those of ``websocket_closed``, and of
Django's ``got_request_exception``, have 5 s: a server that stops waits for them.
"""

from django.dispatch import Signal

__all__ = ["websocket_closed", "websocket_opened"]

websocket_opened = Signal()
"""Sent once the socket is accepted. Arguments: ``websocket``."""

websocket_closed = Signal()
"""Sent once an accepted socket is over. Arguments: ``websocket``, ``code``, ``reason``."""
