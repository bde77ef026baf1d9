"""The broker of a single process."""

from __future__ import annotations

import asyncio
import threading

import pytest

from django_ws_dispatch.brokers import memory
from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.testing.brokers import BrokerConformance, Recorder
from tests.kit.waiting import DEADLINE

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


# In the loop that is behind


class Behind:
    """A broker whose loop, this one, is behind: the first of ``waiting`` messages is on its way."""

    def __init__(self, waiting: int = 3, timeout: float = 2) -> None:
        self.broker, self.recorder = make_broker(timeout), Recorder()
        self.broker.subscriber(self.recorder).subscribe("a")
        self._waiting = waiting

    async def __aenter__(self) -> Behind:
        self.recorder.hold = asyncio.get_running_loop().create_future()

        def publish() -> None:
            for number in range(self._waiting):
                self.broker.publish("a", b"%d" % number)

        await asyncio.to_thread(publish)
        await self.recorder.until(lambda: bool(self.recorder.got))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.broker.aclose()

    def go_on(self) -> None:
        hold, self.recorder.hold = self.recorder.hold, None
        assert hold is not None
        hold.set_result(None)

    async def has(self, *messages: bytes) -> None:
        await self.recorder.until(lambda: len(self.recorder.got) >= len(messages))
        await asyncio.sleep(0)
        assert self.recorder.messages("a") == list(messages)


def test_async_code_returns_once_its_message_was_delivered_behind_the_others() -> None:
    async def main() -> None:
        async with Behind() as behind:
            sending = asyncio.create_task(behind.broker.apublish("a", b"3"))
            await asyncio.sleep(0)
            behind.go_on()
            await sending
            assert behind.recorder.messages("a") == [b"0", b"1", b"2", b"3"]

    asyncio.run(main())


def test_async_code_waits_until_the_members_have_its_message() -> None:
    async def main() -> None:
        async with Behind(waiting=1) as behind:
            sending = asyncio.create_task(behind.broker.apublish("a", b"1"))
            await asyncio.sleep(0)
            first, behind.recorder.hold = behind.recorder.hold, asyncio.Future()
            first.set_result(None)
            await behind.recorder.until(lambda: len(behind.recorder.got) == 2)
            await asyncio.sleep(0)
            assert not sending.done()
            behind.go_on()
            await sending

    asyncio.run(main())


def test_sync_code_in_the_loop_itself_does_not_overtake_and_does_not_block() -> None:
    async def main() -> None:
        async with Behind() as behind:
            behind.broker.publish("a", b"3")
            assert behind.recorder.messages("a") == [b"0"]
            behind.go_on()
            await behind.has(b"0", b"1", b"2", b"3")
            behind.broker.publish("a", b"4")
            assert behind.recorder.messages("a")[-1] == b"4"  # at once: nothing waits

    asyncio.run(main())


def test_a_sender_that_is_cancelled_while_it_waits_loses_and_repeats_nothing() -> None:
    async def main() -> None:
        async with Behind() as behind:
            sending = asyncio.create_task(behind.broker.apublish("a", b"3"))
            await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            behind.go_on()
            await behind.broker.apublish("a", b"4")
            await behind.has(b"0", b"1", b"2", b"3", b"4")

    asyncio.run(main())


def test_async_code_waits_for_room_in_its_own_loop_and_sync_code_there_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "MAX_WAITING", 850)  # for two that wait, and not a third one

    async def main() -> None:
        async with Behind(timeout=DEADLINE) as behind:
            with pytest.raises(BrokerError, match="could not hand"):
                behind.broker.publish("a", b"too much")
            sending = asyncio.create_task(behind.broker.apublish("a", b"3"))
            await asyncio.sleep(0)
            behind.go_on()
            await sending
            assert behind.recorder.messages("a") == [b"0", b"1", b"2", b"3"]

        async with Behind(timeout=0.05) as behind:
            with pytest.raises(BrokerError, match="could not hand"):
                await behind.broker.apublish("a", b"too much")

    asyncio.run(main())


def test_a_loop_that_was_closed_without_a_word_is_forgotten() -> None:
    broker = make_broker()

    async def main() -> None:
        broker.subscriber(Recorder()).subscribe("a")

    asyncio.run(main())
    broker.publish("a", b"x")
    asyncio.run(main())
    assert len(broker._subscribers) == 1
