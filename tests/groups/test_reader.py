"""Reading a group in code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from django_ws_dispatch import groups
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group
from django_ws_dispatch.groups.messages import GAP, Message
from django_ws_dispatch.groups.reader import Reader
from django_ws_dispatch.limits import entry_size
from tests.kit.members import run, text

ROOM = Group("room")


@pytest.fixture(autouse=True)
def _dispatching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups.group, "unheard", False)


async def turn() -> None:
    """Give the loop a few turns, so that what was handed over from threads is there."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_subscribe_yields_what_is_sent_inside_the_block() -> None:
    async def scenario() -> None:
        await ROOM.asend("too early")
        async with ROOM.subscribe() as messages:
            await ROOM.asend("text")
            await ROOM.asend(b"bytes", exclude="somebody")
            await ROOM.aclose(4403)
            assert await anext(messages) == "text"
            assert await anext(messages) == b"bytes"
            reading = asyncio.create_task(collect(messages))
            await turn()
            await asyncio.to_thread(ROOM.send, "later")
            await turn()
        assert await reading == ["later"]
        await ROOM.asend("too late")
        assert [data async for data in messages] == []

    run(scenario)


def test_a_notice_for_clients_is_nothing_for_code() -> None:
    async def scenario() -> None:
        reader = Reader(ROOM, 1000)
        reader.notice(Message(GAP, {}, 0, None))
        reader.deliver(text("news"))
        assert await anext(reader) == "news"
        assert not reader.former_ids

    run(scenario)


async def collect(messages: AsyncIterator[str | bytes]) -> list[str | bytes]:
    return [data async for data in messages]


def test_a_reader_that_falls_behind_ends_with_an_error_after_what_it_has(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.WEBSOCKET_OUTBOX_SIZE = 2 * entry_size("12345")

    async def scenario() -> None:
        async with ROOM.subscribe() as messages:
            for _ in range(20):
                await ROOM.asend("12345")
            assert [await anext(messages), await anext(messages)] == ["12345", "12345"]
            for _ in range(2):
                with pytest.raises(BrokerError, match="WEBSOCKET_OUTBOX_SIZE"):
                    await anext(messages)

    run(scenario)
    assert caplog.text.count("WEBSOCKET_OUTBOX_SIZE") == 1


def test_a_reader_that_is_cancelled_is_no_member_any_more() -> None:
    async def scenario() -> None:
        async def read() -> None:
            async with ROOM.subscribe() as messages:
                await collect(messages)

        reading = asyncio.create_task(read())
        await turn()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not any(link.receivers for link in groups.members.local()._links.values())

    run(scenario)


def test_two_tasks_can_not_read_one_subscription() -> None:
    async def scenario() -> None:
        async with ROOM.subscribe() as messages:
            reading = asyncio.create_task(collect(messages))
            await turn()
            with pytest.raises(RuntimeError, match="Two tasks"):
                await anext(messages)
        assert await reading == []

    run(scenario)


def test_a_reader_of_a_group_that_lost_messages_ends_with_an_error_behind_what_came() -> None:
    async def scenario() -> None:
        reader = Reader(ROOM, 1000)
        reader.deliver(text("before"))
        reader.lose()
        reader.deliver(text("after"))
        assert await anext(reader) == "before"
        with pytest.raises(BrokerError, match="were lost"):
            await anext(reader)

    run(scenario)
