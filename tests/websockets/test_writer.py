"""What is delivered to one socket, whatever its server's ``send()`` does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from django_ws_dispatch.groups.fanout import Channel, FanOut
from django_ws_dispatch.limits import Limits
from django_ws_dispatch.websockets import WebSocket, WebSocketState
from django_ws_dispatch.websockets.connection import Connection

from ..kit.members import text
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio


class Client:
    """A client of an open socket.

    Args:
        slow: the server's ``send()`` waits until ``reads``.
        error: what ``send()`` raises, after it has waited.
    """

    def __init__(self, *, slow: bool = False, error: BaseException | None = None) -> None:
        self.slow = slow
        self.error = error
        self.reads = asyncio.Event()
        self.got: list[str] = []
        self.left = asyncio.Event()
        limits = Limits(1000, None, None, 1000)
        self.socket = WebSocket(Connection({"path": "/"}, self._receive, self._send, limits))

    async def _receive(self) -> Any:
        await self.left.wait()
        return {"type": "websocket.disconnect", "code": 1001}

    async def _send(self, event: Any) -> None:
        if event["type"] == "websocket.accept":
            return
        if self.slow:
            await self.reads.wait()
        if self.error is not None:
            raise self.error
        self.got.append(event.get("text", event["type"]))

    async def sees(self, *expected: str) -> None:
        await until(lambda: self.got == [*expected])


async def connected(**kind: Any) -> Client:
    client = Client(**kind)
    await client.socket.accept()
    return client


async def fan_out(*clients: Client) -> None:
    channel = Channel()
    for client in clients:
        channel.members[client.socket.connection.writer] = 1
    if (busy := FanOut(asyncio.get_running_loop()).deliver(channel, text("news"))) is not None:
        await busy  # On a machine that is busy it takes a break.


async def test_no_task_is_made_where_send_does_not_suspend():
    client = await connected()
    before = asyncio.all_tasks()
    client.socket.connection.writer.deliver(text("news"))
    assert client.got == ["news"]
    assert asyncio.all_tasks() == before


async def test_slow_clients_hold_up_nobody_and_get_it_when_they_read():
    clients = [await connected(slow=number % 3 == 0) for number in range(100)]
    await fan_out(*clients)
    assert all(client.got == ([] if client.slow else ["news"]) for client in clients)
    for client in clients:
        client.reads.set()
    for client in clients:
        await client.sees("news")


async def test_what_a_send_raises_ends_its_own_socket_alone():
    first, gone, later, last = (
        await connected(),
        await connected(error=OSError("gone")),
        await connected(slow=True, error=OSError("gone later")),
        await connected(),
    )
    await fan_out(first, gone, later, last)
    assert first.got == last.got == ["news"]
    assert gone.socket.ready_state is WebSocketState.CLOSED
    assert later.socket.ready_state is WebSocketState.OPEN
    later.reads.set()
    await until(lambda: later.socket.ready_state is WebSocketState.CLOSED)
    assert first.socket.ready_state is last.socket.ready_state is WebSocketState.OPEN


async def test_a_send_that_raises_a_cancellation_cancels_no_publisher():
    wrong, other = await connected(error=asyncio.CancelledError()), await connected()
    await fan_out(wrong, other)
    assert other.got == ["news"]
    assert wrong.socket.ready_state is WebSocketState.CLOSED


async def test_what_comes_while_a_send_waits_goes_out_behind_it():
    client = await connected(slow=True)
    for payload in "abc":
        client.socket.connection.writer.deliver(text(payload))
    assert client.got == []
    client.reads.set()
    await client.sees("a", "b", "c")
