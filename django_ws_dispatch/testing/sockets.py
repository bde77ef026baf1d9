"""The client's end of a socket, as a test holds it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from django.core.serializers.json import DjangoJSONEncoder
from django.utils.datastructures import CaseInsensitiveMapping

from ..codes import check_close_code, cut_reason
from ..exceptions import WebSocketDisconnect
from .wire import Wire

__all__ = ["ClientSocket", "HandshakeDenied"]

# What a server says of a close frame without a code, and of a connection without a close frame.
NOT_SENT = (1005, 1006)


class HandshakeDenied(Exception):
    """The application denied the handshake.

    Attributes:
        status_code: of the response.
        headers: of the response, by name in any case; repeated ones are joined with a comma.
        body: of the response, as bytes.
    """

    def __init__(self, status_code: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"The handshake was denied with {status_code}.")
        self.status_code = status_code
        self.headers = headers
        self.body = body


class ClientSocket:
    """The client's end of a socket: ``async with client.connect(...) as socket``.

    What the handler raised is raised once in the test, by whichever comes first: ``connect()``, a
    receive, a ``send()`` on the closed socket, ``wait_closed()`` or the end of the block.
    """

    def __init__(self, wire: Wire, *, raises: bool) -> None:
        self._wire = wire
        self._raises = raises
        self._raised: BaseException | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._wire.path}>"

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the application chose."""
        return self._wire.subprotocol

    @property
    def response_headers(self) -> Mapping[str, str]:
        """The headers of the accept, by name in any case; repeated ones are joined with a comma."""
        return join_headers(self._wire.headers)

    @property
    def close_code(self) -> int | None:
        """The close code, once either side has closed; 1006 for an end without a close frame."""
        return self._wire.close_code

    @property
    def close_reason(self) -> str | None:
        """The close reason, once either side has closed."""
        return self._wire.close_reason

    async def send(self, message: str | bytes) -> None:
        """Send one message: ``str`` as a text frame, ``bytes`` as a binary one.

        Raises:
            WebSocketDisconnect: the socket is closed.
            TypeError: ``message`` is neither.
        """
        if not isinstance(message, (str, bytes)):
            raise TypeError(
                f"send() takes str or bytes, not {type(message).__name__}: "
                "for anything else there is send_json()."
            )
        if self.close_code is not None:
            self._raise_over()
        self._wire.put(message)

    async def send_json(self, obj: Any) -> None:
        """Send ``obj`` as JSON in a text frame, encoded by ``DjangoJSONEncoder``.

        Raises:
            WebSocketDisconnect: the socket is closed.
            TypeError: it can not be encoded.
        """
        await self.send(json.dumps(obj, cls=DjangoJSONEncoder))

    async def receive(self, timeout: float = 1) -> str | bytes:
        """Return the next message: ``str`` for a text frame, ``bytes`` for a binary one.

        Args:
            timeout: seconds to wait for it.

        Raises:
            WebSocketDisconnect: the socket is closed, and every message was received.
            TimeoutError: none came in time.
        """
        try:
            async with asyncio.timeout(timeout):
                message = await self._wire.messages.get()
        except TimeoutError:
            raise TimeoutError(
                f"No message from {self._wire.path} came within {timeout:g} s."
                f"{self._wire.whereabouts()}"
            ) from None
        if message is None:
            self._raise_over()
        return message

    async def receive_json(self, timeout: float = 1) -> Any:
        """Return the next message, decoded from JSON.

        Args:
            timeout: seconds to wait for it.

        Raises:
            AssertionError: it is not JSON.
            WebSocketDisconnect: the socket is closed, and every message was received.
            TimeoutError: none came in time.
        """
        message = await self.receive(timeout)
        try:
            return json.loads(message)
        except ValueError as exc:
            raise AssertionError(f"{self._wire.path} sent {message!r}, which is not JSON.") from exc

    async def receive_nothing(self, within: float = 0.1) -> None:
        """Check that no message comes.

        Args:
            within: seconds to wait for one.

        Raises:
            AssertionError: one came.
            WebSocketDisconnect: the socket is closed.
        """
        try:
            async with asyncio.timeout(within):
                message = await self._wire.messages.get()
        except TimeoutError:
            return
        if message is None:
            self._raise_over()
        raise AssertionError(f"{self._wire.path} sent {message!r} where nothing was expected.")

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket, as a client does. Once is enough.

        Args:
            code: what the handler shall see (RFC 6455 section 7.4): 1001 for a page that was left,
                1005 for a close without a code, 1006 for a connection that broke.
            reason: at most 123 bytes of UTF-8.

        Raises:
            ValueError: no client can close with that code, or the reason is longer.
        """
        if code not in NOT_SENT:
            check_close_code(code)
        if cut_reason(reason) != reason:
            raise ValueError(f"A close reason has at most 123 bytes of UTF-8: {reason!r}.")
        self._wire.end(int(code), reason)

    async def wait_closed(self, timeout: float = 5) -> None:
        """Wait until the socket is closed, by either side, and its handler has ended.

        Args:
            timeout: seconds to wait.

        Raises:
            TimeoutError: it is not over in time.
        """
        if not await self._wire.wait_ended(timeout):
            raise TimeoutError(
                f"{self._wire.path} is not over after {timeout:g} s.{self._wire.whereabouts()}"
            )
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise what the handler raised, if that has not been raised."""
        if self.failure is not None:
            self._raised = self.failure
            raise self._raised

    @property
    def failure(self) -> BaseException | None:
        """What the handler raised, if the test shall see it and has not."""
        failure = self._wire.failure
        return failure if self._raises and failure is not self._raised else None

    def _raise_over(self) -> NoReturn:
        self._wire.messages.put_nowait(None)  # for the next one who asks
        self.raise_failure()
        raise WebSocketDisconnect(self.close_code or 1006, self.close_reason or "")


def join_headers(raw: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Return headers by name in any case; repeated ones are joined with a comma."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return CaseInsensitiveMapping(headers)
