"""What waits takes about the memory that it is counted as: the outbox, readers, the inbox, the
memory broker.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from django_ws_dispatch import groups
from django_ws_dispatch.brokers import memory
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group
from django_ws_dispatch.groups.fanout import Channel, FanOut
from django_ws_dispatch.groups.messages import Message, decode, encode_data
from django_ws_dispatch.limits import ENTRY_OVERHEAD, Limits, entry_size, held_size
from django_ws_dispatch.testing.brokers import Recorder
from django_ws_dispatch.websockets import WebSocket
from django_ws_dispatch.websockets.connection import Connection

from ..kit.waiting import until

pytestmark = pytest.mark.asyncio

LIMIT = 64 * 1024
# How many times a limit may be held, and more messages than fill it.
MOST = 2
PLENTY = 200_000

KINDS: dict[str, Callable[[int], str | bytes]] = {
    "one byte": lambda number: bytes((number % 256,)),
    "one character": lambda number: chr(number % 128),
    "100 bytes": lambda number: b"%0100d" % number,
    "10 KiB": lambda number: f"{number:010240}",
    "emoji": lambda number: "\U0001f600" * 25 + str(number),
    "one emoji in much text": lambda number: "\U0001f600" + f"{number:01000}",
    "Cyrillic": lambda number: "\u0434" * 200 + str(number),
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
shared_or_not = pytest.mark.parametrize("shared", [False, True], ids=["distinct", "shared"])


class Held:
    """The bytes that Python has allocated since it was made, at their most."""

    def __init__(self) -> None:
        gc.collect()
        self._began = tracemalloc.get_traced_memory()[0]

    def now(self) -> int:
        return tracemalloc.get_traced_memory()[0] - self._began


@pytest.fixture
def held() -> Iterator[Callable[[], Held]]:
    tracemalloc.start()
    yield Held
    tracemalloc.stop()


def decoded(make: Callable[[int], str | bytes], *, shared: bool) -> Iterator[Message]:
    """Messages as a broker brings them."""
    one = decode(encode_data(make(7)))
    return (one if shared else decode(encode_data(make(number))) for number in range(PLENTY))


async def stuck(limit: int = LIMIT) -> tuple[WebSocket, asyncio.Event]:
    """A socket whose client does not read."""
    reads = asyncio.Event()

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(event: Any) -> None:
        if event["type"] != "websocket.accept":
            await reads.wait()

    limits = Limits(LIMIT, None, None, limit)
    socket = WebSocket(Connection({"path": "/"}, receive, send, limits))
    await socket.accept()
    return socket, reads


@every_kind
@shared_or_not
async def test_the_outbox_of_a_client_that_does_not_read(make, shared, held):
    socket, reads = await stuck()
    channel, fan_out = Channel(), FanOut(asyncio.get_running_loop())
    channel.members[socket.connection.writer] = 1
    allocated, most = held(), 0
    for message in decoded(make, shared=shared):
        if (busy := fan_out.deliver(channel, message)) is not None:
            await busy
        if socket.close_code is not None:
            break
        most = max(most, allocated.now())
    assert socket.close_code == 1013
    assert most <= MOST * LIMIT
    reads.set()
    await socket.connection.aclose()


@every_kind
@shared_or_not
async def test_a_reader_in_code_that_falls_behind(make, shared, held, settings, monkeypatch):
    monkeypatch.setattr(groups.group, "unheard", False)
    settings.WEBSOCKET_OUTBOX_SIZE = LIMIT
    async with Group("room").subscribe() as messages:
        reader: Any = messages
        allocated = held()
        for message in decoded(make, shared=shared):
            reader.deliver(message)
            if reader._overrun:
                break
        assert allocated.now() <= MOST * LIMIT
        with pytest.raises(BrokerError):
            async for _ in messages:
                pass
    await groups.members.aclose()


@every_kind
@pytest.mark.parametrize("reads", [True, False], ids=["reads", "never reads"])
async def test_the_inbox_of_a_handler_that_stays_away(make, reads, held):
    numbers = count()
    over = asyncio.Event()

    async def receive() -> Any:
        number = next(numbers)
        if number > 1000:
            over.set()
            await asyncio.Event().wait()
        payload = make(number)
        return {"text" if isinstance(payload, str) else "bytes": payload, "type": RECEIVE}

    async def send(event: Any) -> None:
        pass

    for limit in (LIMIT, 1024 * 1024):
        numbers = count()
        limits = Limits(limit, None, None, LIMIT)
        socket = WebSocket(Connection({"path": "/"}, receive, send, limits))
        await socket.accept()
        reader = socket.connection.reader
        reader.has_read = reads
        allocated = held()
        over.clear()
        reader.read_ahead()
        await until(lambda reader=reader: over.is_set() or reader.ahead is None)
        assert allocated.now() <= MOST * limit
        assert 0 < len(reader.inbox or ()) <= 64
        if reader.ahead is not None:
            reader.ahead.cancel()
        await until(lambda reader=reader: reader.ahead is None)


RECEIVE = "websocket.receive"


@every_kind
async def test_what_a_thread_leaves_for_a_loop(make, held, monkeypatch):
    monkeypatch.setattr(memory, "MAX_WAITING", LIMIT)
    broker = memory.MemoryBroker("default", None, {})
    subscriber = broker.subscriber(Recorder())
    allocated = held()
    for number in range(PLENTY):
        # A name that is as long as names may be, as each Group() has it anew.
        channel = f"group:{number:0100}" + "\U0001f600" * 100
        if not subscriber.hand_over(channel, encode_data(make(number)), 0):
            break
    assert number < LIMIT / ENTRY_OVERHEAD
    assert allocated.now() <= MOST * LIMIT
    await broker.aclose()


@pytest.mark.parametrize("size", [10_000, 100_000])
@pytest.mark.parametrize("letter", ["x", b"x"])
async def test_a_large_message_counts_nearly_as_its_payload(letter, size):
    for payload in (letter * size, (letter * size)[1:]):
        assert len(payload) < entry_size(payload) < 1.05 * size
        assert held_size(payload) == len(payload)


async def test_a_character_counts_what_its_text_takes_for_it():
    assert 4000 <= held_size("\U0001f600" * 1000) < 4100
    assert 4000 <= held_size("x" * 999 + "\U0001f600") < 4100
    assert 2000 <= held_size("\u0434" * 1000) < 2100
    assert 1000 <= held_size("\xe9" * 1000) < 1100
    assert held_size("") == held_size(b"") == 0


async def test_a_group_message_counts_once_for_all_its_members():
    text, data = decode(encode_data("caf\xe9 \U0001f600")), decode(encode_data(b"\x00\xff"))
    assert text.size == entry_size(text.event["text"])
    assert data.size == entry_size(data.event["bytes"])
    assert decode(encode_data("")).size > ENTRY_OVERHEAD
