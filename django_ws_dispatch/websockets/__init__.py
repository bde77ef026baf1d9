"""The WebSocket that a handler gets, its states and its close codes."""

from ..codes import CloseCode
from .state import WebSocketState
from .websocket import WebSocket

__all__ = ["CloseCode", "WebSocket", "WebSocketState"]
