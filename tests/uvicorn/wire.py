"""A protocol class of uvicorn without sockets: its transport, its client and its application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from django_ws_dispatch.uvicorn import WebSocketProtocol
from django_ws_dispatch.uvicorn.shared import shared_of

from ..kit.waiting import DEADLINE, until

__all__ = [
    "CLIENT",
    "DEFLATE",
    "SERVER",
    "URI",
    "Client",
    "Clock",
    "Handler",
    "Transport",
    "echo",
    "opened",
    "served",
]

CLIENT, SERVER = ("127.0.0.1", 50000), ("127.0.0.1", 8000)
URI = "ws://127.0.0.1:8000/ws/caf%C3%A9/?a=%20b"
DEFLATE = (ClientPerMessageDeflateFactory(),)
# asyncio's own: above it a transport tells the protocol to pause.
HIGH_WATER = 64 * 1024


class Transport(asyncio.Transport):
    """asyncio's, as far as a protocol sees it.

    Args:
        protocol: that is served.
        deliver: called with what the client takes, at the end with nothing.

    Attributes:
        writes: each of them, as it was.
        unread: what the client has sent while reading was paused.
        is_taken: the client takes what is sent to it; otherwise it waits in ``buffer``.
        is_lost: the protocol was told so.
    """

    def __init__(self, protocol: Any, deliver: Callable[[bytes], None], **extra: Any) -> None:
        super().__init__({"peername": CLIENT, "sockname": SERVER, **extra})
        self._protocol = protocol
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._is_closing = self._is_paused = False
        self._ends: asyncio.Handle | None = None
        self.writes: list[bytes] = []
        self.unread: list[bytes] = []
        self.buffer = b""
        self.is_reading = self.is_taken = True
        self.is_aborted = self.is_lost = False

    def write(self, data: Any) -> None:
        """Send."""
        assert not self.is_lost, "written after the loss"
        self.writes.append(bytes(data))
        if not data or self.is_cut:
            return
        if self.is_taken:
            self._deliver(bytes(data))
            return
        self.buffer += data
        if len(self.buffer) > HIGH_WATER and not self._is_paused:
            self._is_paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        """How many bytes the client has not taken."""
        return len(self.buffer)

    def taken(self) -> None:
        """The client takes all, and from now on everything at once."""
        self.is_taken = True
        data, self.buffer = self.buffer, b""
        if data:
            self._deliver(data)
        if self._is_paused:
            self._is_paused = False
            self._protocol.resume_writing()
        if self._is_closing:
            self._lose(None)

    def is_closing(self) -> bool:
        """Whether it is, or is closed."""
        return self._is_closing

    def close(self) -> None:
        """Close, once all is taken."""
        if not self._is_closing:
            self._is_closing = True
            self.is_reading = False
            if not self.buffer:
                self._lose(None)

    def abort(self) -> None:
        """Close at once."""
        self.is_aborted = True
        self.lose(None)

    def lose(self, exc: Exception | None) -> None:
        """Nothing is taken any more."""
        self._is_closing = True
        self.is_reading = False
        self.buffer = b""
        self._lose(exc)

    @property
    def is_cut(self) -> bool:
        """Whether what is sent goes nowhere."""
        return self._ends is not None

    def _lose(self, exc: Exception | None) -> None:
        if self._ends is None:
            self._ends = self._loop.call_soon(self._lost, exc)

    def _lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._protocol.connection_lost(exc)
        self._deliver(b"")

    def pause_reading(self) -> None:
        """Leave what the client sends where it is."""
        if not self._is_closing:
            self.is_reading = False

    def resume_reading(self) -> None:
        """Go on with what it has sent meanwhile."""
        if not self._is_closing and not self.is_reading:
            self.is_reading = True
            self._loop.call_soon(self._read)

    def receives(self, data: bytes) -> None:
        """The client has sent something."""
        self.unread.append(data)
        self._read()

    def _read(self) -> None:
        while self.unread and self.is_reading:
            self._protocol.data_received(self.unread.pop(0))

    def eof(self) -> None:
        """The client sends no more."""
        if self.is_reading and not self._protocol.eof_received():
            self.close()


class Client:
    """websockets' sans-I/O client.

    Args:
        make: the protocol of the server.
        answers: pings and close frames.
        extensions: it offers them.
        subprotocols: it offers them.
        extra: what the transport tells besides addresses.

    Attributes:
        response: to its handshake.
        frames: of the server.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        *,
        answers: bool = True,
        extensions: Sequence[Any] = (),
        subprotocols: Sequence[Any] = (),
        extra: dict[str, Any] | None = None,
    ) -> None:
        self.core = ClientProtocol(
            parse_uri(URI),
            extensions=extensions or None,
            subprotocols=subprotocols or None,
            max_size=None,
        )
        self.answers = answers
        self.response: Response | None = None
        self.frames: list[Frame] = []
        self.protocol = make()
        self.transport = Transport(self.protocol, self._receive, **(extra or {}))
        self.protocol.connection_made(self.transport)

    def _receive(self, data: bytes) -> None:
        if data:
            self.core.receive_data(data)
        else:
            self.core.receive_eof()
        for event in self.core.events_received():
            if isinstance(event, Frame):
                self.frames.append(event)
            else:
                assert isinstance(event, Response)
                self.response = event
        if self.answers:  # in a turn of its own
            asyncio.get_running_loop().call_soon(self.flush)

    def request(self, *headers: tuple[str, str]) -> bytes:
        """Return its request, with more headers."""
        request = self.core.connect()
        for name, value in headers:
            request.headers[name] = value
        self.core.send_request(request)
        return b"".join(self.core.data_to_send())

    def feed(self, *chunks: bytes) -> None:
        """Send bytes, right or wrong ones."""
        for chunk in chunks:
            self.transport.receives(chunk)

    def flush(self) -> None:
        """Send what the core wants to."""
        for data in self.core.data_to_send():
            if data:
                self.feed(data)

    def sends(self, *messages: str | bytes) -> None:
        """Send messages, each in a chunk of its own."""
        for message in messages:
            if isinstance(message, str):
                self.core.send_text(message.encode())
            else:
                self.core.send_binary(message)
            self.flush()

    def closes(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a close frame."""
        self.core.send_close(code, reason)
        self.flush()

    @property
    def messages(self) -> list[str | bytes]:
        """Those that have come."""
        return [
            bytes(frame.data).decode() if frame.opcode is Opcode.TEXT else bytes(frame.data)
            for frame in self.frames
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY)
        ]

    def payloads(self, opcode: Opcode) -> list[bytes]:
        """What was in frames of a kind."""
        return [bytes(frame.data) for frame in self.frames if frame.opcode is opcode]

    @property
    def close(self) -> Close | None:
        """What the server's close frame says."""
        return self.core.close_rcvd

    async def sees(self, *messages: str | bytes) -> None:
        """Wait until these have come, and no others."""
        await until(lambda: len(self.messages) >= len(messages))
        assert self.messages == [*messages]

    async def ended(self) -> Close | None:
        """Wait for the end of the connection."""
        await until(lambda: self.transport.is_lost)
        return self.close


class Handler:
    """An application that does what a test does for it."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}
        self.is_called = False
        self._result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        self.scope, self._receive, self._send = scope, receive, send
        self.is_called = True
        return await asyncio.shield(self._result)

    def returns(self, result: object = None) -> None:
        """It returns."""
        if not self._result.done():
            self._result.set_result(result)

    def raises(self, exc: Exception) -> None:
        """It raises."""
        self._result.set_exception(exc)

    async def receive(self) -> dict[str, Any]:
        """Return the next event."""
        async with asyncio.timeout(DEADLINE):
            event: dict[str, Any] = await self._receive()
            return event

    async def send(self, kind: str, **event: Any) -> None:
        """Send an event."""
        async with asyncio.timeout(DEADLINE):
            await self._send({"type": f"websocket.{kind}", **event})

    async def says(self, *messages: str | bytes) -> None:
        """Send messages."""
        for message in messages:
            await self.send("send", **{"text" if isinstance(message, str) else "bytes": message})

    async def reads(self, count: int) -> list[str | bytes]:
        """Return so many messages."""
        messages = []
        for _ in range(count):
            event = await self.receive()
            assert event["type"] == "websocket.receive"
            messages.append(event["text"] if "text" in event else event["bytes"])
        return messages

    async def disconnected(self) -> tuple[int, str | None]:
        """Return code and reason of the next event."""
        event = await self.receive()
        assert event["type"] == "websocket.disconnect", event
        return event["code"], event.get("reason")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Send back what comes."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


class Clock:
    """A loop whose time a test turns on.

    Attributes:
        now: its time.
        due: when something is called, and what.
    """

    def __init__(self) -> None:
        self.now = 100.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        """asyncio's."""
        return self.now

    def call_soon(self, callback: Callable[[], None]) -> Any:
        """asyncio's."""
        return self.call_at(self.now, callback)

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        """asyncio's: what it returns may be cancelled."""
        entry = (when, callback)
        self.due.append(entry)
        return SimpleNamespace(cancel=lambda: self.due.remove(entry))

    def turn_to(self, when: float) -> None:
        """Call what is due until then."""
        while ready := [entry for entry in self.due if entry[0] <= when]:
            entry = min(ready, key=lambda one: one[0])
            self.due.remove(entry)
            self.now = max(self.now, entry[0])
            entry[1]()
        self.now = when


def config_of(app: Any, **options: Any) -> Config:
    """Return uvicorn's, loaded."""
    options = {"interface": "asgi3", "ws_ping_interval": None, "proxy_headers": False, **options}
    config = Config(app, lifespan="off", log_config=None, ws=WebSocketProtocol, **options)
    config.load()
    return config


@asynccontextmanager
async def served(
    app: Any,
    *,
    state: ServerState | None = None,
    client: dict[str, Any] | None = None,
    headers: Sequence[tuple[str, str]] = (),
    sends: bool = True,
    **options: Any,
) -> AsyncIterator[Client]:
    """Yield a client that has sent its request; at the end nothing of its connection is left.

    Args:
        app: the application.
        state: uvicorn's, of the server.
        client: arguments of the client.
        headers: of its request, besides the usual ones.
        sends: whether it has sent the request.
        options: uvicorn's.
    """
    config = config_of(app, **options)
    state = state or ServerState()
    loop = asyncio.get_running_loop()
    one = Client(lambda: WebSocketProtocol(config, state, {"of": "lifespan"}), **(client or {}))
    protocol = one.protocol
    try:
        if sends:
            one.feed(one.request(*headers))
        yield one
    finally:
        if isinstance(app, Handler):
            app.returns()
        if not one.transport.is_lost:
            one.transport.lose(None)
        await until(lambda: one.transport.is_lost and not state.tasks)
    assert protocol not in state.connections
    assert not len(shared_of(config, state, loop).keeper)
    assert protocol.close_timer is protocol._abort_timer is None
    assert protocol._rest is protocol._authority is protocol._scope is None
    assert protocol.unsent == 0


@asynccontextmanager
async def opened(
    accept: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[Client, Handler]]:
    """Yield a client whose handshake was accepted, and the application.

    Args:
        accept: what the application says to it.
        options: those of ``served()``.
    """
    app = Handler()
    async with served(app, **options) as client:
        await until(lambda: app.is_called)
        assert await app.receive() == {"type": "websocket.connect"}
        await app.send("accept", **(accept or {}))
        assert client.response is not None
        assert client.response.status_code == 101
        yield client, app
