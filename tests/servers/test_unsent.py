"""A client that does not take what it was sent last: how long it is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from django_ws_dispatch import servers
from django_ws_dispatch.servers import quirks
from django_ws_dispatch.servers.quirks import CLOSE_GRACE, SLOW_GRACE, Server

pytestmark = pytest.mark.asyncio


class Connection:
    """A server's side of one: each look at what is unsent takes a second of its time.

    Args:
        size: how much is unsent after so many seconds.
    """

    def __init__(self, size: Callable[[float], int]) -> None:
        self.size = size
        self.now = 0.0
        self.aborted_at: float | None = None
        self.transport = self
        self.server = servers.of(self.send, {})

    async def send(self, event: object) -> None:
        """The server's ``send()``."""

    def get_write_buffer_size(self) -> int:
        if self.aborted_at is not None:
            return 0
        self.now += 1
        return max(0, self.size(self.now))

    def abort(self) -> None:
        self.aborted_at = self.now


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[float], int]], Connection]:
    def connect(size: Callable[[float], int]) -> Connection:
        connection = Connection(size)
        monkeypatch.setattr(quirks, "monotonic", lambda: connection.now)
        return connection

    monkeypatch.setattr(quirks, "UNSENT_INTERVAL", 0)
    return connect


def says(monkeypatch: pytest.MonkeyPatch, name: str, when: Callable[[], bool]) -> None:
    if name == "is_stopping":
        monkeypatch.setattr(Server, name, property(lambda self: when()))
    else:
        monkeypatch.setattr(quirks, name, when)


async def test_nothing_is_waited_for_where_nothing_is_unsent(connected):
    with pytest.raises(StopIteration):
        connected(lambda now: 0).server.see_out().send(None)


async def test_what_the_loop_writes_at_the_end_of_its_turn_is_unsent_for_that_turn_only(connected):
    connection = connected(lambda now: 5 if now < 3 else 0)
    await connection.server.see_out(ends=0.0)
    assert connection.aborted_at is None
    assert connection.now == 3


async def test_a_client_that_takes_nothing_is_cut_off_after_10_s(connected):
    connection = connected(lambda now: 30_000_000)
    await connection.server.see_out()
    assert connection.aborted_at == pytest.approx(CLOSE_GRACE, abs=2)


async def test_a_client_that_takes_all_of_it_slowly_is_not_cut_off(connected):
    connection = connected(lambda now: int(SLOW_GRACE) - 5 - int(now))
    await connection.server.see_out()
    assert connection.aborted_at is None
    assert connection.now > 2 * CLOSE_GRACE


async def test_a_client_that_begins_to_take_nothing_is_cut_off_10_s_later(connected):
    connection = connected(lambda now: 1000 - int(min(now, 20)))
    await connection.server.see_out()
    assert connection.aborted_at == pytest.approx(20 + CLOSE_GRACE, abs=2)


async def test_a_client_that_takes_a_byte_now_and_then_is_cut_off_after_a_minute(connected):
    connection = connected(lambda now: 1000 - int(now / 9))
    await connection.server.see_out()
    assert connection.aborted_at == pytest.approx(SLOW_GRACE, abs=2)


@pytest.mark.parametrize("how", ["is_told_to_exit", "is_stopping"])
async def test_once_the_server_is_told_to_stop_a_slow_client_has_10_s(connected, monkeypatch, how):
    connection = connected(lambda now: 1000 - int(now))
    says(monkeypatch, how, lambda: connection.now > 20)
    await connection.server.see_out()
    assert connection.aborted_at == pytest.approx(20 + CLOSE_GRACE, abs=3)


async def test_a_client_that_has_taken_nothing_gets_no_more_time_when_the_server_stops(
    connected, monkeypatch
):
    connection = connected(lambda now: 1000)
    says(monkeypatch, "is_told_to_exit", lambda: connection.now > 5)
    await connection.server.see_out()
    assert connection.aborted_at == pytest.approx(CLOSE_GRACE, abs=2)


async def test_a_close_frame_has_its_time_whatever_the_client_takes(connected):
    connection = connected(lambda now: 1000 - int(now))
    await connection.server.see_out(ends=25.0)
    assert connection.aborted_at == pytest.approx(25, abs=2)


@pytest.mark.parametrize("ends", [None, 25.0])
async def test_a_server_that_is_forced_to_stop_waits_for_no_client(connected, monkeypatch, ends):
    connection = connected(lambda now: 1000 - int(now))
    says(monkeypatch, "is_forced_to_exit", lambda: connection.now > 15)
    await connection.server.see_out(ends=ends)
    assert connection.aborted_at == pytest.approx(16, abs=1)


@pytest.mark.parametrize("unsent", [0, 1000])
async def test_who_cancels_waits_for_no_client(connected, unsent):
    connection = connected(lambda now: unsent)
    sending = asyncio.create_task(asyncio.Event().wait())
    seeing = asyncio.create_task(connection.server.see_out(sending, ends=1e9))
    await asyncio.sleep(0.01)
    seeing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await seeing
    assert (connection.aborted_at is not None) is bool(unsent)
    await asyncio.wait([sending])
    assert sending.cancelled()


async def test_what_still_sends_is_waited_for_and_may_end(connected):
    connection = connected(lambda now: 0)
    go = asyncio.Event()
    sending = asyncio.create_task(go.wait())
    asyncio.get_running_loop().call_later(0.01, go.set)
    await connection.server.see_out(sending, ends=1e9)
    assert sending.done()
    assert not sending.cancelled()
    assert connection.aborted_at is None


async def test_what_still_sends_hears_of_the_abort(connected):
    connection = connected(lambda now: 1000)
    lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def write() -> None:
        await lost

    connection.abort = lambda: lost.set_exception(OSError())  # type: ignore[method-assign]
    sending = asyncio.create_task(write())
    await connection.server.see_out(sending)
    assert isinstance(sending.exception(), OSError)


async def test_without_a_transport_the_sending_is_given_up(monkeypatch):
    async def send(event: object) -> None:
        """That of a server that shows nothing of its connection."""

    monkeypatch.setattr(quirks, "CLOSE_GRACE", 0.02)
    sending = asyncio.create_task(asyncio.Event().wait())
    await servers.of(send, {}).see_out(sending)
    await asyncio.wait([sending])
    assert sending.cancelled()


async def test_what_is_unsent_does_not_matter_where_only_the_sending_does(connected):
    connection = connected(lambda now: 1000)
    sending = asyncio.create_task(asyncio.sleep(0))
    await connection.server.see_out(sending, taken=False)
    assert sending.done()
    assert connection.aborted_at is None


class Uvicorn:
    should_exit = force_exit = False

    def handle_exit(self, number: int, frame: object) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


async def test_a_server_is_forced_to_exit_where_it_is_told_twice(monkeypatch):
    server = Uvicorn()
    monkeypatch.setattr(quirks.signal, "getsignal", lambda number: server.handle_exit)
    server.handle_exit(2, None)
    assert servers.is_told_to_exit()
    assert not servers.is_forced_to_exit()
    server.handle_exit(2, None)
    assert servers.is_forced_to_exit()
