"""What every broker must do, as tests that any broker can run.

::

    class TestMyBroker(BrokerConformance):
        def make_broker(self):
            return MyBroker("default", "my://location", {})

pytest collects it as it stands, unittest with ``unittest.TestCase``. The server must be running.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable, Collection

from ..brokers.base import BaseBroker, BaseSubscriber
from ..exceptions import BrokerError
from .histories import HistoryConformance, expect
from .presences import PresenceConformance

__all__ = ["BrokerConformance", "Recorder"]

# Seconds after which a message that has not come counts as lost.
DEADLINE = 10.0

# Names that a broker with patterns, paths or separators might read something into.
ODD_NAMES = (
    "room *",
    "room ?",
    "room [ab]",
    "room a",
    "room b",
    "room  a",
    "room\ta",
    "room\na",
    "room\r\na",
    "room\x00a",
    "room\\a",
    "room:a",
    "room/a",
    "room.a",
    "room>",
    "r\u00f6\u00f6m",
    "ro\u0308o\u0308m",
    "room\u3000a",
    "room\U0001f600",
    "ROOM A",
    "*",
    "x" * 210,
)


class Recorder:
    """A receiver that keeps what it got, and lets a test wait for it."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.reconnects = 0
        self.hold: asyncio.Future[None] | None = None
        """What the receiver answers: a future that is not done means "no more, please"."""
        self._changed = asyncio.Event()

    def on_message(self, channel: str, message: bytes) -> asyncio.Future[None] | None:
        """Keep a message; the answer is ``hold``."""
        self.got.append((channel, message))
        self._changed.set()
        return self.hold

    def on_lost(self, channels: Collection[str] | None = None) -> None:
        """Wait for its return."""

    def on_reconnect(self, channels: Collection[str] | None = None) -> None:
        """Count it."""
        self.reconnects += 1
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once ``condition()`` holds, looked at whenever something came.

        Raises:
            AssertionError: it did not come to hold.
        """
        try:
            async with asyncio.timeout(DEADLINE):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"gave up waiting; so far came {self.got[-5:]!r}") from None

    def has(self, one: tuple[str, bytes]) -> bool:
        """Return whether that message came on that channel."""
        return one in self.got

    def messages(self, channel: str) -> list[bytes]:
        """Return what came on ``channel``."""
        return [message for name, message in self.got if name == channel]


async def subscribe(subscriber: BaseSubscriber, *channels: str) -> None:
    """Subscribe, and return once that is acknowledged."""
    for channel in channels:
        ready = subscriber.subscribe(channel)
        if ready is not None:
            await ready


class BrokerConformance(HistoryConformance, PresenceConformance):
    """Derive from it and say how to make the broker."""

    def make_broker(self) -> BaseBroker:
        """Return a new object of the broker under test, always for the same place."""
        raise NotImplementedError("Override make_broker() to return the broker under test.")

    def _run(self, scenario: Callable[[BaseBroker, Recorder], Awaitable[None]]) -> None:
        """Run a scenario in a loop of its own, and see that the broker leaves no task in it."""
        broker = self.make_broker()

        async def main() -> None:
            try:
                await asyncio.wait_for(scenario(broker, Recorder()), 3 * DEADLINE)
            finally:
                await broker.aclose()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            expect(left, set())

        try:
            asyncio.run(main())
        finally:
            broker.close()

    def test_a_message_arrives_where_its_channel_is_subscribed(self) -> None:
        async def scenario(broker: BaseBroker, recorder: Recorder) -> None:
            await subscribe(broker.subscriber(recorder), "a")
            await broker.apublish("a", b"from async code")
            await asyncio.to_thread(broker.publish, "a", b"from sync code")
            await recorder.until(lambda: len(recorder.got) == 2)
            expect(recorder.got, [("a", b"from async code"), ("a", b"from sync code")])

        self._run(scenario)

    def test_any_bytes_arrive_unchanged(self) -> None:
        payloads = [b"\x00", bytes(range(256)), b"\r\n$3\r\n", b"x" * (1024 * 1024)]

        async def scenario(broker: BaseBroker, recorder: Recorder) -> None:
            await subscribe(broker.subscriber(recorder), "a")
            for payload in payloads:
                await broker.apublish("a", payload)
            await recorder.until(lambda: len(recorder.got) == len(payloads))
            expect(recorder.messages("a") == payloads, True)

        self._run(scenario)

    def test_messages_of_one_publisher_arrive_in_order(self) -> None:
        numbers = [b"%d" % number for number in range(2000)]

        async def scenario(broker: BaseBroker, recorder: Recorder) -> None:
            await subscribe(broker.subscriber(recorder), "sync", "async")

            def publish() -> None:
                for number in numbers:
                    broker.publish("sync", number)

            async def apublish() -> None:
                for number in numbers:
                    await broker.apublish("async", number)

            await asyncio.gather(asyncio.to_thread(publish), apublish())
            await recorder.until(lambda: len(recorder.got) == 2 * len(numbers))
            expect(recorder.messages("sync"), numbers)
            expect(recorder.messages("async"), numbers)

        self._run(scenario)

    def test_sync_code_publishes_from_many_threads_at_once(self) -> None:
        async def scenario(broker: BaseBroker, recorder: Recorder) -> None:
            await subscribe(broker.subscriber(recorder), *map(str, range(20)))

            def publish(thread: int) -> None:
                for number in range(50):
                    broker.publish(str(thread), b"%d" % number)

            await asyncio.gather(*(asyncio.to_thread(publish, thread) for thread in range(20)))
            await recorder.until(lambda: len(recorder.got) == 20 * 50)
            for thread in range(20):
                expect(recorder.messages(str(thread)), [b"%d" % number for number in range(50)])

        self._run(scenario)

    def test_a_name_never_reaches_another_channel(self) -> None:
        async def scenario(broker: BaseBroker, recorder: Recorder) -> None:
            subscriber = broker.subscriber(recorder)
            await subscribe(subscriber, *ODD_NAMES)
            for number, name in enumerate(ODD_NAMES):
                await broker.apublish(name, b"%d" % number)
                await asyncio.to_thread(broker.publish, f"not {name}", b"nobody")
            await recorder.until(lambda: len(recorder.got) >= len(ODD_NAMES))
            # Of one channel: two need not come by the same server.
            sent = [(name, b"%d" % number) for number, name in enumerate(ODD_NAMES)]
            expect(sorted(recorder.got), sorted(sent))

        self._run(scenario)

    def test_an_unsubscribed_channel_falls_silent(self) -> None:
        async def scenario(broker: BaseBroker, recorder: Recorder) -> None:
            subscriber = broker.subscriber(recorder)
            await subscribe(subscriber, "a", "b")
            subscriber.unsubscribe("a")
            subscriber.unsubscribe("never subscribed")
            # It may take its time, so publish until only "b" comes.
            for number in range(1000):
                await broker.apublish("a", b"%d" % number)
                await broker.apublish("b", b"%d" % number)
                end = ("b", b"%d" % number)
                await recorder.until(functools.partial(recorder.has, end))
                if not recorder.has(("a", b"%d" % number)):
                    return
            raise AssertionError("the channel is still subscribed to")

        self._run(scenario)

    def test_unsubscribing_and_subscribing_again_at_once_misses_nothing(self) -> None:
        async def scenario(broker: BaseBroker, recorder: Recorder) -> None:
            subscriber = broker.subscriber(recorder)
            for number in range(100):
                await subscribe(subscriber, "a")
                await broker.apublish("a", b"%d" % number)
                await recorder.until(functools.partial(recorder.has, ("a", b"%d" % number)))
                subscriber.unsubscribe("a")
                if number % 2:
                    await asyncio.sleep(0)
            expect(recorder.messages("a"), [b"%d" % number for number in range(100)])

        self._run(scenario)

    def test_subscribing_twice_delivers_once(self) -> None:
        async def scenario(broker: BaseBroker, recorder: Recorder) -> None:
            subscriber = broker.subscriber(recorder)
            await subscribe(subscriber, "a", "a", "end")
            await broker.apublish("a", b"once")
            await broker.apublish("end", b"")
            await recorder.until(lambda: bool(recorder.messages("end")))
            expect(recorder.messages("a"), [b"once"])

        self._run(scenario)

    def test_a_receiver_that_is_busy_gets_no_more_from_other_threads(self) -> None:
        async def scenario(broker: BaseBroker, recorder: Recorder) -> None:
            await subscribe(broker.subscriber(recorder), "a")
            recorder.hold = asyncio.get_running_loop().create_future()
            await asyncio.to_thread(lambda: [broker.publish("a", b"%d" % n) for n in range(10)])
            await recorder.until(lambda: bool(recorder.got))
            await asyncio.sleep(0.05)
            expect(recorder.messages("a"), [b"0"])
            hold, recorder.hold = recorder.hold, None
            hold.set_result(None)
            await recorder.until(lambda: len(recorder.got) == 10)
            expect(recorder.messages("a"), [b"%d" % number for number in range(10)])

        self._run(scenario)

    def test_async_code_does_not_overtake_what_a_thread_published_before(self) -> None:
        async def scenario(broker: BaseBroker, recorder: Recorder) -> None:
            await subscribe(broker.subscriber(recorder), "a")
            recorder.hold = asyncio.get_running_loop().create_future()
            await asyncio.to_thread(lambda: [broker.publish("a", b"%d" % n) for n in range(10)])
            await recorder.until(lambda: bool(recorder.got))
            sending = asyncio.ensure_future(broker.apublish("a", b"10"))
            await asyncio.sleep(0)
            hold, recorder.hold = recorder.hold, None
            hold.set_result(None)
            await sending
            await recorder.until(lambda: len(recorder.got) == 11)
            expect(recorder.messages("a"), [b"%d" % number for number in range(11)])

        self._run(scenario)

    def test_every_event_loop_of_the_process_gets_the_message(self) -> None:
        async def scenario(broker: BaseBroker, recorder: Recorder) -> None:
            subscribed = threading.Event()
            elsewhere: list[tuple[str, bytes]] = []

            async def other_loop() -> None:
                other = Recorder()
                await subscribe(broker.subscriber(other), "a")
                subscribed.set()
                await other.until(lambda: len(other.got) == 2)
                elsewhere.extend(other.got)
                await broker.aclose()

            await subscribe(broker.subscriber(recorder), "a")
            thread = asyncio.create_task(asyncio.to_thread(asyncio.run, other_loop()))
            await asyncio.to_thread(subscribed.wait, DEADLINE)
            await broker.apublish("a", b"async")
            await asyncio.to_thread(broker.publish, "a", b"sync")
            await recorder.until(lambda: len(recorder.got) == 2)
            await thread
            expect(recorder.got, [("a", b"async"), ("a", b"sync")])
            expect(elsewhere, recorder.got)
            # And one that has ended is forgotten.
            await broker.apublish("a", b"after")

        self._run(scenario)

    def test_other_processes_get_the_message(self) -> None:
        async def scenario(broker: BaseBroker, recorder: Recorder) -> None:
            if broker.in_process:
                return
            await subscribe(broker.subscriber(recorder), "a")
            other = self.make_broker()
            try:
                await other.apublish("a", b"async")
                await asyncio.to_thread(other.publish, "a", b"sync")
            finally:
                await other.aclose()
                other.close()
            await recorder.until(lambda: len(recorder.got) == 2)
            expect(recorder.messages("a"), [b"async", b"sync"])

        self._run(scenario)

    def test_publishing_where_nobody_listens_is_no_error(self) -> None:
        broker = self.make_broker()
        broker.publish("a", b"x")
        broker.close()

        async def scenario(broker: BaseBroker, recorder: Recorder) -> None:
            await broker.apublish("a", b"x")

        self._run(scenario)

    def test_closing_tells_whoever_waits(self) -> None:
        async def scenario(broker: BaseBroker, recorder: Recorder) -> None:
            ready = broker.subscriber(recorder).subscribe("a")
            await broker.aclose()
            if ready is not None:
                try:
                    await asyncio.wait_for(ready, DEADLINE)
                except BrokerError:
                    pass

        self._run(scenario)
