"""The channel in which people come and go, for the tests of brokers."""

from __future__ import annotations

import asyncio

from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.brokers.presence import Entry
from django_ws_dispatch.testing.rooms import Room


def test_a_room_hears_what_changes_and_passes_over_the_rest() -> None:
    async def main() -> None:
        room = Room(MemoryBroker("default", None, {}))
        await room.say(Entry("early", 1))
        await room.hear()
        answers = [await room.say(Entry("ann", 1, "1")), await room.say(Entry("early", 0))]
        await room.broker.apublish(room.channel, b"of another kind")
        assert await room.heard() == [one.changes for one in answers]
        assert await room.look() == [("ann", 1, "1")]

    asyncio.run(main())


def test_rooms_and_those_who_speak_have_names_of_their_own() -> None:
    async def main() -> None:
        broker = MemoryBroker("default", None, {})
        first, second = Room(broker), Room(broker)
        assert first.channel != second.channel
        await first.say(Entry("ann", 1))
        assert not (await first.say(by="two")).known
        assert (await first.say()).known
        assert not (await second.say()).known

    asyncio.run(main())
