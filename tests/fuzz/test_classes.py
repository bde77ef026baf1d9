"""Any stream of a client means the same to both classes: to the package's and to uvicorn's own."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, example, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode

from django_ws_dispatch.uvicorn import WebSocketProtocol
from django_ws_dispatch.uvicorn.frames import apply_mask
from tests.uvicorn.wire import Transport, config_of

from .conftest import PROFILE

EXAMPLES = 100_000 if PROFILE == "large" else 150
MOST = 1000

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n"

TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
RSV1 = 0x40
KEY = b"\x37\xfa\x21\x3d"


# What a client sends


def frame(opcode: int, payload: bytes, *, fin: bool = True, mask: bool = True) -> bytes:
    """A frame of a client; its mask is RFC 6455's, so that an example is the same again."""
    data = Frame(Opcode.BINARY, payload).serialize(mask=False)
    head = data[: len(data) - len(payload)]
    first = bytes((opcode | 0x80 * fin, head[1] | 0x80 * mask))
    return first + head[2:] + (KEY + apply_mask(payload, KEY) if mask else payload)


def deflated(payload: bytes) -> bytes:
    deflate = zlib.compressobj(6, zlib.DEFLATED, -12)
    return (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


# With some that are too large, at once or together.
sizes = st.sampled_from([125, 126, 300, 600, MOST - 1, MOST, MOST + 1, 70_000])
texts = st.text(max_size=30).map(str.encode) | sizes.map(lambda size: b"x" * size)
binaries = st.binary(max_size=30) | sizes.map(lambda size: b"\xff" * size)
no_texts = st.sampled_from([b"\xc3", b"\xbc", b"ok\xed\xa0\x80", "€".encode()[:2]]) | binaries
closes = st.sampled_from(
    [b"", b"\x03", b"\x03\xe8", b"\x03\xe9bye", b"\x03\xed", b"\x03\xee", b"\x0f\xa0\xff", b"\0\1"]
)
controls = st.builds(
    frame, st.sampled_from([PING, PONG]), st.binary(max_size=20) | st.just(b"x" * 125)
)


def in_fragments(opcode: int, payload: bytes, cuts: list[int], between: list[bytes]) -> list[bytes]:
    """The frames of a message, with others between them."""
    edges = [0, *sorted(cut % (len(payload) + 1) for cut in cuts), len(payload)]
    parts = []
    for number, (begin, end) in enumerate(pairwise(edges)):
        if number and number <= len(between):
            parts.append(between[number - 1])
        fin = number == len(edges) - 2
        parts.append(frame(CONT if number else opcode, payload[begin:end], fin=fin))
    return parts


def messages(packs: st.SearchStrategy[bool]) -> st.SearchStrategy[list[bytes]]:
    """Messages, each as its frames; some of them are no UTF-8, or too large."""
    return st.builds(
        lambda what, packed, cuts, between: in_fragments(
            what[0] | RSV1 * packed, deflated(what[1]) if packed else what[1], cuts, between
        ),
        st.one_of(
            *[st.tuples(st.just(TEXT), texts)] * 3,
            *[st.tuples(st.just(BINARY), binaries)] * 2,
            st.tuples(st.just(TEXT), no_texts),
        ),
        packs,
        st.just([]) | st.lists(st.integers(0, 1000), max_size=3),
        st.lists(controls, max_size=2),
    )


def one_of_many(rare: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(*[st.none()] * 7, rare)


oddities = st.one_of(
    st.builds(
        lambda opcode, bits, payload, fin, mask: [
            frame(opcode | bits, payload, fin=fin, mask=mask)
        ],
        st.integers(0, 15),
        st.sampled_from([0, 0, 0, 0x10, 0x20, RSV1]),
        texts | binaries | closes,
        st.sampled_from([True, True, False]),
        st.sampled_from([True] * 5 + [False]),
    ),
    closes.map(lambda payload: [frame(CLOSE, payload)]),
    st.binary(min_size=1, max_size=10).map(lambda garbage: [garbage]),
    messages(st.just(True)),
)
flips = one_of_many(st.tuples(st.integers(0, 300), st.integers(1, 255)))


@st.composite
def streams(draw: st.DrawFn) -> tuple[bool, bytes]:
    """Whether deflate is offered, and what is sent: good for a while, then perhaps not."""
    deflate = draw(st.booleans())
    good = st.lists(
        messages(st.booleans() if deflate else st.just(False)) | controls.map(lambda one: [one]),
        max_size=10,
    )
    odd = st.just([]) | oddities.map(lambda one: [one])
    stream = b"".join(chain(*draw(good), *draw(odd), *draw(good)))
    return deflate, flipped(stream, draw(flips))


def flipped(stream: bytes, flip: tuple[int, int] | None) -> bytes:
    """The stream, with bits of one byte turned over."""
    if flip is None or not stream:
        return stream
    at = flip[0] % len(stream)
    return stream[:at] + bytes((stream[at] ^ flip[1],)) + stream[at + 1 :]


def frames_of(stream: bytes) -> Iterator[bytes]:
    """Each whole frame; last what is none."""
    while len(stream) >= 2:
        size, head = stream[1] & 0x7F, 2
        if size > 125:
            head = 4 if size == 126 else 10
            size = int.from_bytes(stream[2:head])
        end = head + (4 if stream[1] & 0x80 else 0) + size
        yield stream[:end]
        stream = stream[end:]
    if stream:
        yield stream


def has_late_control(stream: bytes) -> bool:
    """Whether a control frame comes within a message in fragments, and websockets minds that.

    It minds a close frame, and counts each into what the message may still have.
    """
    size, within = 0, False
    for one in frames_of(stream):
        if len(one) < 2:
            break
        opcode, length = one[0] & 0x0F, min(one[1] & 0x7F, 126)
        if opcode >= CLOSE:
            if length > MOST - size or (opcode == CLOSE and within):
                return True
        elif one[0] & 0x80:
            size, within = 0, False
        else:
            size, within = size + len(one), True
    return False


def chunks_of(stream: bytes, cuts: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
    for begin, end in pairwise(edges):
        if begin < end:
            yield stream[begin:end]


# What becomes of it


class Outcome(NamedTuple):
    """What the application was told, and what the client was sent."""

    messages: list[str | bytes]
    code: int
    pongs: list[bytes]
    close: bytes | None  # the code that went on the wire


async def application(scope: Any, receive: Any, send: Any) -> None:
    """It notes what comes."""
    events, reads = scope["state"]["events"], scope["state"]["reads"]
    await receive()
    await send({"type": "websocket.accept"})
    await reads.wait()
    while not events or events[-1]["type"] == "websocket.receive":
        events.append(await receive())


def answers(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and payload of what the server has sent behind its handshake."""
    data = data.partition(b"\r\n\r\n")[2]
    while data:
        assert data[0] & 0xF0 == 0x80
        assert data[1] < 126
        end = 2 + data[1]
        assert len(data) >= end
        yield data[0] & 0x0F, data[2:end]
        data = data[end:]


async def turns_until(condition: Callable[[], object]) -> None:
    """Let the loop do what is due until something has come; nothing takes time here."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise TimeoutError


class Side:
    """One of the two classes."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self._config: Config = config_of(application, ws_max_size=MOST)

    async def outcome(self, chunks: Iterator[bytes], *, deflate: bool, reads: bool) -> Outcome:
        """What becomes of a client that sends these and leaves.

        Args:
            chunks: of its stream.
            deflate: it offers it.
            reads: the application reads at once; otherwise when the client has sent all.
        """
        state = ServerState()
        shared: dict[str, Any] = {"events": [], "reads": asyncio.Event()}
        if reads:
            shared["reads"].set()
        protocol = self._make(self._config, state, shared)
        transport = Transport(protocol, lambda data: None)
        protocol.connection_made(transport)
        transport.receives(REQUEST + (DEFLATE if deflate else b"") + b"\r\n")
        await turns_until(lambda: transport.writes)
        for chunk in chunks:
            transport.receives(chunk)
            if reads:
                await self._settled(transport)
        shared["reads"].set()
        await self._settled(transport)
        transport.eof()
        await turns_until(lambda: transport.is_lost and not state.tasks)
        assert not state.connections
        *messages, end = shared["events"]
        sent = [*answers(b"".join(transport.writes))]
        closed = [payload[:2] for opcode, payload in sent if opcode == CLOSE]
        assert len(closed) <= 1
        assert not closed or sent[-1][0] == CLOSE
        assert all(opcode in (PONG, CLOSE) for opcode, _ in sent)
        return Outcome(
            [event["text"] if "text" in event else event["bytes"] for event in messages],
            int(end["code"]),
            [payload for opcode, payload in sent if opcode == PONG],
            closed[0] if closed else None,
        )

    @staticmethod
    async def _settled(transport: Transport) -> None:
        """Return once all was read."""
        for _ in range(4):
            await asyncio.sleep(0)
        await turns_until(
            lambda: transport.is_closing() or (transport.is_reading and not transport.unread)
        )


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    log = logging.getLogger("uvicorn.error")
    log.disabled = True
    with asyncio.Runner() as runner:
        failures: list[Any] = []
        runner.get_loop().set_exception_handler(lambda loop, context: failures.append(context))
        yield runner
        assert not failures
    log.disabled = False


@pytest.fixture(scope="module")
def sides() -> tuple[Side, Side]:
    return Side(WebSocketProtocol), Side(WebSocketsSansIOProtocol)


@profile(max_examples=EXAMPLES)
@given(
    offer=streams(),
    cuts=st.lists(st.integers(0, 3000), max_size=6),
    reads=st.booleans(),
)
@example((False, b""), [], True)
def test_both_classes_say_the_same(runner, sides, offer, cuts, reads):
    deflate, stream = offer
    assume(not has_late_control(stream))
    own, uvicorns = sides
    got = runner.run(own.outcome(chunks_of(stream, cuts), deflate=deflate, reads=reads))
    # Its class forgets good messages in front of a broken frame, and fails on more behind text that
    # is no UTF-8, where they come in one chunk; and it reads only while no message waits.
    expected = runner.run(uvicorns.outcome(frames_of(stream), deflate=deflate, reads=True))
    if expected.close is None:  # its class says 1005 of a loss
        assert expected.code == 1005
        expected = expected._replace(code=1006)
    if deflate and expected.code == 1009:
        # Its class counts compressed bytes as well, which may be more than those of the message.
        assert got.messages[: len(expected.messages)] == expected.messages
        return
    assert got == expected
