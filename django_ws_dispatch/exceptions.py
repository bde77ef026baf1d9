"""The exceptions of this package.

::

    Exception
    └── WebSocketError
        ├── WebSocketDisconnect    the conversation is over
        ├── Deny                   raised by a handler: answer the handshake with this
        └── BrokerError            a message could not be handed to the broker, or was lost by it

None of them is an ``OSError``: an ``except ConnectionError`` around somebody's Redis must not
swallow a disconnect.
"""

from __future__ import annotations

from http.client import responses
from typing import cast

from django.http import HttpResponse
from django.http.response import HttpResponseBase

__all__ = ["BrokerError", "Deny", "WebSocketDisconnect", "WebSocketError"]


class WebSocketError(Exception):
    """The base of every exception that this package raises for what happens on a socket."""


class WebSocketDisconnect(WebSocketError):
    """The socket is closed: by the client, by the server, or by this side.

    Args:
        code: the close code (RFC 6455 section 7.4); 1005 where the peer gave none, 1006 where the
            connection was lost.
        reason: the close reason, empty where none was given or the server does not tell.
    """

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.code} {self.reason}".rstrip()


class Deny(WebSocketError):
    """Raise it in a handler to refuse the connection with an HTTP response.

    Before the socket was accepted, the client gets this response where the server has the
    ``websocket.http.response`` extension (ASGI spec, "WebSocket Denial Response") and a bare 403
    elsewhere. After that it gets the close code 4000 + status. In an ``ExceptionGroup``, as a
    ``TaskGroup`` raises it, it means the same if nothing in the group is a failure.

    Args:
        response: an HTTP status (200 to 599), or the whole ``HttpResponse``.

    Raises:
        ValueError: the status can not answer a handshake that failed.
        TypeError: it is neither an ``int`` nor a response.
    """

    def __init__(self, response: int | HttpResponseBase, /) -> None:
        if isinstance(response, int) and not isinstance(response, bool):
            status = int(response)
            if 200 <= status <= 599:
                phrase = responses.get(status, "")
                response = HttpResponse(
                    phrase, status=status, content_type="text/plain; charset=utf-8"
                )
        elif isinstance(response, HttpResponseBase):
            status = response.status_code
        else:
            raise TypeError(
                f"Deny() takes an HTTP status or an HttpResponse, not {type(response).__name__}."
            )
        if not 200 <= status <= 599:
            raise ValueError(f"Deny() takes a status from 200 to 599, not {status}.")
        super().__init__(status)
        self.status_code = status
        self.response = cast(HttpResponseBase, response)

    def __str__(self) -> str:
        return str(self.status_code)


class BrokerError(WebSocketError):
    """A broker did not take a message or a subscription in time, or messages were lost.

    It does not rule out that the message arrived: the acknowledgement may be what was lost.

    Raised out of a handler before the accept it denies the handshake with 503 and
    ``Retry-After: 10``; after that it is a failure like any other, and the close code is 1011.
    """
