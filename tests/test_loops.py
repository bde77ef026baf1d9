import asyncio
import threading

from django_ws_dispatch.loops import PerLoop


class Thing:
    pass


async def ask(things: PerLoop[Thing]) -> Thing:
    assert things() is things()
    return things()


def test_each_loop_has_an_object_of_its_own() -> None:
    things = PerLoop(Thing)
    assert asyncio.run(ask(things)) is not asyncio.run(ask(things))


def test_those_of_closed_loops_are_dropped() -> None:
    things = PerLoop(Thing)
    asyncio.run(ask(things))
    last = asyncio.run(ask(things))
    assert things.values() == [last]


def test_those_of_loops_that_run_are_kept() -> None:
    things = PerLoop(Thing)

    async def scenario() -> None:
        own = await ask(things)
        elsewhere = threading.Thread(target=asyncio.run, args=(ask(things),))
        elsewhere.start()
        elsewhere.join()
        assert things() is own

    asyncio.run(scenario())


def test_one_that_was_taken_out_is_made_anew() -> None:
    things = PerLoop(Thing)

    async def scenario() -> None:
        first = things()
        assert things.pop() is first
        assert things.pop() is None
        assert things() is not first

    asyncio.run(scenario())
