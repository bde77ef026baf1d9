"""The WebSocket that a handler gets, its states and its close codes."""

from ..codes import CloseCode
from .websocket import WebSocket
from .writer import WebSocketState

__all__ = ["CloseCode", "WebSocket", "WebSocketState"]
