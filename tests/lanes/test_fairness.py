"""Who gets a slot of the lanes, and when."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.test import override_settings

from django_ws_dispatch import lanes
from django_ws_dispatch.lanes import caretaker
from tests.kit.waiting import until
from tests.lanes.sockets import Blocked, Socket, run


class Crowd:
    """Calls that run until they are let go, one for each socket."""

    def __init__(self) -> None:
        self.calls: list[Blocked] = []
        self.tasks: list[asyncio.Task[str]] = []

    def add(self, socket: Socket) -> None:
        call = Blocked()
        self.calls.append(call)
        self.tasks.append(socket.start(sync_to_async(call)()))  # type: ignore[no-untyped-call]

    @property
    def running(self) -> int:
        return sum(call.running.is_set() for call in self.calls)

    async def let_go(self) -> None:
        for call in self.calls:
            call.gate.set()
        await asyncio.gather(*self.tasks)


def in_order(finished: list[str], name: str, socket: Socket) -> asyncio.Task[None]:
    task: asyncio.Task[None] = socket.start(  # type: ignore[no-untyped-call]
        sync_to_async(finished.append)(name)
    )
    return task


@override_settings(WEBSOCKET_SYNC_THREADS=4)
def test_the_sockets_of_one_user_leave_a_slot_to_the_others() -> None:
    async def main() -> None:
        crowd = Crowd()
        for _ in range(12):
            crowd.add(Socket(user="somebody"))
        await until(lambda: crowd.running == 3)
        # The fourth slot is free all the while: what others ask for runs at once.
        for user in ("another", None):
            for _ in range(20):
                socket = Socket(user=user)
                await socket.start(sync_to_async(int)())  # type: ignore[no-untyped-call]
        assert crowd.running == 3
        await crowd.let_go()

    run(main())


@override_settings(WEBSOCKET_SYNC_THREADS=1)
def test_with_one_slot_a_user_may_have_it() -> None:
    async def main() -> None:
        socket = Socket(user="somebody")
        await socket.start(sync_to_async(int)())  # type: ignore[no-untyped-call]

    run(main())


@override_settings(WEBSOCKET_SYNC_THREADS=2)
def test_two_users_may_have_all_slots() -> None:
    async def main() -> None:
        crowd = Crowd()
        for user in ("one", "one", "two", "two"):
            crowd.add(Socket(user=user))
        await until(lambda: crowd.running == 2)
        assert [call.running.is_set() for call in crowd.calls] == [True, False, True, False]
        await crowd.let_go()

    run(main())


@override_settings(WEBSOCKET_SYNC_THREADS=1)
def test_many_calls_of_one_client_do_not_hold_up_one_call_of_another() -> None:
    async def main() -> None:
        crowd, finished = Crowd(), []
        crowd.add(Socket())
        await until(lambda: crowd.running == 1)
        tasks = [in_order(finished, "many", Socket(client="192.0.2.1")) for _ in range(50)]
        await asyncio.sleep(0)
        tasks.append(in_order(finished, "one", Socket(client="192.0.2.2")))
        await asyncio.sleep(0)
        await crowd.let_go()
        await asyncio.gather(*tasks)
        assert finished.index("one") <= 1

    run(main())


@override_settings(WEBSOCKET_SYNC_THREADS=1)
def test_a_handshake_does_not_wait_behind_calls_of_handlers() -> None:
    async def main() -> None:
        crowd, finished = Crowd(), []
        crowd.add(Socket())
        await until(lambda: crowd.running == 1)
        tasks = [in_order(finished, "call", Socket()) for _ in range(20)]
        await asyncio.sleep(0)
        tasks.append(in_order(finished, "handshake", Socket(urgent=True)))
        await asyncio.sleep(0)
        await crowd.let_go()
        await asyncio.gather(*tasks)
        # One turn in eight, at most, is that of whoever would otherwise wait for ever.
        assert finished.index("handshake") <= 1

    run(main())


@override_settings(WEBSOCKET_SYNC_THREADS=2)
def test_where_every_slot_is_stuck_a_handshake_gets_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caretaker, "STALLED_SECONDS", 0.05)

    async def main() -> None:
        crowd = Crowd()
        for _ in range(2):
            crowd.add(Socket())
        await until(lambda: crowd.running == 2)
        waiting = Socket().start(sync_to_async(int)())  # type: ignore[no-untyped-call]
        for _ in range(3):  # one after the other
            socket = Socket(urgent=True)
            await socket.start(sync_to_async(int)())  # type: ignore[no-untyped-call]
        assert crowd.running == 2
        assert not waiting.done(), "a call of a handler ran beside as many as there are slots"
        await crowd.let_go()
        await waiting

    run(main())


@override_settings(WEBSOCKET_SYNC_THREADS=1)
def test_a_call_of_a_client_that_has_left_comes_last() -> None:
    async def main() -> None:
        crowd, finished = Crowd(), []
        crowd.add(Socket())
        await until(lambda: crowd.running == 1)
        gone = Socket()
        tasks = [in_order(finished, "gone", gone)]
        await asyncio.sleep(0)
        gone.is_over = True
        tasks += [in_order(finished, "there", Socket()) for _ in range(10)]
        await asyncio.sleep(0)
        await crowd.let_go()
        await asyncio.gather(*tasks)
        assert finished[-1] == "gone"
        assert len(finished) == 11

    run(main())


@override_settings(WEBSOCKET_SYNC_THREADS=1)
def test_an_errand_of_a_socket_is_its_clients() -> None:
    async def main() -> None:
        crowd, finished = Crowd(), []
        crowd.add(Socket())
        await until(lambda: crowd.running == 1)

        async def errand(name: str, client: str) -> None:
            with lanes.lane_for(Socket(client=client)):
                await sync_to_async(finished.append)(name)

        tasks = [asyncio.ensure_future(errand("many", "192.0.2.1")) for _ in range(20)]
        tasks.append(asyncio.ensure_future(errand("one", "192.0.2.2")))
        await asyncio.sleep(0)
        await crowd.let_go()
        await asyncio.gather(*tasks)
        assert finished.index("one") <= 1

    run(main())
