"""The Redis broker on a server that does not speak as Redis does."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from redis.exceptions import DataError

from django_ws_dispatch.brokers.redis import RedisBroker
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.testing.brokers import Recorder
from tests.kit.waiting import until

GARBAGE = {
    "no number": b":abc\r\n",
    "no length": b"$abc\r\n",
    "nil": b"*-7\r\n",
    "text": b"+OK\r\n",
    "too deep": b"*1\r\n" * 3000 + b":1\r\n",
    "no UTF-8": b"-ERR \xff\xfe\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


class Babbler:
    """A server that answers PUBLISH and SUBSCRIBE with ``answer``.

    Attributes:
        answer: what it says to them; ``None`` stands for what Redis would say.
        politely: whether it answers what comes before them, as Redis does.
        deaf: while it is set, nothing is read behind a SUBSCRIBE.
        connections: how many there have been.
    """

    def __init__(self) -> None:
        self.answer: bytes | None = None
        self.politely = True
        self.deaf = threading.Event()
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self.deaf.clear()
        for sock in (self._listener, *self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, *self._open):
            sock.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError):
            while data := connection.recv(65536):
                command = data.split(b"\r\n")[2]
                if command == b"SUBSCRIBE" and self.deaf.is_set():
                    while self.deaf.is_set():
                        time.sleep(0.01)
                    return
                if self.answer is not None and (
                    command in (b"PUBLISH", b"SUBSCRIBE", b"SENTINEL") or not self.politely
                ):
                    connection.sendall(self.answer)
                elif command == b"PUBLISH":
                    connection.sendall(b":1\r\n")
                elif command == b"SUBSCRIBE":
                    connection.sendall(b"*3\r\n$9\r\nsubscribe\r\n$5\r\nwsd:a\r\n:1\r\n")
                else:
                    connection.sendall(b"+OK\r\n" * data.count(b"CLIENT"))


@pytest.fixture
def server() -> Iterator[Babbler]:
    babbler = Babbler()
    yield babbler
    babbler.close()


def make_broker(server: Babbler, **options: object) -> RedisBroker:
    return RedisBroker("default", server.url, {"timeout": 5, **options})


@pytest.mark.parametrize(
    ("garbage", "politely"),
    # A text is what Redis itself says to a greeting.
    [(one, politely) for one in GARBAGE for politely in (True, False) if politely or one != "text"],
)
def test_garbage_is_a_broker_error_with_its_cause(
    garbage: str, politely: bool, server: Babbler
) -> None:
    server.answer, server.politely = GARBAGE[garbage], politely
    broker = make_broker(server, timeout=0.5)
    with pytest.raises(BrokerError, match="did not take a message") as caught:
        broker.publish("a", b"x")
    assert caught.value.__cause__ is not None

    async def main() -> None:
        with pytest.raises(BrokerError, match="did not take a message") as caught:
            await broker.apublish("a", b"x")
        assert caught.value.__cause__ is not None
        await broker.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("garbage", ["no number", "nil"])
def test_a_connection_that_brought_garbage_is_not_used_again(garbage: str, server: Babbler) -> None:
    broker = make_broker(server)

    async def main() -> None:
        for publish in (broker.apublish, lambda *args: asyncio.to_thread(broker.publish, *args)):
            server.answer = None
            await publish("a", b"x")
            before = server.connections
            server.answer = GARBAGE[garbage]
            with pytest.raises(BrokerError):
                await publish("a", b"x")
            assert server.connections == before + 1  # one retry on a fresh connection
            server.answer = None
            await publish("a", b"x")
            assert server.connections == before + 2
        await broker.aclose()

    asyncio.run(main())
    broker.close()


def test_what_can_not_be_sent_is_the_mistake_of_the_caller(server: Babbler) -> None:
    broker = make_broker(server)
    message: bytes = None  # type: ignore[assignment]
    with pytest.raises(DataError):
        broker.publish("a", message)

    async def main() -> None:
        with pytest.raises(DataError):
            await broker.apublish("a", message)
        await broker.aclose()

    asyncio.run(main())


def test_a_sender_that_is_cancelled_is_cancelled(server: Babbler) -> None:
    server.answer = b""

    async def main() -> None:
        broker = make_broker(server)
        sending = asyncio.create_task(broker.apublish("a", b"x"))
        await until(lambda: server.connections)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await broker.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("garbage", ["no number", "too deep"])
def test_a_subscriber_says_once_that_it_hears_garbage_and_once_that_it_is_over(
    garbage: str, server: Babbler, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = GARBAGE[garbage]

    async def main() -> None:
        broker, recorder = make_broker(server), Recorder()
        ready = broker.subscriber(recorder).subscribe("a")
        assert ready is not None
        await until(lambda: server.connections >= 3)
        server.answer = None
        await ready
        await recorder.until(lambda: recorder.reconnects == 1)
        await broker.aclose()

    asyncio.run(main())
    lost, back = caplog.records
    assert (lost.levelname, back.levelname) == ("ERROR", "WARNING")
    assert "Lost the broker 'default'" in lost.getMessage()
    assert lost.exc_info is not None
    assert "is back" in back.getMessage()


def test_a_sentinel_that_speaks_garbage_is_passed_over(server: Babbler) -> None:
    server.answer = b":7\r\n"
    broker = make_broker(server, sentinel="chats")
    with pytest.raises(BrokerError, match="No primary found"):
        broker.publish("a", b"x")

    async def main() -> None:
        with pytest.raises(BrokerError, match="No primary found"):
            await broker.apublish("a", b"x")

    asyncio.run(main())


def test_joins_that_fail_while_the_server_is_away_leave_nothing_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"redis://127.0.0.1:{nobody.getsockname()[1]}/0"

    async def main() -> None:
        broker = RedisBroker("default", url, {"timeout": 5})
        subscriber = broker.subscriber(Recorder())
        for number in range(100):
            ready = subscriber.subscribe(f"room {number}")
            assert ready is not None
            subscriber.unsubscribe(f"room {number}")
            if number % 10 == 0:
                await asyncio.sleep(0.001)
        still_wanted = subscriber.subscribe("lobby")
        assert still_wanted is not None
        (inner,) = subscriber._subscribers  # type: ignore[attr-defined]
        assert list(inner._wanted.subscriptions) == list(inner._wanted._changed) == [b"wsd:lobby"]
        await broker.aclose()

    asyncio.run(main())


def test_a_server_that_takes_nothing_more_is_lost_in_time(
    server: Babbler, caplog: pytest.LogCaptureFixture
) -> None:
    server.deaf.set()

    async def main() -> None:
        broker, recorder = make_broker(server, timeout=0.2), Recorder()
        subscriber = broker.subscriber(recorder)
        for number in range(10):  # more than what the buffers in between take
            ready = subscriber.subscribe(str(number) * 1_000_000)
            assert ready is not None
        await until(lambda: caplog.records)
        await broker.aclose()

    asyncio.run(main())
    assert "Lost the broker 'default'" in caplog.text
    # Some versions of asyncio never pause who writes several lines at once.
    told = ("nothing was taken within 0.4 s", "no answer to a PING within 0.2 s")
    assert any(one in caplog.text for one in told)
