"""Time that passes without a wait: who lingers, what is kept."""

from __future__ import annotations

import asyncio

import pytest
from django.test import override_settings

from django_ws_dispatch.brokers import remembered
from django_ws_dispatch.groups import Group, members
from django_ws_dispatch.testing import WebSocketClient, travel

from ..kit.members import run
from ..kit.remembering import remembering

ROOM, TICKER = Group("room:a"), Group("ticker")


async def here(websocket):
    async with websocket.join("room:a", key=websocket.request.GET["key"]):
        await websocket.wait_closed()


async def watches(websocket):
    async with ROOM.watch() as changes:
        async for change in changes:
            left, joined = change.left, change.joined
            await websocket.send_json([[one.key for one in them] for them in (left, joined)])


@pytest.fixture(autouse=True)
def _site(monkeypatch):
    monkeypatch.setattr("django_ws_dispatch.groups.group.unheard", False)
    groups = {
        "room:*": {"presence": True, "linger": 300},
        "ticker": {"history": 1, "ttl": 1000},
    }
    handlers = {"here/": here, "watches/": watches}
    with remembering(groups), override_settings(WEBSOCKET_HANDLERS=handlers):
        yield


def visit(key):
    return WebSocketClient().connect(f"/here/?key={key}")


def test_who_lingers_is_gone_once_the_time_is_over():
    async def scenario():
        with travel() as clock:
            async with visit("anna"), visit("bob"):
                assert await ROOM.acount() == 2
            assert [one.sockets for one in await ROOM.apresent()] == [0, 0]
            await clock.aadvance(299)
            assert await ROOM.acount() == 2
            await clock.aadvance(2)
            assert await ROOM.apresent() == []

    run(scenario)


def test_who_comes_back_in_time_has_never_left():
    async def scenario():
        with travel() as clock:
            async with WebSocketClient().connect("/watches/") as watcher:
                assert await watcher.receive_json() == [[], []]
                async with visit("anna"):
                    assert await watcher.receive_json() == [[], ["anna"]]
                    (before,) = await ROOM.apresent()
                await clock.aadvance(299)
                async with visit("anna"):
                    await clock.aadvance(299)
                    assert await ROOM.apresent() == [before]
                    await watcher.receive_nothing()

    run(scenario)


def test_who_watches_is_told_of_it_and_of_every_change_without_a_wait(monkeypatch):
    monkeypatch.setattr("django_ws_dispatch.groups.watch.TOLD_EVERY", 600.0)

    async def scenario():
        with travel() as clock:
            async with WebSocketClient().connect("/watches/") as watcher:
                assert await watcher.receive_json() == [[], []]
                async with visit("anna"):
                    assert await watcher.receive_json() == [[], ["anna"]]
                    async with visit("bob"):
                        assert await watcher.receive_json() == [[], ["bob"]]
                    await clock.aadvance(301)
                    assert await watcher.receive_json() == [["bob"], []]
                    assert await ROOM.acount() == 1
                await clock.aadvance(301)
                assert await watcher.receive_json() == [["anna"], []]

    run(scenario)


def test_nothing_is_told_where_nothing_is_over():
    async def scenario():
        with travel() as clock:
            async with WebSocketClient().connect("/watches/") as watcher:
                assert await watcher.receive_json() == [[], []]
                await clock.aadvance(10)
                await watcher.receive_nothing()

    run(scenario)


def test_sync_code_sees_who_is_here_by_then():
    async def scenario():
        async with visit("anna"):
            pass

    async def loop():
        await scenario()
        await members.aclose()

    with travel() as clock:
        asyncio.run(loop())
        assert [one.key for one in ROOM.present()] == ["anna"]
        clock.advance(301)
        assert ROOM.present() == []
        assert ROOM.count() == 0


def test_what_is_kept_goes_when_its_time_is_over():
    with travel() as clock:
        TICKER.send("1")
        position = TICKER.position()
        clock.advance(999)
        assert [one.data for one in TICKER.history().messages] == ["1"]
        clock.advance(2)
        assert TICKER.history().messages == []
        assert TICKER.position() == position
        clock.advance(2 * 86_400)
        assert TICKER.position() != position


def test_behind_the_block_the_clock_is_what_it_was():
    before = remembered.now

    def fail():
        with travel() as clock:
            clock.advance(1e9)
            assert remembered.now() - before() > 9e8
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert remembered.now is before


def test_one_travel_in_another_adds_to_it():
    with travel() as outer:
        outer.advance(1e6)
        with travel() as inner:
            inner.advance(1e9)
            assert 1e9 + 9e5 < inner.now() - outer.now() + 1e6 < 1e9 + 2e6
        assert remembered.now() - inner.now() < -9e8


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_a_clock_does_not_go_back(seconds):
    async def scenario():
        with pytest.raises(ValueError, match="seconds from 0 on"):
            await clock.aadvance(seconds)

    with travel() as clock:
        with pytest.raises(ValueError, match="seconds from 0 on"):
            clock.advance(seconds)
        run(scenario)
