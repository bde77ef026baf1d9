"""The subscriptions of an event loop on a server that is away, stuck, or no Redis."""

from __future__ import annotations

import asyncio
import socket

import pytest

from django_ws_dispatch.brokers.redis import RedisBroker
from django_ws_dispatch.testing.brokers import Recorder
from tests.brokers.redis.babbler import GARBAGE, Babbler, make_broker
from tests.kit.waiting import until


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
        assert list(inner.wanted.subscriptions) == list(inner.wanted._changed) == [b"wsd:lobby"]
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
