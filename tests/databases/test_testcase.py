"""In Django's ``TestCase`` no transaction ever commits: what a test sees all the same."""

from __future__ import annotations

from contextlib import suppress

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from django.test import TestCase, override_settings

from django_ws_dispatch.groups import Group
from django_ws_dispatch.testing import WebSocketClient, assert_sent

pytestmark = [pytest.mark.live, pytest.mark.databases]

ROOM = Group("room:a")
BROKERS = {
    "default": {
        "BACKEND": "django_ws_dispatch.brokers.database.DatabaseBroker",
        "OPTIONS": {"poll": 0.01},
    }
}


async def listen(websocket):
    async with websocket.join(ROOM):
        async for _ in websocket:
            pass


@override_settings(WEBSOCKET_BROKERS=BROKERS, WEBSOCKET_HANDLERS={"ws/": listen})
class TestWhatIsSentInATestCase(TestCase):
    def send(self, *messages):
        """Send as a page does whose transaction commits."""
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            for message in messages:
                assert ROOM.send(message) is None

    def roll_back(self):
        with (
            self.captureOnCommitCallbacks(execute=True),
            suppress(ValueError),
            transaction.atomic(),
        ):
            ROOM.send("never")
            raise ValueError

    async def test_what_commits_is_delivered_where_callbacks_are_executed(self):
        async with WebSocketClient().connect("/ws/") as websocket:
            await sync_to_async(self.send)("one", "two")
            assert [await websocket.receive(), await websocket.receive()] == ["one", "two"]
        history = await ROOM.ahistory()
        assert [one.data for one in history.messages] == ["one", "two"]

    async def test_nothing_is_delivered_without_and_is_seen_to_be_sent(self):
        async with WebSocketClient().connect("/ws/") as websocket:
            with assert_sent(ROOM, 2) as sent:
                assert await sync_to_async(ROOM.send)("not delivered") is None
                assert await ROOM.asend("nor this", exclude=None) is None
            assert sent == ["not delivered", "nor this"]
            await sync_to_async(self.send)("end")
            assert await websocket.receive() == "end"

    async def test_what_is_rolled_back_is_not_delivered(self):
        async with WebSocketClient().connect("/ws/") as websocket:
            await sync_to_async(self.roll_back)()
            await sync_to_async(self.send)("end")
            assert await websocket.receive() == "end"
