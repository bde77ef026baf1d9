"""What is told to every open socket: in this process at once, elsewhere through the broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from django_ws_dispatch.auth import tell, watch
from django_ws_dispatch.auth.control import Message
from django_ws_dispatch.auth.keys import changes, logged_out, tokens_of, unseal
from django_ws_dispatch.auth.watch import Watch
from django_ws_dispatch.brokers import get_broker
from django_ws_dispatch.brokers.memory import MemoryBroker
from tests.kit.waiting import until

ADA = SimpleNamespace(pk=7)


class Elsewhere(MemoryBroker):
    """A broker that reaches other processes, and keeps what they are told."""

    in_process = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.took: list[dict[str, Any]] = []

    def publish(self, channel: str, message: bytes) -> None:
        self.took.append(json.loads(message[2:]))


@pytest.fixture
def elsewhere(settings: Any) -> Elsewhere:
    settings.WEBSOCKET_BROKERS = {"default": {"BACKEND": f"{__name__}.Elsewhere"}}
    broker = get_broker("default")
    assert isinstance(broker, Elsewhere)
    return broker


class Handled(list[Message]):
    """What the loops of a test are told. Those of earlier tests may listen still."""

    def __init__(self) -> None:
        super().__init__()
        self.loops: set[asyncio.AbstractEventLoop] = set()

    def handle(self, watch: Watch, message: Message) -> None:
        if watch.loop in self.loops:
            self.append(message)


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> Handled:
    handled = Handled()
    monkeypatch.setattr(Watch, "handle", lambda *what: handled.handle(*what))
    return handled


def new_key() -> str:
    """Return a key that no other test has told of."""
    return uuid4().hex


def said(handled: Handled, say: Callable[[], object], loops: int = 1) -> list[Message]:
    """Have something said in a thread, and return what so many event loops have heard."""

    async def listen() -> None:
        handled.loops.add(watch.local().loop)
        await asyncio.to_thread(say)
        await until(lambda: len(handled) >= loops)
        await watch.local().aclose()

    async_to_sync(listen)()
    return handled


def test_the_end_of_a_session_is_said_with_every_key_it_was_known_by(handled: Any) -> None:
    first, second = new_key(), new_key()
    (message,) = said(handled, lambda: tell.end_session([first, second], ADA, "red"))
    assert message == Message(
        sessions=(*tokens_of(first), *tokens_of(second)), user="7", namespace="red"
    )


def test_a_session_that_has_ended_lets_nobody_in_where_no_loop_listens_yet() -> None:
    key = new_key()
    tell.end_session([key], None, "red")
    (token,) = tokens_of(key)
    assert [logged_out.has(token, name) for name in ("red", "blue", None)] == [True, False, True]


def test_a_session_that_has_ended_is_told_elsewhere_by_its_tokens_alone(elsewhere: Any) -> None:
    key = new_key()
    tell.end_session([key, key])
    (message,) = elsewhere.took
    assert (message["session"], message["also"]) == (*tokens_of(key), [])
    assert "namespace" not in message
    assert key not in str(message)


def test_the_end_of_no_session_of_nobody_is_not_said(elsewhere: Any) -> None:
    tell.end_session([])
    assert elsewhere.took == []


def test_a_logout_of_which_only_the_user_is_known_is_said_of_the_user(elsewhere: Any) -> None:
    tell.end_session([], ADA)
    (message,) = elsewhere.took
    assert message["user"] == "7"
    assert "session" not in message


def test_a_session_that_moves_is_told_such_that_only_its_holders_can_follow(elsewhere: Any) -> None:
    before, after = new_key(), new_key()
    tell.move_session(before, after, "red")
    (message,) = elsewhere.took
    assert message["changed"] == tokens_of(before)
    (token,), (sealed,) = message["changed"], message["to"]
    assert unseal(sealed, before, token) == after
    assert message["namespace"] == "red"
    assert before not in str(message)
    assert after not in str(message)


def test_where_a_session_went_can_be_asked_later(handled: Any) -> None:
    before, after = new_key(), new_key()
    (message,) = said(handled, lambda: tell.move_session(before, after))
    ((token, sealed),) = message.changed
    assert changes.get(token) == sealed
    assert unseal(sealed, before, token) == after


def test_a_session_of_which_nobody_knows_is_to_be_looked_at(handled: Any) -> None:
    key = new_key()
    assert said(handled, lambda: tell.verify_session(key, "red")) == [
        Message(look=tuple(tokens_of(key)), namespace="red")
    ]


def test_a_user_is_told_of_by_the_key_as_text(handled: Any) -> None:
    assert said(handled, lambda: tell.verify_user(ADA)) == [Message(user="7")]


def test_every_event_loop_of_the_process_is_told(handled: Any) -> None:
    def say() -> None:
        said(handled, lambda: tell.verify_user(ADA), loops=2)

    assert said(handled, say, loops=2) == [Message(user="7")] * 2


def test_a_broker_of_this_process_alone_is_not_asked_to_tell(
    settings: Any, handled: Any, elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Elsewhere, "in_process", True)
    assert said(handled, lambda: tell.verify_user(ADA)) == [Message(user="7")]
    assert elsewhere.took == []


# Once it is committed


def test_what_is_in_no_database_is_told_at_once(db: None) -> None:
    told: list[str] = []
    with transaction.atomic():
        tell.once_committed(lambda: told.append("now"), None)
        assert told == ["now"]


@pytest.mark.django_db(transaction=True)
def test_a_change_is_told_when_the_outermost_transaction_is_committed() -> None:
    told: list[str] = []
    with transaction.atomic():
        with transaction.atomic():
            tell.once_committed(lambda: told.append("committed"), "default")
        assert told == []
    assert told == ["committed"]


@pytest.mark.django_db(transaction=True)
def test_a_change_that_is_rolled_back_is_never_told() -> None:
    told: list[str] = []
    with transaction.atomic():
        tell.once_committed(lambda: told.append("never"), "default")
        transaction.set_rollback(True)
    assert told == []


@pytest.mark.django_db(transaction=True)
def test_without_a_transaction_a_change_is_committed_already() -> None:
    told: list[str] = []
    tell.once_committed(lambda: told.append("at once"), "default")
    assert told == ["at once"]


@pytest.mark.django_db(transaction=True)
def test_what_can_not_be_told_keeps_nobody_from_being_told_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []

    def fail() -> None:
        raise RuntimeError("no broker")

    with transaction.atomic():
        tell.once_committed(fail, "default")
        tell.once_committed(lambda: told.append("the rest"), "default")
    assert told == ["the rest"]
    assert "no broker" in caplog.text
