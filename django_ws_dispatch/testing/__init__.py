"""Tools for the tests of a site with sockets.

::

    class PingTests(TestCase):
        async def test_ping(self):
            client = WebSocketClient()
            async with client.connect("/ws/ping/") as socket:
                await socket.send("ping")
                self.assertEqual(await socket.receive(), "pong!")

The names are imported when they are used: pytest loads its plugin, which lies in this package,
before there are settings.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import WebSocketClient
    from .clock import travel
    from .envelopes import EnvelopeSocket, Frame
    from .groups import assert_sent
    from .live import ASGILiveServer, ASGILiveServerTestCase
    from .sockets import ClientSocket, HandshakeDenied

__all__ = [
    "ASGILiveServer",
    "ASGILiveServerTestCase",
    "ClientSocket",
    "EnvelopeSocket",
    "Frame",
    "HandshakeDenied",
    "WebSocketClient",
    "assert_sent",
    "travel",
]

_MODULES = {
    "ASGILiveServer": "live",
    "ASGILiveServerTestCase": "live",
    "ClientSocket": "sockets",
    "EnvelopeSocket": "envelopes",
    "Frame": "envelopes",
    "HandshakeDenied": "sockets",
    "WebSocketClient": "client",
    "assert_sent": "groups",
    "travel": "clock",
}


if not TYPE_CHECKING:  # which would have every name there is be any thing

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
