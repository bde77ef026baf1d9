"""A WebSocket protocol class for uvicorn that any ASGI application can use.

::

    uvicorn mysite.asgi:application --ws django_ws_dispatch.uvicorn:WebSocketProtocol

It needs uvicorn 0.36 or later and ``websockets`` 16 or later, which the extra ``uvicorn`` brings;
nothing in here needs Django.
"""

from .protocol import WebSocketProtocol

__all__ = ["WebSocketProtocol"]
