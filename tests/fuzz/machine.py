"""An ASGI server in memory that plays a script, and the judge of what it was sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from django_ws_dispatch.typing import ASGIApplication, Event
from tests.kit.waiting import DEADLINE

__all__ = ["Conversation", "judge"]

DENIAL = {"websocket.http.response": {}}


class Conversation(logging.Handler):
    """One connection: its events come one by one, and then the client leaves.

    Attributes:
        sent: what the application sent.
        errors: what was logged as an error meanwhile.
        gone: whether the application could know that the client had left.
    """

    def __init__(self, scope: dict[str, Any], events: Iterable[Event], breaks_at: int = -1) -> None:
        super().__init__(logging.ERROR)
        self.scope = scope
        self.events = [{"type": "websocket.connect"}, *events]
        self.breaks_at = breaks_at
        self.sent: list[Event] = []
        self.errors: list[str] = []
        self.gone = False

    def emit(self, record: logging.LogRecord) -> None:
        self.errors.append(self.format(record))

    async def receive(self) -> Event:
        if not self.events:
            if self.gone:
                await asyncio.Event().wait()  # as uvicorn: it may block for ever
            self.gone = True
            return {"type": "websocket.disconnect", "code": 1001}
        event = self.events.pop(0)
        if event["type"] == "websocket.disconnect":
            self.gone = True
            self.events.clear()
        return event

    async def send(self, event: Event) -> None:
        if len(self.sent) == self.breaks_at:
            self.gone = True
            raise ConnectionResetError("the client has left")
        self.sent.append(event)

    async def run(self, application: ASGIApplication) -> None:
        """Serve it; raises what the application raises."""
        logger = logging.getLogger("django_ws_dispatch")
        logger.addHandler(self)
        try:
            async with asyncio.timeout(DEADLINE):
                await application(self.scope, self.receive, self.send)
        finally:
            logger.removeHandler(self)


def judge(conversation: Conversation) -> None:
    """Assert that what was sent is what ASGI allows, and ends on purpose."""
    kinds = [event["type"].removeprefix("websocket.") for event in conversation.sent]
    offered = "websocket.http.response" in (conversation.scope.get("extensions") or {})
    if kinds[:1] == ["accept"]:
        body = kinds[1:-1] if kinds[-1] == "close" else kinds[1:]
        assert set(body) <= {"send"}, kinds
        assert kinds[-1] == "close" or conversation.gone, kinds
    elif kinds[:1] == ["http.response.start"]:
        assert offered
        assert kinds[1:] == ["http.response.body"] or conversation.gone, kinds
    elif kinds == ["close"]:
        assert not offered
    else:
        assert kinds == []
        assert conversation.gone
    for event in conversation.sent:
        if event["type"] == "websocket.close":
            code = event.get("code", 1000)
            assert 1000 <= code <= 4999
            assert len(event.get("reason", "").encode()) <= 123
        if event["type"] == "websocket.send":
            assert (event.get("text") is None) != (event.get("bytes") is None)
