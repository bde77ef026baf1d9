"""The servers: one small class for each, with what it does otherwise than the others."""

from __future__ import annotations

import asyncio
import signal
from time import monotonic
from typing import Any

from ..typing import Receive, Scope, Send
from .wire import Wire

__all__ = ["KINDS", "Server", "is_forced_to_exit", "is_told_to_exit", "uvicorn_server"]

# Seconds that a client may take nothing of what it was sent last, and that it may take at all.
CLOSE_GRACE = 10.0
SLOW_GRACE = 60.0
# Seconds between two looks at it. Before the first one the loop has its turns: uvloop writes at the
# end of one, and a server may answer in a task of its own.
UNSENT_INTERVAL = 0.1
TURNS = 2


class Server:
    """The server of one connection, of which no more may be known than what ASGI says.

    Attributes:
        send: the one that the application was given.
        scope: of the connection.
    """

    __slots__ = ("_owner", "scope", "send")

    def __init__(self, send: Send, owner: Any, scope: Scope) -> None:
        self.send = send
        self._owner = owner  # of the server's own send(), if it is a method
        self.scope = scope

    def wire(self, receive: Receive) -> Wire | None:
        """Return the connection itself, where nothing stands between it and the application."""
        return None

    @property
    def latency(self) -> float | None:
        """Seconds that the client took for its last pong; ``None`` where nobody knows."""
        return None

    @property
    def has_refused(self) -> bool:
        """Whether it has closed the connection by itself, for what the client has sent."""
        return False

    def drain_within(self, seconds: float) -> None:
        """Let the connection stay up to so many seconds once the server is told to stop."""

    @property
    def _transport(self) -> Any:
        """The connection's transport, where the server lets one at it.

        On uvicorn ``send`` is a method of the protocol that owns it. uvloop's transports are none
        of asyncio's classes.
        """
        return _transport_of(self._owner)

    @property
    def unsent(self) -> int:
        """How many bytes wait for the client to read; 0 where the server does not tell."""
        if self._owner is None or (transport := self._transport) is None:
            return 0
        size: int = transport.get_write_buffer_size()
        return size

    @property
    def is_closing(self) -> bool:
        """Whether the server has closed the connection, perhaps only to wait for its buffer.

        uvicorn closes a client that does not answer a ping, and waits for it to read what was sent:
        until then nobody hears of a disconnect, also when the server stops.
        """
        transport = self._transport
        return transport is not None and bool(transport.is_closing())

    @property
    def is_stopping(self) -> bool:
        """Whether it waits for its connections to end, and tells them nothing."""
        return False

    @property
    def takes_headers_once(self) -> bool:
        """Whether a header name that comes twice in a denial may kill the worker.

        Where something is wrapped around granian's ``send``, an extension of HTTP tells it, which
        has no place on a websocket.
        """
        return "http.response.pathsend" in (self.scope.get("extensions") or {})

    def abort(self) -> bool:
        """Drop the connection without waiting for its buffer; ``False`` where that is impossible.

        There the server's own time-outs decide.
        """
        transport = self._transport
        if transport is None:
            return False
        transport.abort()
        return True

    def close_code(self, code: int) -> int:
        """Return the close code that says ``code`` on this server: no ``IntEnum``."""
        return int(code)

    @staticmethod
    def is_too_big(exc: BaseException) -> bool:
        """Whether ``send()`` has refused a message, and the client is still there.

        daphne does, over 1 MiB. autobahn's exception is a ``RuntimeError``, as are those that say
        that the client has gone.
        """
        return type(exc).__name__ == "PayloadExceededError"

    async def finish_denial(self) -> None:
        """Let the server finish a denial: uvicorn 0.54 logs an error where it has no time to."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def see_out(
        self,
        sending: asyncio.Task[Any] | None = None,
        *,
        ends: float | None = None,
        taken: bool = True,
    ) -> None:
        """Wait until a client has what it was sent last; cut it off where it does not take it.

        uvicorn waits for ever for a client that does not read, also when it stops. Who takes
        nothing for ``CLOSE_GRACE`` is cut off; who takes some of it may go on for ``SLOW_GRACE``,
        but no longer than ``CLOSE_GRACE`` once the server has been told to stop. It waits for
        nobody where the server is forced to stop, or something else than this package cancels it.

        Args:
            sending: what still sends; it is cancelled where it is not done by the end.
            ends: until when (monotonic, in seconds), whatever the client takes meanwhile.
            taken: wait until the client has taken all, and not only until ``sending`` is done.
        """
        now = monotonic()
        last = now + SLOW_GRACE if ends is None else ends
        stalled = now + CLOSE_GRACE if ends is None else ends
        left, turns = self.unsent, TURNS
        try:
            while (sending is not None and not sending.done()) or (taken and left):
                if turns:
                    turns -= 1
                    await asyncio.sleep(0)
                elif now >= min(last, stalled) or is_forced_to_exit():
                    if self.abort():
                        for _ in range(TURNS):  # it hears of it before the application returns
                            await asyncio.sleep(0)
                        if sending is not None:
                            await asyncio.wait([sending], timeout=UNSENT_INTERVAL)
                    break
                elif sending is not None and not sending.done():
                    await asyncio.wait([sending], timeout=UNSENT_INTERVAL)
                else:
                    await asyncio.sleep(UNSENT_INTERVAL)
                now, before, left = monotonic(), left, self.unsent
                if ends is None:
                    if left < before:
                        stalled = now + CLOSE_GRACE
                    if is_told_to_exit() or self.is_stopping:
                        ends = last = min(last, now + CLOSE_GRACE)
        except asyncio.CancelledError:
            if self.unsent:
                self.abort()
            raise
        finally:
            if sending is not None:
                sending.cancel()


class Uvicorn(Server):
    """uvicorn 0.5x, each of its protocol classes."""

    __slots__ = ()

    @property
    def unsent(self) -> int:
        # At the end of each socket.
        size: int = self._owner.transport.get_write_buffer_size()
        return size


class Hypercorn(Server):
    """hypercorn 0.18."""

    __slots__ = ()

    @property
    def _transport(self) -> Any:
        # A stream sends to its protocol, which over HTTP/1.1 has no other stream, and sends to the
        # connection.
        protocol = getattr(getattr(self._owner, "send", None), "__self__", None)
        if type(protocol).__name__ != "H11Protocol":
            return None
        connection = getattr(getattr(protocol, "send", None), "__self__", None)
        return _transport_of(getattr(connection, "writer", None))

    @property
    def is_stopping(self) -> bool:
        # On Python 3.12 and later it waits without end.
        terminated = getattr(getattr(self._owner, "context", None), "terminated", None)
        is_set = getattr(terminated, "is_set", None)
        return callable(is_set) and bool(is_set())


class Daphne(Server):
    """daphne 4.2."""

    __slots__ = ()

    def close_code(self, code: int) -> int:
        """Say 1011 as 4011: it can send 1000 and 3000-4999 only."""
        return code + 3000 if 1000 < code < 3000 else int(code)


class Granian(Server):
    """granian before 2.8.9."""

    __slots__ = ()

    @property
    def takes_headers_once(self) -> bool:
        return True


KINDS: dict[str, type[Server]] = {
    "uvicorn": Uvicorn,
    "hypercorn": Hypercorn,
    "daphne": Daphne,
    "granian": Granian,
}


def _transport_of(owner: Any) -> Any:
    transport = getattr(owner, "transport", None)
    if hasattr(transport, "abort") and hasattr(transport, "get_write_buffer_size"):
        return transport
    return None


def is_told_to_exit() -> bool:
    """Whether uvicorn has been told to stop: it tells that to no socket whose client has left.

    Its ``Server`` handles the signal itself. Under another process manager nobody knows.
    """
    return _server_says("should_exit")


def is_forced_to_exit() -> bool:
    """Whether uvicorn has been told twice, by Ctrl-C.

    On Python 3.12 and later it waits for all connections nevertheless where the loop is asyncio's.
    """
    return _server_says("force_exit")


def uvicorn_server() -> Any:
    """Return uvicorn's ``Server``, where it handles the signals of this process; else ``None``."""
    return getattr(signal.getsignal(signal.SIGTERM), "__self__", None)


def _server_says(attribute: str) -> bool:
    return bool(getattr(uvicorn_server(), attribute, False))
