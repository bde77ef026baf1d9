"""The tests that any broker can run: a right one passes, and what is wrong with one is found."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.testing import brokers
from django_ws_dispatch.testing.brokers import BrokerConformance, Recorder

TESTS = [name for name, _ in inspect.getmembers(BrokerConformance) if name.startswith("test_")]


class Loses(MemoryBroker):
    """Takes a message, and nobody gets it."""

    def publish(self, channel: str, message: bytes) -> None: ...

    async def apublish(self, channel: str, message: bytes) -> None: ...


class Spoils(MemoryBroker):
    """Takes bytes for text."""

    def publish(self, channel: str, message: bytes) -> None:
        super().publish(channel, message.decode(errors="replace").encode())

    async def apublish(self, channel: str, message: bytes) -> None:
        await super().apublish(channel, message.decode(errors="replace").encode())


class Folds(MemoryBroker):
    """Has no channels in capital letters, and none with blanks around."""

    def publish(self, channel: str, message: bytes) -> None:
        super().publish(channel.lower(), message)

    async def apublish(self, channel: str, message: bytes) -> None:
        await super().apublish(channel.lower(), message)


class Doubles(MemoryBroker):
    """Sends what it was not sure of again."""

    async def apublish(self, channel: str, message: bytes) -> None:
        await super().apublish(channel, message)
        await super().apublish(channel, message)


class Leaves(MemoryBroker):
    """Leaves a task behind."""

    async def aclose(self) -> None:
        await super().aclose()
        self.task = asyncio.get_running_loop().create_task(asyncio.sleep(3600))


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Loses, "test_a_message_arrives_where_its_channel_is_subscribed"),
        (Spoils, "test_any_bytes_arrive_unchanged"),
        (Folds, "test_a_name_never_reaches_another_channel"),
        (Doubles, "test_subscribing_twice_delivers_once"),
        (Leaves, "test_publishing_where_nobody_listens_is_no_error"),
    ],
)
def test_what_is_wrong_with_a_broker_is_found(
    kind: type[MemoryBroker], test: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brokers, "DEADLINE", 0.2)  # after which a message counts as lost

    class Conformance(BrokerConformance):
        def make_broker(self) -> MemoryBroker:
            return kind("default", None, {})

    with pytest.raises(AssertionError, match=r"expected|gave up"):
        getattr(Conformance(), test)()


def test_who_does_not_say_how_to_make_the_broker_is_told_to() -> None:
    for name in TESTS:
        with pytest.raises(NotImplementedError, match=r"Override make_broker\(\)"):
            getattr(BrokerConformance(), name)()


def test_it_can_be_run_without_pytest() -> None:
    for name in TESTS:
        assert list(inspect.signature(getattr(BrokerConformance, name)).parameters) == ["self"]


def run(scenario: Any) -> None:
    asyncio.run(scenario())


def test_a_recorder_keeps_what_came_and_tells_it_by_channel() -> None:
    recorder = Recorder()

    async def scenario() -> None:
        for channel, message in (("a", b"1"), ("b", b"2"), ("a", b"3")):
            assert recorder.on_message(channel, message) is None
        recorder.on_reconnect()
        await recorder.until(lambda: recorder.reconnects == 1)

    run(scenario)
    assert recorder.messages("a") == [b"1", b"3"]
    assert recorder.has(("b", b"2"))
    assert not recorder.has(("b", b"1"))


def test_a_recorder_waits_for_what_comes_later_and_may_ask_to_wait() -> None:
    recorder = Recorder()

    async def scenario() -> None:
        recorder.hold = asyncio.get_running_loop().create_future()
        waiting = asyncio.create_task(recorder.until(lambda: len(recorder.got) == 2))
        for message in (b"1", b"2"):
            await asyncio.sleep(0)
            assert not waiting.done()
            assert recorder.on_message("a", message) is recorder.hold
        await waiting

    run(scenario)


def test_what_does_not_come_fails_the_test_and_says_what_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(brokers, "DEADLINE", 0.01)
    recorder = Recorder()

    async def scenario() -> None:
        recorder.on_message("a", b"only this")
        await recorder.until(lambda: len(recorder.got) == 2)

    with pytest.raises(AssertionError, match="only this"):
        run(scenario)
