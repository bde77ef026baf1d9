"""The WebSocket protocol class: one connection, from its handshake to its end.

::

    OPENING --accept--> OPEN --close frame sent--> CLOSING --answered, lost, late--> OVER
       |                  '--close frame received, broken frame, lost---------------^  ^
       '--denied--> DENIED ---------------------------------------------------------'

A whole data frame becomes a message here; so do a ping and a pong. Whatever is not plain goes, one
whole frame at a time, to websockets' sans-I/O core (``Authority``), which is what knows RFC 6455.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.logging import TRACE_LOG_LEVEL
from uvicorn.protocols.utils import (
    ClientDisconnected,
    get_client_addr,
    get_local_addr,
    get_path_with_query_string,
    get_remote_addr,
    is_ssl,
)
from uvicorn.server import ServerState
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Close
from websockets.http11 import Request
from websockets.server import ServerProtocol

from ..servers.wire import EXTENSION
from ..typing import Event, Scope
from . import opening
from .deflate import compress, inflate, largest
from .frames import (
    BINARY,
    CLOSE,
    MASKED,
    PING,
    PONG,
    RSV1,
    TEXT,
    Authority,
    apply_mask,
    close_frame,
    control_frame,
    data_frame,
)
from .shared import shared_of

__all__ = ["WebSocketProtocol"]

logger = logging.getLogger("uvicorn.error")

OPENING: Final = 0
OPEN: Final = 1
CLOSING: Final = 2
DENIED: Final = 3
OVER: Final = 4

# So much waits unread; then reading pauses. The last message may go over.
MOST_MESSAGES, MOST_BYTES = 32, 64 * 1024
# No control frame may be larger (RFC 6455 section 5.5), so that a smaller limit is none of theirs.
LARGEST_CONTROL = 125
# The first bytes of messages that are whole, and of control frames that are answered here.
WHOLE, PLAIN = (TEXT, BINARY), (PING, PONG)
# What is joined for one write is not more than this.
MOST_JOINED = 64 * 1024
# Seconds for a client to answer a close frame, 1012 among them, and to take what was sent before.
CLOSE_TIMEOUT = 10.0
RESTART_TIMEOUT = 1.0
ABORT_TIMEOUT = 10.0


class WebSocketProtocol(asyncio.Protocol):
    """A WebSocket connection of uvicorn. uvicorn makes it when a client asks for an upgrade.

    Attributes:
        transport: asyncio's or uvloop's.
        disconnect: the close code and the reason, if there is one, once it is over for the
            application.
        ready: it is open, and the client takes what it is sent.
        latency: seconds that the client took for its last pong; ``None`` before the first.
        max_size: of a message of the client, in bytes; a larger one is refused with 1009.
        has_refused: it was closed for what the client has sent, or has not.
        drain: seconds in which all connections are told that the server stops; 0 for at once.
        inflates: messages of the client may be compressed.
        deflates: messages to it may be.
        reading_is_paused: it has sent more than is being read.
    """

    __slots__ = (
        "__weakref__",
        "_abort_timer",
        "_app_state",
        "_at",
        "_authority",
        "_blocked",
        "_connections",
        "_core",
        "_default_headers",
        "_flush_due",
        "_handshake",
        "_in_wave",
        "_inbox",
        "_inbox_size",
        "_out",
        "_out_size",
        "_pong",
        "_response",
        "_rest",
        "_scope",
        "_shared",
        "_skipped",
        "_state",
        "_tasks",
        "_told_connect",
        "_waiter",
        "_wanted",
        "client",
        "close_timeout",
        "close_timer",
        "deflates",
        "disconnect",
        "drain",
        "has_refused",
        "inflates",
        "latency",
        "max_size",
        "ping_sent_at",
        "reading_is_paused",
        "ready",
        "server",
        "transport",
    )

    ping_timer = None  # one timer serves all connections

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._shared = shared_of(config, server_state, _loop or asyncio.get_running_loop())
        self._app_state = app_state
        self._connections: set[Any] = server_state.connections
        self._tasks = server_state.tasks
        self._default_headers = server_state.default_headers

        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int | None] | None = None
        self._state = OPENING
        self.disconnect: tuple[int, str | None] | None = None
        self._told_connect = False
        self.close_timer: asyncio.TimerHandle | None = None
        self.close_timeout = CLOSE_TIMEOUT
        self._abort_timer: asyncio.TimerHandle | None = None
        self.drain = 0.0
        self.has_refused = False
        self.max_size = self._shared.max_size

        # The handshake, as long as it goes on.
        self._core: ServerProtocol | None = None
        self._handshake: opening.Handshake | None = None
        self._response: Event | None = None
        self._scope: Scope | None = None

        # Reading: messages, and bytes from ``_at`` on that are no message yet.
        self._inbox: list[str | bytes] = []
        self._inbox_size = 0
        self._rest: bytes | bytearray | None = None
        self._at = self._wanted = self._skipped = 0
        self._waiter: asyncio.Future[None] | None = None
        self._authority: Authority | None = None
        self.reading_is_paused = False
        self.inflates = self.deflates = False

        # Writing: frames of this turn of the loop.
        self._out: list[bytes] = []
        self._out_size = 0
        self._flush_due = self._in_wave = False
        self._blocked: asyncio.Future[None] | None = None
        self.ready = False
        self._pong: bytes | None = None

        self.latency: float | None = None
        self.ping_sent_at = 0.0

    # The transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called when a connection is made."""
        self._connections.add(self)
        self.transport = transport  # type: ignore[assignment]
        self.server = get_local_addr(self.transport)
        self.client = get_remote_addr(self.transport)
        self._trace("%sWebSocket connection made")

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection is over, whoever ended it."""
        self._connections.discard(self)
        self._trace("%sWebSocket connection lost")
        self._over(1006)
        self._state, self._response = OVER, None
        self._cancel_close_timer()
        if self._abort_timer is not None:
            self._abort_timer.cancel()
            self._abort_timer = None
        self._out.clear()
        self._out_size = 0
        self._pong = None
        self.resume_writing()
        if exc is None:
            self.transport.close()

    def eof_received(self) -> None:
        """The client sends no more: the transport closes, once the client has taken the rest."""
        if self._state is OPEN or self._state is CLOSING:
            self._over(1006)
            self._close_transport()

    def pause_writing(self) -> None:
        """Called when the client takes less than is sent."""
        self.ready = False
        if self._blocked is None:
            self._blocked = self._shared.loop.create_future()

    def resume_writing(self) -> None:
        """Called when it takes more again."""
        self.ready = self._state is OPEN
        blocked, self._blocked = self._blocked, None
        if blocked is not None and not blocked.done():
            blocked.set_result(None)
        if self._pong is not None:
            pong, self._pong = self._pong, None
            if self._state in (OPEN, CLOSING):
                self.write(control_frame(PONG, pong))

    def shutdown(self) -> None:
        """Called when the server stops."""
        if self._state is OPEN:
            self._shared.drain.add(self, self.drain)
        elif self._state is OPENING:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self._close_transport()

    def restart(self) -> None:
        """Close, since the server restarts."""
        if self._state is OPEN:
            self._close(1012, None, RESTART_TIMEOUT)
            self._set_abort_timer()

    def _close_transport(self) -> None:
        """Close once all is sent; abort where the client does not take it."""
        self._cancel_close_timer()
        self.flush()
        if not self.transport.is_closing():
            self.transport.close()
        self._set_abort_timer()

    def _set_abort_timer(self) -> None:
        if self._abort_timer is None and self in self._connections:
            loop = self._shared.loop
            self._abort_timer = loop.call_later(ABORT_TIMEOUT, self._abort, self._left())

    def _abort(self, left: int) -> None:
        """Abort, unless the client has taken some of what is left and there is time for more."""
        self._abort_timer = None
        if self._left() < left and not self._shared.drain.is_stopping:
            self._set_abort_timer()
        else:
            self.transport.abort()

    def _left(self) -> int:
        # uvicorn's own tests, which this has to pass, have a transport without it.
        size = getattr(self.transport, "get_write_buffer_size", None)
        return 0 if size is None else size()

    def _cancel_close_timer(self) -> None:
        if self.close_timer is not None:
            self.close_timer.cancel()
            self.close_timer = None

    def _trace(self, text: str) -> None:
        if logger.level <= TRACE_LOG_LEVEL:
            prefix = "{}:{} - ".format(*self.client) if self.client else ""
            logger.log(TRACE_LOG_LEVEL, text, prefix)

    # The opening handshake

    def data_received(self, data: bytes) -> None:
        """Called with what the client has sent."""
        if self._state is OPEN or self._state is CLOSING:
            if self._skipped:
                self._skipped -= (skipped := min(self._skipped, len(data)))
                data = data[skipped:]
            rest = self._rest
            if rest is None:
                self._parse(data, 0)
                return
            if self._at or isinstance(rest, bytes):
                # It grows in place, or a large frame would be copied often.
                rest = self._rest = bytearray(rest[self._at :])
                self._at = 0
            rest += data
            if len(rest) >= self._wanted and not self.reading_is_paused:
                self._parse_rest()
        elif self._state is OPENING:
            self._read_request(data)

    def _read_request(self, data: bytes) -> None:
        if self._handshake is not None:  # frames in front of our answer
            if self._rest is None:
                self._rest = bytearray()
            self._rest += data
            if len(self._rest) >= MOST_BYTES:
                self._pause_reading()
            return
        if self._core is None:
            handshake = self._shared.memory.read(data)
            if handshake is not None:
                self._start(handshake)
                return
            self._core = self._shared.memory.core()
        core = self._core
        core.receive_data(data)
        if core.handshake_exc is not None:  # it is no HTTP
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        for event in core.events_received():
            if isinstance(event, Request):
                answer = opening.handshake_of(core, event)
                if isinstance(answer, opening.Handshake):
                    self._start(answer)
                else:
                    core.send_response(answer)
                    self._answer(b"".join(core.data_to_send()))
            break

    def _start(self, handshake: opening.Handshake) -> None:
        if self._shared.drain.is_stopping:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        shared = self._shared
        self._core = None
        self._handshake = handshake
        self.inflates, self.deflates = handshake.reads, handshake.writes
        raw_path, _, query_string = handshake.path.partition("?")
        self._scope = scope = {
            "type": "websocket",
            "asgi": {"version": shared.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(self.transport) else "ws",
            "server": self.server,
            "client": self.client,
            "root_path": shared.root_path,
            "path": shared.root_path + unquote(raw_path),
            "raw_path": (shared.root_path + raw_path).encode("ascii"),
            "query_string": query_string.encode("ascii"),
            "headers": handshake.headers,
            "subprotocols": handshake.subprotocols,
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}, EXTENSION: self},
        }
        app: Any = shared.app
        try:
            running = app(scope, self.receive, self.send)
            if not inspect.iscoroutine(running):
                running = _await(running)
        except Exception as exc:
            self._ended(None, exc)
            return
        task = shared.loop.create_task(running)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        try:
            result = task.result()
        except asyncio.CancelledError as exc:
            self._ended(None, None if self._shared.drain.is_stopping else exc)
        except BaseException as exc:
            self._ended(None, exc)
        else:
            self._ended(result, None)

    def _ended(self, result: object, exc: BaseException | None) -> None:
        """The application has: without a close frame of its own it drops the connection."""
        if exc is not None and not self._is_disconnect(exc):
            logger.error("Exception in ASGI application\n", exc_info=exc)
        if self._state is OPENING:
            if self._response is not None:
                self._deny(b"", more=False)
                return
            if exc is None:
                logger.error("ASGI callable returned without completing handshake.")
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
        elif result is not None:
            logger.error("ASGI callable should return None, but returned '%s'.", result)
        if self._state is OPEN and self._shared.drain.is_stopping:
            self.restart()  # nobody else tells the client: the application was cancelled
        elif self.close_timer is None:
            self._over(1006)
            self._close_transport()

    def _is_disconnect(self, exc: BaseException) -> bool:
        """Whether the application says no more than that the client is gone, as Starlette's do."""
        if isinstance(exc, ClientDisconnected):
            return True
        return self.disconnect is not None and type(exc).__name__ == "WebSocketDisconnect"

    def _log_answer(self, answer: str | int) -> None:
        scope: Any = self._scope
        self._scope = None  # it holds this
        client, path = get_client_addr(scope), get_path_with_query_string(scope)
        logger.info('%s - "WebSocket %s" %s', client, path, answer)

    def _accept(self, event: Event) -> None:
        headers = [(name.lower(), value) for name, value in event.get("headers") or ()]
        answer = opening.accepted(
            cast(opening.Handshake, self._handshake),
            [*self._default_headers, *headers],
            event.get("subprotocol"),
        )
        self._log_answer("[accepted]")
        if self.transport.is_closing():
            self._over(1006)  # the client has left
            return
        self._handshake = None
        self._state = OPEN
        self.ready = self._blocked is None
        self.transport.write(answer)
        self._shared.keeper.add(self)
        if self._rest is not None:
            self._parse_rest()

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer the handshake in the server's own words."""
        self._answer(opening.refused(status))
        self._state, self._response = OVER, None  # what the application answers is too late

    def _answer(self, answer: bytes) -> None:
        self._state = DENIED
        self.transport.write(answer)
        self._over(1006)
        self._close_transport()

    def _deny(self, body: bytes, *, more: bool) -> None:
        """Send a part of the application's denial, in front of the first one its head."""
        response = cast(Event, self._response)
        if self._state is OPENING:
            self._state = DENIED
            size = None if more else len(body)
            self.transport.write(
                opening.denied(response["status"], response.get("headers") or (), size)
            )
        self.transport.write(body)
        if not more:
            self._response = None
            self._over(1006)
            self._close_transport()

    # ASGI

    async def receive(self) -> Event:
        """ASGI's."""
        if not self._told_connect:
            self._told_connect = True
            return {"type": "websocket.connect"}
        while (message := self.take()) is None:
            if self.disconnect is not None:
                code, reason = self.disconnect
                event: Event = {"type": "websocket.disconnect", "code": code}
                if reason is not None:
                    event["reason"] = reason
                return event
            await self.wait()
        if isinstance(message, str):
            return {"type": "websocket.receive", "text": message}
        return {"type": "websocket.receive", "bytes": message}

    async def send(self, event: Event) -> None:
        """ASGI's.

        Raises:
            OSError: the client is gone.
            RuntimeError: nothing of this kind may be sent now.
        """
        while self._blocked is not None and self.disconnect is None:
            await asyncio.shield(self._blocked)
        kind = event["type"]
        if self._state is OPEN:
            if kind == "websocket.send":
                message = event.get("bytes")
                if message is None and (message := event.get("text")) is None:
                    raise RuntimeError("A 'websocket.send' needs 'bytes' or 'text'.")
                self.write_message(message)
            elif kind == "websocket.close":
                code = event.get("code")
                self._close(1000 if code is None else code, event.get("reason") or "")
            else:
                raise RuntimeError(
                    "Expected ASGI message 'websocket.send' or 'websocket.close', "
                    f"but got '{kind}'."
                )
        elif self._response is not None:
            if kind != "websocket.http.response.body":
                raise RuntimeError(
                    f"Expected ASGI message 'websocket.http.response.body' but got '{kind}'."
                )
            self._deny(event.get("body", b""), more=event.get("more_body", False))
        elif self._state is OPENING:
            self._send_first(kind, event)
        elif self._state is OVER or self._is_closed_here:
            raise ClientDisconnected
        else:
            raise RuntimeError(
                f"Unexpected ASGI message '{kind}', after sending 'websocket.close'."
            )

    @property
    def _is_closed_here(self) -> bool:
        """Whether it is not the application that has closed."""
        return self.has_refused or (self.disconnect is not None and self.disconnect[0] == 1012)

    def _send_first(self, kind: str, event: Event) -> None:
        if kind == "websocket.accept":
            self._accept(event)
        elif kind == "websocket.close":
            self._log_answer(403)
            self._answer(opening.denied(403, (), 0))
        elif kind == "websocket.http.response.start":
            status = event["status"]
            if not 100 <= status < 600:
                raise RuntimeError(f"Invalid HTTP status code '{status}' in response.")
            opening.denied(status, event.get("headers") or (), None)  # it raises where it is wrong
            self._log_answer(status)
            self._response = event
        else:
            raise RuntimeError(
                "Expected ASGI message 'websocket.accept', 'websocket.close' "
                f"or 'websocket.http.response.start' but got '{kind}'."
            )

    # Reading

    def take(self) -> str | bytes | None:
        """Return the next message; ``None`` where none has come, or the connection is over."""
        if not self._inbox:
            return None
        message = self._inbox.pop(0)
        if not self._inbox:
            self._inbox_size = 0
            if self.reading_is_paused:
                # Not now: who never waits for what has come would keep the loop to itself.
                self._shared.loop.call_soon(self._parse_rest)
        return message

    def wait(self) -> asyncio.Future[None]:
        """Return a future that is done once there may be a message, or the connection is over."""
        waiter = self._shared.loop.create_future()
        if self._inbox or self.disconnect is not None:
            waiter.set_result(None)
            return waiter
        before, self._waiter = self._waiter, waiter
        if before is not None and not before.done():
            # Two wait: who is woken wakes the other one.
            waiter.add_done_callback(partial(_wake, before))
        return waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
            # What it sends leaves right behind it, and not a turn of the loop later.
            if not self._flush_due:
                self._flush_due = True
                self._shared.loop.call_soon(self._end_turn)

    def _pause_reading(self) -> None:
        if not self.reading_is_paused:
            self.reading_is_paused = True
            self.transport.pause_reading()

    def _parse_rest(self) -> None:
        """Go on with what is no message yet."""
        rest, at = self._rest, self._at
        self._rest, self._at = None, 0
        if rest is not None:
            self._parse(rest, at)
        if self.reading_is_paused and not self._is_held_back:
            self.reading_is_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
            self._shared.keeper.resumed(self)

    @property
    def _is_held_back(self) -> bool:
        """Whether a whole frame, or the head of a wrong one, waits for what is in front of it."""
        return self._rest is not None and not self._wanted

    @property
    def _is_full(self) -> bool:
        return len(self._inbox) >= MOST_MESSAGES or self._inbox_size >= MOST_BYTES

    def _parse(self, data: bytes | bytearray, at: int) -> None:
        """Make messages of what the client has sent, from ``at`` on."""
        size = len(data)
        wanted = 0
        while at < size:
            # The head (RFC 6455 section 5.2).
            if size - at < 2:
                wanted = 2
                break
            first, second = data[at], data[at + 1]
            length, head = second & 0x7F, 6
            if length > 125:
                head = 8 if length == 126 else 14
                if size - at < head - 4:
                    wanted = head - 4
                    break
                length = int.from_bytes(data[at + 2 : at + head - 4], "big")
            end = at + head + length
            if (
                not second & MASKED
                or first & 0x07 > 2  # no such opcode
                or (first & 0x08 and length > max(largest(self.max_size), LARGEST_CONTROL))
            ):
                if self._holds_back():
                    break
                self._consult(data[at:])  # it says no
                return
            if not first & 0x08 and (self._state is CLOSING or length > self._most(first)):
                # Nobody reads it: it is not even collected.
                if self._state is OPEN:
                    if self._holds_back():
                        break
                    self._refuse_size()
                if end > size:
                    self._skipped = end - size
                    return
                at = end
                continue
            if end > size:
                wanted = head + length
                break
            if not first & 0x08:
                if self._inbox and self._is_full:
                    self._pause_reading()
                    break
                kind = first & ~RSV1 if self.inflates else first
                if kind in WHOLE and self._authority is None:
                    payload = data[at + head : end]
                    if length:
                        payload = apply_mask(payload, data[at + head - 4 : at + head])
                    if not self._received(first, payload):
                        if self._state is OPEN:
                            break  # it is held back
                        return
                    at = end
                    continue
            elif first == CLOSE and length < 126:
                self._close_came(apply_mask(data[at + head : end], data[at + head - 4 : at + head]))
                return
            elif length < 126 and first in PLAIN:
                payload = apply_mask(data[at + head : end], data[at + head - 4 : at + head])
                if first == PONG:
                    self._shared.keeper.pong(self, payload)
                elif self.has_refused:
                    pass  # RFC 6455 section 7.1.7: no more answers
                elif self._blocked is None:
                    self.write(control_frame(PONG, payload))
                else:  # RFC 6455 section 5.5.3: the newest one is enough
                    self._pong = payload
                at = end
                continue
            if not self._is_fragment(first) and self._holds_back():
                break
            if not self._consult(data[at:end]):
                return
            at = end
        if at < size:
            self._rest, self._at, self._wanted = data, at, wanted

    def _holds_back(self) -> bool:
        """Whether what may end the connection has to wait: what is in front of it is unread.

        So what the application answers to that is sent before the close frame.
        """
        if not self._inbox or self._state is not OPEN:
            return False
        self._pause_reading()
        return True

    def _is_fragment(self, first: int) -> bool:
        """Whether a data frame, by its first byte, is one where one may come."""
        if first & (0x38 if self.inflates else 0x78):
            return False
        return (first & 0x0F == 0) == (self._authority is not None)

    def _most(self, first: int) -> int:
        """Return how many bytes a data frame may have, by its first one."""
        if self._authority is not None:
            return self._authority.size_left
        return largest(self.max_size) if self.inflates and first & RSV1 else self.max_size

    def _received(self, first: int, payload: bytes | bytearray) -> bool:
        """Take a whole data frame; ``False`` where it ends the connection, or is held back."""
        try:
            if first & RSV1:
                payload = inflate(payload, self.max_size)
            message = str(payload, "utf-8") if first & 1 else bytes(payload)
        except PayloadTooBig:
            if not self._holds_back():
                self._refuse_size()
                return True
        except ProtocolError as exc:
            if not self._holds_back():
                self._fail(1002, str(exc))
        except UnicodeDecodeError as exc:
            if not self._holds_back():
                self._fail(1007, f"{exc.reason} at position {exc.start}")
        else:
            self._inbox.append(message)
            self._inbox_size += len(payload)
            if self._waiter is not None:
                self._wake()
            return True
        return False

    def _close_came(self, payload: bytes) -> None:
        """The client has sent a close frame; websockets says what is in it.

        It may come within a fragmented message (RFC 6455 section 5.4).
        """
        try:
            said = Close.parse(payload)
        except ProtocolError as exc:
            self._fail(1002, str(exc))
        except UnicodeDecodeError as exc:
            self._fail(1007, f"{exc.reason} at position {exc.start}")
        else:
            if self._state is OPEN:
                self._write_last(control_frame(CLOSE, payload))
            self._over(said.code, said.reason)
            self._close_transport()

    def _consult(self, data: bytes | bytearray) -> bool:
        """Let websockets say what a frame means; ``False`` where it ends the connection.

        Pings and close frames that are as they should be do not come here: it answers nothing but
        what is wrong.
        """
        authority = self._authority
        if authority is None:
            closing = None
            if self.disconnect is not None:  # this side has sent its close frame
                code, reason = self.disconnect
                closing = Close(code, reason or "")
            authority = Authority(self.max_size, self.inflates, closing)
        try:
            message, answer = authority.feed(data)
        except UnicodeDecodeError as exc:
            self._fail(1007, f"{exc.reason} at position {exc.start}")
            return False
        if authority.is_too_big and not data[0] & 0x08:  # its own answer would drop the connection
            self._refuse_size()
            return True
        self._authority = authority if authority.is_within else None
        if authority.failed:
            self.has_refused = True
            said = authority.answered
            self._write_last(answer)
            self._over(said.code if said else 1006, said.reason if said else "")
            self._close_transport()
            return False
        if message is not None and self._state is OPEN:
            self._inbox.append(message)
            self._inbox_size += authority.size
            self._wake()
        return True

    # Writing

    def write_message(self, message: str | bytes) -> None:
        """Send a message in this turn of the loop. It does not wait, and nothing stops it."""
        self.write(self.make_frame(message))

    def make_frame(self, message: str | bytes) -> bytes:
        """Return the frame of a message, for all connections with the same ``deflates``."""
        first = BINARY
        if isinstance(message, str):
            first, message = TEXT, message.encode()
        if self.deflates and (compressed := compress(message)) is not None:
            first, message = first | RSV1, compressed
        return data_frame(first, message)

    def write_in_turn(self, frame: bytes) -> None:
        """Send a frame soon: a fan-out's frames leave a few connections in a turn of the loop."""
        self._out.append(frame)
        self._out_size += len(frame)
        if self._out_size >= MOST_JOINED:
            self._flush_much()
        if not self._in_wave and not self._flush_due:
            self._in_wave = True
            self._shared.wave.add(self)

    def wave_comes(self) -> None:
        """Its turn has come to send what a fan-out has left here."""
        self._in_wave = False
        if self._out:
            self.flush()

    def write(self, frame: bytes) -> None:
        """Send whole frames in this turn of the loop, joined with what else there is."""
        self._out.append(frame)
        self._out_size += len(frame)
        if self._out_size >= MOST_JOINED:
            self._flush_much()
        if not self._flush_due:
            self._flush_due = True
            self._shared.loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._flush_due = False
        self.flush()

    def flush(self) -> None:
        """Hand to the transport what is to be sent."""
        out = self._out
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            self._out_size = 0
            self.transport.write(data)

    def _flush_much(self) -> None:
        """Flush before the turn is over; a large frame, which may be others' too, is not copied."""
        last = self._out.pop() if len(self._out[-1]) >= MOST_JOINED else b""
        self.flush()
        self._out_size = 0
        if last:
            self.transport.write(last)

    @property
    def unsent(self) -> int:
        """How many bytes the client has not taken."""
        return self._out_size + self.transport.get_write_buffer_size()

    def _write_last(self, frame: bytes) -> None:
        if frame:
            self._out.append(frame)
            self.flush()

    # Keep-alive

    def ping(self, payload: bytes) -> bool:
        """Send a ping; ``False`` where nothing may be sent any more."""
        if self._state is not OPEN or self.transport.is_closing():
            return False
        self.write(control_frame(PING, payload))
        return True

    def ping_timed_out(self) -> None:
        """Close: the client has not answered."""
        self._trace("%sWebSocket keepalive ping timeout")
        self._fail(1011, "keepalive ping timeout")

    # The end

    def _close(self, code: int, reason: str | None, timeout: float | None = None) -> None:
        """Send a close frame, and wait for the client's."""
        frame = close_frame(code, reason or "")
        if self.transport.is_closing():
            return  # that is on its way already
        self._write_last(frame)
        self._state = CLOSING
        self.ready = False
        self._say_disconnect(code, reason)
        self._authority = None  # nobody reads the rest of its message
        self._shared.keeper.remove(self)
        self._shared.drain.remove(self)
        timeout = self.close_timeout if timeout is None else timeout
        self.close_timer = self._shared.loop.call_later(timeout, self._close_transport)
        if self.reading_is_paused:
            self._parse_rest()

    def _refuse_size(self) -> None:
        """Close for a message that is too large; what of it is still to come is read over.

        To drop the connection would cost a client that is busy sending the close frame.
        """
        self.has_refused = True
        self._close(1009, "max message size")

    def _fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455 section 7.1.7): nothing more is read."""
        self.has_refused = True
        if self._state is OPEN:
            reason = reason.encode()[:123].decode(errors="ignore")
            self._write_last(close_frame(code, reason))
        self._over(code, reason)
        self._close_transport()

    def _over(self, code: int, reason: str | None = None) -> None:
        """Nothing is received any more, and nothing sent."""
        if self._state is not DENIED:
            self._state = OVER
        self.ready = False
        self._shared.keeper.remove(self)
        self._shared.drain.remove(self)
        self._rest = self._authority = self._scope = None
        self._at = self._wanted = 0
        self._say_disconnect(code, reason)

    def _say_disconnect(self, code: int, reason: str | None) -> None:
        if self.disconnect is None:
            self.disconnect = (code, reason)
        if self._blocked is not None:
            _wake(self._blocked)  # who waits to send hears of it now
        self._wake()


def _wake(waiter: asyncio.Future[None], _: object = None) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _await(running: Awaitable[Any]) -> Any:
    return await running
