"""A subscriber that keeps its connection, whatever the server does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import pytest

from django_ws_dispatch.brokers import supervised
from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.brokers.supervised import (
    ACKNOWLEDGED,
    BATCH,
    MESSAGE,
    Connection,
    SupervisedSubscriber,
)
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.testing.brokers import Recorder
from tests.kit.waiting import until

pytestmark = pytest.mark.asyncio


class FakeConnection(Connection):
    """A server that acknowledges what it is asked for, unless it is ``silent``.

    What is put into ``coming`` is read, and raised if it is an exception.
    """

    silent = False

    def __init__(self) -> None:
        self.told: list[tuple[str, list[bytes]]] = []
        self.coming: asyncio.Queue[object] = asyncio.Queue()
        self.closed = False

    async def subscribe(self, names: Sequence[bytes]) -> None:
        self.told.append(("subscribe", list(names)))
        if not self.silent:
            for name in names:
                self.coming.put_nowait([ACKNOWLEDGED, name, b""])

    async def unsubscribe(self, names: Sequence[bytes]) -> None:
        self.told.append(("unsubscribe", list(names)))

    async def ping(self) -> None:
        self.told.append(("ping", []))
        if not self.silent:
            self.coming.put_nowait(b"PONG")

    def read(self) -> Awaitable[object]:
        return self._read()

    async def _read(self) -> object:
        item = await self.coming.get()
        if isinstance(item, Exception):
            raise item
        return item

    async def close(self) -> None:
        self.closed = True


class Stuck(FakeConnection):
    """A server that takes nothing."""

    async def subscribe(self, names: Sequence[bytes]) -> None:
        await asyncio.get_running_loop().create_future()


class Subscriber(SupervisedSubscriber):
    """Connects to what ``servers`` holds, the last of them for ever; an exception is raised."""

    def __init__(self, *servers: type[FakeConnection] | Exception, timeout: float = 60) -> None:
        self.recorder = Recorder()
        broker = MemoryBroker("default", None, {"timeout": timeout})
        super().__init__(broker, self.recorder, "a server")
        self._servers = list(servers)
        self.connections: list[FakeConnection] = []

    async def connect(self) -> Connection:
        server = self._servers.pop(0) if len(self._servers) > 1 else self._servers[0]
        if isinstance(server, Exception):
            raise server
        self.connections.append(server())
        return self.connections[-1]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "FIRST_PAUSE", 0.001)


async def subscribed(subscriber: Subscriber, *channels: str) -> FakeConnection:
    for channel in channels:
        ready = subscriber.subscribe(channel, channel.encode())
        assert ready is not None
        await ready
    return subscriber.connections[-1]


async def test_messages_come_by_the_name_that_the_receiver_knows():
    one = Subscriber(FakeConnection)
    ready = one.subscribe("room", b"wsd:room")
    assert ready is not None
    await ready
    connection = one.connections[-1]
    connection.coming.put_nowait([MESSAGE, b"wsd:room", b"x"])
    connection.coming.put_nowait([MESSAGE, b"wsd:other", b"y"])
    connection.coming.put_nowait([MESSAGE, b"wsd:room", b"z"])
    await one.recorder.until(lambda: len(one.recorder.got) == 2)
    assert one.recorder.got == [("room", b"x"), ("room", b"z")]
    await one.aclose()
    assert connection.closed


async def test_many_channels_are_asked_for_in_batches():
    one = Subscriber(FakeConnection)
    ready = [one.subscribe(str(number), b"%d" % number) for number in range(2 * BATCH + 1)]
    await asyncio.gather(*filter(None, ready))
    (connection,) = one.connections
    assert [len(names) for _, names in connection.told] == [BATCH, BATCH, 1]
    await one.aclose()


async def test_a_connection_that_is_lost_is_made_again_with_all_that_is_wanted(caplog):
    one = Subscriber(FakeConnection, ConnectionError("away"), FakeConnection)
    first = await subscribed(one, "a", "b")
    first.coming.put_nowait(ConnectionError("gone"))
    await until(lambda: len(caplog.records) == 2)
    (second,) = one.connections[1:]
    assert first.closed
    assert second.told == [("subscribe", [b"a", b"b"])]
    lost, back = caplog.records
    assert (lost.levelname, back.levelname) == ("ERROR", "WARNING")
    assert "Lost the broker 'default' (a server): gone." in lost.getMessage()
    assert lost.exc_info is None
    assert "is back; 2 channels" in back.getMessage()
    assert one.recorder.reconnects == 1
    await one.aclose()


async def test_a_bug_is_a_loss_with_a_traceback(caplog):
    one = Subscriber(FakeConnection)
    (await subscribed(one, "a")).coming.put_nowait(ValueError("a bug"))
    await until(lambda: len(caplog.records) == 2)
    assert caplog.records[0].exc_info is not None
    await one.aclose()


async def test_a_server_that_takes_nothing_more_is_lost(caplog):
    one = Subscriber(Stuck, FakeConnection, timeout=0.05)
    one.subscribe("a", b"a")
    await until(lambda: one.recorder.reconnects)
    assert "nothing was taken within 0.1 s" in caplog.text
    await one.aclose()


async def test_a_silent_server_is_pinged_and_lost_if_it_does_not_answer(caplog):
    one = Subscriber(FakeConnection, timeout=0.05)
    connection = await subscribed(one, "a")
    await until(lambda: connection.told.count(("ping", [])) >= 2)
    assert not caplog.records
    connection.silent = True
    await until(lambda: one.recorder.reconnects)
    assert "no answer to a PING within 0.05 s" in caplog.text
    await one.aclose()


async def test_a_join_fails_in_time_with_what_is_wrong():
    one = Subscriber(ConnectionError("refused"), timeout=0.05)
    ready = one.subscribe("a", b"a")
    assert ready is not None
    with pytest.raises(BrokerError, match=r"\(a server\) did not acknowledge.*: refused\."):
        await ready
    await one.aclose()


async def test_a_receiver_that_is_busy_is_waited_for_and_no_sign_of_an_outage(caplog):
    one = Subscriber(FakeConnection, timeout=0.05)
    connection = await subscribed(one, "a")
    busy = asyncio.get_running_loop().create_future()
    one.recorder.hold = busy
    for data in (b"x", b"y"):
        connection.coming.put_nowait([MESSAGE, b"a", data])
    await one.recorder.until(lambda: len(one.recorder.got) == 1)
    await asyncio.sleep(0.2)  # several times as long as an answer may take
    assert one.recorder.got == [("a", b"x")]
    assert one.connections == [connection]
    assert not caplog.records
    one.recorder.hold = None
    busy.set_result(None)
    await one.recorder.until(lambda: len(one.recorder.got) == 2)
    await one.aclose()


async def test_a_channel_that_is_taken_over_may_have_missed_something(caplog):
    one, other = Subscriber(FakeConnection), Subscriber(FakeConnection)
    await subscribed(one, "a", "b")
    other.take(b"a", one.wanted, missed=True)
    await other.recorder.until(lambda: other.recorder.reconnects == 1)
    other.take(b"b", one.wanted, missed=False)
    (connection,) = other.connections
    await until(lambda: connection.told == [("subscribe", [b"a"]), ("subscribe", [b"b"])])
    connection.coming.put_nowait([MESSAGE, b"b", b"x"])
    await other.recorder.until(lambda: other.recorder.got == [("b", b"x")])
    assert other.recorder.reconnects == 1
    assert not other.is_lost
    assert not caplog.records
    await one.aclose()
    await other.aclose()
