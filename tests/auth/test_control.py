"""What the processes of a site tell each other, and what is tried again."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_ws_dispatch.auth import control
from django_ws_dispatch.auth.control import (
    EVERYBODY,
    Message,
    publish_control,
    send_control,
)
from django_ws_dispatch.auth.watch import Watch
from django_ws_dispatch.brokers import get_broker
from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group
from django_ws_dispatch.groups.messages import CONTROL_CHANNEL
from tests.kit.members import FakeReceiver, run
from tests.kit.waiting import DEADLINE, until, wait_until


def test_control_messages_reach_every_loop_that_listens() -> None:
    heard = FakeReceiver()

    async def scenario() -> None:
        await heard.listen(control.CONTROL)
        await heard.listen(control.CONTROL)
        await publish_control(b"async")
        await asyncio.to_thread(send_control, {"user": "thread"})
        await until(lambda: len(heard.got) == 2)
        send_control({"user": "in a running loop"})
        await until(lambda: len(heard.got) == 3)

    run(scenario)
    assert heard.got[0] == b"async"
    assert [json.loads(one)["user"] for one in heard.got[1:]] == ["thread", "in a running loop"]


def test_what_a_control_message_does_wrong_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail(payload: bytes) -> None:
        raise RuntimeError("broken control")

    async def scenario() -> None:
        await FakeReceiver(fail).listen(control.CONTROL)
        await publish_control(b"x")

    run(scenario)
    assert "broken control" in caplog.text


def test_sending_control_never_raises(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.WEBSOCKET_BROKERS = {"default": {"BACKEND": "nowhere.Broker"}}
    send_control({"user": "x"})
    assert "could not be told" in caplog.text
    assert "no running event loop" not in caplog.text


def test_no_group_can_speak_on_the_control_channel() -> None:
    heard = FakeReceiver()

    async def scenario() -> None:
        await heard.listen(control.CONTROL)
        for name in ("control:", ":", "control"):
            await Group(name).asend(b"evil")

    run(scenario)
    assert heard.got == []


# What comes


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_complaint_due", float("-inf"))


@pytest.mark.parametrize("message", [{"session": "token"}, {"user": "1"}, {"user": EVERYBODY}])
def test_a_control_message_arrives_as_it_was_encoded(
    message: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    read = control.decode(control.encode(message))
    assert read is not None
    assert read.sender == control.sender()
    assert control.decode(json.dumps(message).encode()) == read._replace(sender=None)
    assert read.user == message.get("user")
    assert read.sessions == ((message["session"],) if "session" in message else ())
    assert not caplog.records


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"garbage",
        b"\xff",
        b"[" * 100_000,
        b"9" * 5000,
        b"null",
        b"7",
        b'["session"]',
        b'{"session": 7}',
        b'{"session": ""}',
        b'{"session": ["token"]}',
        b'{"session": "' + b"x" * 1001 + b'"}',
        b'{"session": "token", "also": "token"}',
        b'{"session": "token", "also": [1]}',
        b'{"changed": ["token"], "to": []}',
        b'{"changed": ["token"]}',
        b'{"where": 1}',
        b'{"look": "token"}',
        b'{"user": "1", "namespace": 1}',
        b'{"user": {"pk": 1}}',
        b'{"user": true, "from": "x"}',
        b'{"user": "1", "from": 1}',
    ],
)
def test_what_no_process_can_have_written_is_nothing_and_told_once_a_minute(
    payload: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(control, "monotonic", lambda: now)
    for _ in range(3):
        assert control.decode(payload) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "control channel" in record.getMessage()
    assert "token" not in record.getMessage()
    now += 61
    assert control.decode(payload) is None
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("payload", "known"),
    [
        (b'{"user": "1", "at": [1, {}]}', Message(user="1")),
        (b'{"verify": ["1", "2"], "from": "later"}', Message(sender="later")),
        (b'{"user": null, "session": "token"}', Message(sessions=("token",))),
        (b"{}", Message()),
    ],
)
def test_what_a_later_version_says_in_addition_is_left_out_without_a_word(
    payload: bytes, known: Message, caplog: pytest.LogCaptureFixture
) -> None:
    assert control.decode(payload) == known
    assert not caplog.records


@pytest.mark.parametrize("message", [b"t\x00", b't\x00{"user": "1"}', b"t\x00x", b"c\x00\x03\xe8"])
def test_a_frame_of_another_kind_on_the_control_channel_is_told_of_and_nothing_else(
    message: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[Message] = []
    monkeypatch.setattr(Watch, "handle", lambda watch, message: handled.append(message))

    async def scenario() -> None:
        await connections.local().watch.listen()
        await get_broker("default").apublish(CONTROL_CHANNEL, message)
        await publish_control(b'{"user": "2"}')
        await connections.aclose()

    run(scenario)
    assert [one.user for one in handled] == ["2"]
    (record,) = caplog.records
    assert "control channel" in record.getMessage()


def test_what_only_a_later_version_can_read_is_told_once_as_that(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[Message] = []
    monkeypatch.setattr(Watch, "handle", lambda watch, message: handled.append(message))

    async def scenario() -> None:
        await connections.local().watch.listen()
        for _ in range(3):
            await publish_control(b'{"version": 2, "user": ["1", "2"]}')
        await publish_control(b'{"version": 1, "user": "3"}')
        await connections.aclose()

    run(scenario)
    assert [one.user for one in handled] == ["3"]
    (record,) = caplog.records
    assert "a control message, version 2" in record.getMessage()
    assert "later version of django-ws-dispatch" in record.getMessage()


@pytest.mark.parametrize("version", [b'"2"', b"[]", b"{}", b"null"])
def test_a_version_is_a_number(version: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert control.decode(b'{"version": ' + version + b', "user": "1"}') is None
    assert "something else publishes" in caplog.text


# What the broker does not take


class Deaf(MemoryBroker):
    """A broker that says that it reaches other processes, and takes nothing while it is deaf."""

    in_process = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.deaf = True
        self.attempts = 0
        self.took: list[Any] = []
        self.on_taken: Callable[[], None] | None = None

    def publish(self, channel: str, message: bytes) -> None:
        self.attempts += 1
        if self.deaf:
            raise BrokerError("deaf")
        self.took.append(json.loads(message[2:]))
        if self.on_taken is not None:
            self.on_taken()


class DeafInProcess(Deaf):
    in_process = True


def use(settings: Any, broker_class: type[Deaf]) -> Deaf:
    config = {"BACKEND": f"{__name__}.{broker_class.__name__}"}
    settings.WEBSOCKET_BROKERS = {"default": config}
    broker = get_broker("default")
    assert isinstance(broker, Deaf)
    return broker


@pytest.fixture
def broker(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deaf]:
    monkeypatch.setattr(control, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(control, "LONGEST_PAUSE", 0.02)
    yield use(settings, Deaf)
    settings.WEBSOCKET_BROKERS = None
    wait(lambda: not at_work())


def at_work() -> list[threading.Thread]:
    """Return the threads that try again."""
    return [one for one in threading.enumerate() if one.name.endswith("-control-again")]


def wait(condition: Callable[[], object]) -> None:
    wait_until(condition)


def test_all_that_failed_is_said_once_the_broker_takes_it_as_verify_everybody(
    broker: Deaf, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(100):
        send_control({"user": str(number)})
    assert broker.attempts < 50  # each would take the time-out
    wait(lambda: broker.attempts > 50)
    (thread,) = at_work()
    assert thread.daemon
    broker.deaf = False
    wait(lambda: not at_work())
    assert broker.took == [{"user": EVERYBODY, "from": control.sender()}]
    failed, told = caplog.records
    assert (failed.levelname, told.levelname) == ("ERROR", "WARNING")
    assert "could not be told" in failed.getMessage()
    assert "'default' takes messages again" in told.getMessage()
    assert {record.name for record in caplog.records} == {"django_ws_dispatch.groups"}


def test_what_fails_while_the_others_are_told_is_told_as_well(broker: Deaf) -> None:
    def fail_once_more() -> None:
        broker.on_taken = None
        broker.deaf = True
        send_control({"user": "another"})
        broker.deaf = False

    broker.on_taken = fail_once_more
    send_control({"user": "one"})
    broker.deaf = False
    wait(lambda: not at_work())
    assert [message["user"] for message in broker.took] == [EVERYBODY, EVERYBODY]


def test_a_second_outage_is_logged_and_told_as_the_first(
    broker: Deaf, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        broker.deaf = True
        send_control({"user": "x"})
        broker.deaf = False
        wait(lambda: not at_work())
    assert len(broker.took) == 2
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING] * 2


def test_nobody_is_told_through_a_broker_of_an_earlier_setting(
    broker: Deaf, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    send_control({"user": "x"})
    other = use(settings, Deaf)
    wait(lambda: not at_work())
    assert not other.attempts
    assert len(caplog.records) == 1


def test_what_fails_with_the_new_setting_is_told_through_its_broker(
    broker: Deaf, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    send_control({"user": "x"})
    other = use(settings, Deaf)
    send_control({"user": "y"})
    assert len(caplog.records) == 2
    other.deaf = False
    wait(lambda: not at_work())
    assert len(other.took) == 1
    assert not broker.took


def test_a_setting_that_has_become_wrong_ends_it(broker: Deaf, settings: Any) -> None:
    send_control({"user": "x"})
    settings.WEBSOCKET_BROKERS = {}
    wait(lambda: not at_work())


def test_a_broker_of_this_process_alone_is_not_tried_again(broker: Deaf, settings: Any) -> None:
    here = use(settings, DeafInProcess)
    send_control({"user": "x"})
    wait(lambda: not at_work())
    assert here.attempts == 1


def test_a_process_that_can_start_no_thread_does_not_fail(
    broker: Deaf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        send_control({"user": "x"})
    assert "could not be told" in caplog.text
    assert "can't create" not in caplog.text
    send_control({"user": "y"})
    broker.deaf = False
    wait(lambda: not at_work())
    assert len(broker.took) == 1


def test_it_does_not_hold_up_the_end_of_the_process() -> None:
    script = f"""
import django
from django.conf import settings
settings.configure(WEBSOCKET_BROKERS={{"default": {{"BACKEND": "{__name__}.Deaf"}}}})
django.setup()
from django_ws_dispatch.auth.control import send_control
send_control({{"user": "x"}})
"""
    process = subprocess.run(
        [sys.executable, "-c", script],
        timeout=DEADLINE,
        check=False,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0
    assert "This process ends" in process.stderr
    assert process.stderr.count("could not be told") == 1
