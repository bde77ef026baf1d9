"""The broker of a single process."""

from __future__ import annotations

import asyncio
import threading

import pytest

from django_ws_dispatch.brokers import memory
from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.testing.brokers import BrokerConformance, Recorder

MESSAGE = b"x" * 1000


def make_broker(timeout: float = 2) -> MemoryBroker:
    return MemoryBroker("default", None, {"timeout": timeout})


class TestConformance(BrokerConformance):
    def make_broker(self) -> MemoryBroker:
        return make_broker()


def test_apublish_delivers_in_its_own_loop_before_it_returns() -> None:
    async def main() -> None:
        broker, recorder = make_broker(), Recorder()
        broker.subscriber(recorder).subscribe("a")
        await broker.apublish("a", b"x")
        assert recorder.got == [("a", b"x")]
        await broker.aclose()

    asyncio.run(main())


def test_a_thread_waits_for_a_loop_that_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_WAITING", 10_000)

    async def main() -> None:
        broker, recorder = make_broker(), Recorder()
        recorder.hold = asyncio.get_running_loop().create_future()
        broker.subscriber(recorder).subscribe("a")
        done = threading.Event()

        def publish() -> None:
            for _ in range(100):
                broker.publish("a", MESSAGE)
            done.set()

        thread = asyncio.create_task(asyncio.to_thread(publish))
        await recorder.until(lambda: bool(recorder.got))
        assert not await asyncio.to_thread(done.wait, 0.05)
        hold, recorder.hold = recorder.hold, None
        hold.set_result(None)
        await thread
        await recorder.until(lambda: len(recorder.got) == 100)
        await broker.aclose()

    asyncio.run(main())


def test_a_loop_that_never_takes_its_messages_is_told_to_the_publisher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "MAX_WAITING", 10_000)

    async def main() -> None:
        broker, recorder = make_broker(timeout=0.05), Recorder()
        recorder.hold = asyncio.get_running_loop().create_future()
        broker.subscriber(recorder).subscribe("a")

        def publish() -> None:
            for _ in range(100):
                broker.publish("a", MESSAGE)

        with pytest.raises(BrokerError, match="could not hand"):
            await asyncio.to_thread(publish)

        async def publish_from_another_loop() -> None:
            with pytest.raises(BrokerError, match="could not hand"):
                await broker.apublish("a", MESSAGE)

        await asyncio.to_thread(asyncio.run, publish_from_another_loop())
        await broker.aclose()

    asyncio.run(main())


def test_a_loop_that_was_closed_without_a_word_is_forgotten() -> None:
    broker = make_broker()

    async def main() -> None:
        broker.subscriber(Recorder()).subscribe("a")

    asyncio.run(main())
    broker.publish("a", b"x")
    asyncio.run(main())
    assert len(broker._subscribers) == 1
