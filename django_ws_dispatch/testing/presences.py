"""What every broker that knows who is here must do; ``BrokerConformance`` has these tests.

Of a broker without presence they are over at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ..brokers.base import BaseBroker
from ..brokers.presence import BATCH, Entry, Here, Listed, Tracked, version_of
from .histories import expect
from .rooms import DEADLINE, Room

__all__ = ["PresenceConformance"]

ODD_KEYS = ["1", "01", " ", "a b", "A B", '"', "\\", "/", "{a}", "%", "\r\n", "\x00", "\x7f"]
ODD_KEYS += ["\u00fc", "u\u0308", "\u2028", "\U0001f600", "x" * 200, "\u00fc" * 200]
ODD_INFOS = ["0", '""', '"\\"\\u0000"', '{"b":1, "a":[1.0,null]}', '"\u00fc\U0001f600\u2028/"']
ODD_INFOS += [f'"{"x" * 1022}"', " 1", "1e400", "9007199254740993"]


def _here(tracked: Tracked) -> list[Here]:
    """Return who came or has changed, by what a call was answered."""
    expect(tracked.changes is not None and tracked.changes.here is not None, True)
    return (tracked.changes and tracked.changes.here) or []


def _left(tracked: Tracked) -> list[str]:
    """Return who has left, by what a call was answered."""
    return tracked.changes.left if tracked.changes is not None else []


def _in_a_room(
    scenario: Callable[[PresenceConformance, Room], Coroutine[Any, Any, None]],
) -> Callable[[PresenceConformance], None]:
    """Make a test of what happens in a room, in an event loop of its own."""

    async def main(self: PresenceConformance, broker: BaseBroker) -> None:
        try:
            async with asyncio.timeout(3 * DEADLINE):
                await scenario(self, Room(broker))
        finally:
            await broker.aclose()

    def test(self: PresenceConformance) -> None:
        broker = self.make_broker()
        try:
            if broker.has_presence:
                asyncio.run(main(self, broker))
        finally:
            broker.close()

    test.__name__, test.__qualname__ = scenario.__name__, scenario.__qualname__
    return test


class PresenceConformance:
    """The tests of ``atrack()``, ``snapshot()`` and ``asnapshot()``.

    What becomes of a tracker that is silent for ``EXPIRY`` seconds is for a broker's own tests.
    """

    def make_broker(self) -> BaseBroker:
        """Return a new object of the broker under test, always for the same place."""
        raise NotImplementedError("Override make_broker() to return the broker under test.")

    @_in_a_room
    async def test_who_has_entered_is_here(self, room: Room) -> None:
        tracked = await room.say(Entry("ann", 1, '{"a":1}'), Entry("bob", 2), roll=True)
        expect((tracked.known, tracked.more), (False, False))
        expect({one.key for one in _here(tracked)}, {"ann", "bob"})
        roll = await room.broker.asnapshot(room.channel, 10)
        expect(tracked.roll, roll)
        expect(tracked.changes and tracked.changes[1:4], (roll.version, 2, []))
        expect(sorted(roll.here), sorted(_here(tracked)))
        expect(await room.look(), [("ann", 1, '{"a":1}'), ("bob", 2, "null")])
        thread = asyncio.to_thread(room.broker.snapshot, room.channel, 10)
        expect(await thread, roll)
        expect((await room.say()).known, True)

    @_in_a_room
    async def test_of_a_channel_that_nobody_is_in_there_is_nothing_to_tell(
        self, room: Room
    ) -> None:
        await room.hear()
        roll = await room.broker.asnapshot(room.channel, 10)
        expect((version_of(roll.version) < (1, 1), roll.total, roll.here), (True, 0, []))
        tracked = await room.say(roll=True)
        expect((tracked.known, tracked.more, tracked.changes), (False, False, None))
        expect(tracked.roll and tracked.roll[1:], (0, []))
        gone = await room.say(Entry("ann", 0, lingers=True), Entry("bob", 0, "1"))
        expect((gone.known, gone.changes), (True, None))
        expect(await room.look(), [])
        expect(await room.heard(), [])

    @_in_a_room
    async def test_what_is_said_is_how_many_there_are_so_that_twice_is_once(
        self, room: Room
    ) -> None:
        await room.hear()
        for count in (1, 3, 2):
            expect(_here(await room.say(Entry("ann", count, "1")))[0].sockets, count)
            expect((await room.say(Entry("ann", count, "1"))).changes, None)
            expect(await room.look(), [("ann", count, "1")])
        expect(_left(await room.say(Entry("ann", 0))), ["ann"])
        expect((await room.say(Entry("ann", 0))).changes, None)
        expect(len(await room.heard()), 4)

    @_in_a_room
    async def test_sockets_of_two_trackers_are_added_up(self, room: Room) -> None:
        (first,) = _here(await room.say(Entry("ann", 1, "1")))
        (second,) = _here(await room.say(Entry("ann", 2), by="two"))
        expect(second, first._replace(sockets=3))
        expect(_here(await room.say(Entry("ann", 0))), [first._replace(sockets=2)])
        expect(_here(await room.say(Entry("ann", 1), by="two")), [first])
        # That of one which had none is no news.
        expect((await room.say(Entry("ann", 0))).changes, None)
        expect(_left(await room.say(Entry("ann", 0), by="two")), ["ann"])
        expect(await room.look(), [])

    @_in_a_room
    async def test_info_that_was_told_last_counts(self, room: Room) -> None:
        await room.say(Entry("ann", 1, "1"))
        expect(_here(await room.say(Entry("ann", 1, "2"), by="two"))[0].info, "2")
        expect((await room.say(Entry("ann", 1, "2"))).changes, None)
        # None is as it is, and that in the place of another one is not told.
        expect(_here(await room.say(Entry("ann", 2)))[0].info, "2")
        expect((await room.say(Entry("ann", 2, "3", "1"))).changes, None)
        expect(_here(await room.say(Entry("ann", 1, "3", "1")))[0].info, "2")
        expect(_here(await room.say(Entry("ann", 1, "3", "2")))[0].info, "3")
        await room.say(Entry("ann", 0))
        await room.say(Entry("ann", 0), by="two")
        expect(_here(await room.say(Entry("ann", 1)))[0].info, "null")

    @_in_a_room
    async def test_any_key_and_any_info_come_out_as_they_were(self, room: Room) -> None:
        await room.hear()
        listed = Listed(100, 0)
        for key in ODD_KEYS:
            await room.say(Entry(key, 1), listed=listed)
        expect(await room.look(100), [(key, 1, "null") for key in ODD_KEYS])
        for info in ODD_INFOS:
            await room.say(Entry("x", 1, info), listed=listed)
            expect((await room.look(100))[-1], ("x", 1, info))
        ends = [Entry(key, 0) for key in ODD_KEYS]
        expect(_left(await room.say(*ends, listed=listed)), ODD_KEYS)
        told = await room.heard()
        expect([one.here and one.here[0].key for one in told[: len(ODD_KEYS)]], ODD_KEYS)
        infos = [one.here[0].info for one in told if one.here and one.here[0].key == "x"]
        expect(infos, ODD_INFOS)

    @_in_a_room
    async def test_who_left_for_good_has_left_at_once(self, room: Room) -> None:
        await room.say(Entry("ann", 1), Entry("bob", 1))
        expect(_left(await room.say(Entry("ann", 0))), ["ann"])
        # Where nobody lingers, nobody does.
        never = Listed(10, 0)
        expect(_left(await room.say(Entry("bob", 0, lingers=True), listed=never)), ["bob"])
        expect(await room.look(), [])

    @_in_a_room
    async def test_who_lingers_is_here_and_may_come_back(self, room: Room) -> None:
        (ann,) = _here(await room.say(Entry("ann", 1, "1")))
        lingering = ann._replace(sockets=0)
        expect(_here(await room.say(Entry("ann", 0, lingers=True), ends=True)), [lingering])
        # Its tracker is none any more; and to say it again is no other word.
        expect((await room.say(Entry("ann", 0, lingers=True))).changes, None)
        expect((await room.say(Entry("ann", 0), by="two")).changes, None)
        expect(await room.look(), [("ann", 0, "1")])
        expect(_here(await room.say(Entry("ann", 1), by="two")), [ann])
        expect(await room.look(), [("ann", 1, "1")])
        expect(_left(await room.say(Entry("ann", 0), by="two")), ["ann"])

    @_in_a_room
    async def test_who_lingers_no_more_has_left_and_that_is_told_once(self, room: Room) -> None:
        await room.hear()
        short = Listed(10, 0.05)
        await room.say(Entry("ann", 1), Entry("bob", 1), listed=short)
        await room.say(Entry("ann", 0, lingers=True), listed=short)
        async with asyncio.timeout(DEADLINE):
            # Whoever looks sees it, and tells nobody.
            while await room.look() != [("bob", 1, "null")]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        expect((await room.broker.asnapshot(room.channel, 10)).total, 1)
        answers = await asyncio.gather(*(room.say(by=str(one)) for one in range(5)))
        expect([_left(one) for one in answers if one.changes is not None], [["ann"]])
        told = await room.heard()
        expect([one.left for one in told if one.left], [["ann"]])
        expect((told[-1].total, told[-1].here), (1, []))

    @_in_a_room
    async def test_all_that_is_told_is_a_chain_that_leads_to_what_is_here(self, room: Room) -> None:
        await room.hear()
        roll = (await room.say(roll=True)).roll
        expect(roll is not None and roll.total, 0)
        answers = [
            await room.say(Entry("ann", 1), Entry("bob", 1, "1")),
            await room.say(Entry("ann", 1), Entry("eve", 1), by="two"),
            await room.say(Entry("bob", 1, "1")),
            await room.say(Entry("bob", 2, "2"), Entry("ann", 0)),
            await room.say(Entry("eve", 0, lingers=True), Entry("ann", 0), by="two"),
            await room.say(Entry("ann", 1)),
            await room.say(Entry("bob", 0), Entry("joe", 1)),
        ]
        told = await room.heard()
        expect(told, [one.changes for one in answers if one.changes is not None])
        here: dict[str, Here] = {}
        version = roll.version if roll is not None else ""
        for changes in told:
            expect(changes.previous, version)
            expect(version_of(changes.version) > version_of(version), True)
            version = changes.version
            for key in changes.left:
                del here[key]
            here.update({one.key: one for one in changes.here or ()})
            expect(changes.total, len(here))
        now = await room.broker.asnapshot(room.channel, 10)
        expect(now.version, version)
        expect(now.here, sorted(here.values(), key=lambda one: one.since))

    @_in_a_room
    async def test_versions_go_up_also_where_everybody_had_left(self, room: Room) -> None:
        last = (0, 0)
        for _ in range(3):
            for count in (1, 0):
                changes = (await room.say(Entry("ann", count), ends=not count)).changes
                version = version_of(changes.version) if changes is not None else (0, 0)
                expect(version > last, True)
                last = version

    @_in_a_room
    async def test_who_is_here_longest_comes_first(self, room: Room) -> None:
        for key in "cab":
            await room.say(Entry(key, 1), by=key)
        await room.say(Entry("c", 2), by="c")
        await room.say(Entry("a", 0), by="a")
        tracked = await room.say(Entry("a", 1), by="a", roll=True)
        here = tracked.roll.here if tracked.roll is not None else []
        expect([one.key for one in here], ["c", "b", "a"])
        expect(sorted(here, key=lambda one: one.since), here)
        expect((await room.broker.asnapshot(room.channel, 10)).here, here)
        expect([one[0] for one in await room.look(2)], ["c", "b"])
        expect((await room.broker.asnapshot(room.channel, 2)).total, 3)
        expect((await room.broker.asnapshot(room.channel, 0))[1:], (3, []))

    @_in_a_room
    async def test_above_the_limit_only_the_number_is_told(self, room: Room) -> None:
        two = Listed(2, 300.0)
        await room.hear()
        await room.say(Entry("ann", 1), Entry("bob", 1), listed=two)
        tracked = await room.say(Entry("eve", 1), listed=two, roll=True)
        expect(tracked.roll and tracked.roll[1:], (3, []))
        expect([one[0] for one in await room.look(2)], ["ann", "bob"])
        await room.say(Entry("ann", 0, lingers=True), listed=two)
        tracked = await room.say(Entry("eve", 0), listed=two, roll=True)
        expect(tracked.roll and tracked.roll.total, 2)
        expect(await room.look(), [("ann", 0, "null"), ("bob", 1, "null")])
        told = await room.heard()
        expect([one.total for one in told], [2, 3, 3, 2])
        expect([one.here is None for one in told], [False, True, True, False])
        expect(told[-1].left, ["eve"])
        expect([one.left for one in told[:-1]], [[], [], []])

    @_in_a_room
    async def test_as_many_as_one_call_takes_are_one_change(self, room: Room) -> None:
        await room.hear()
        listed = Listed(1000, 0)
        keys = [f"key {number}" for number in range(3 * BATCH)]
        for start in range(0, len(keys), BATCH):
            some = [Entry(key, 1, f'"{key}"') for key in keys[start : start + BATCH]]
            expect(len(_here(await room.say(*some, listed=listed))), BATCH)
        roll = (await room.say(listed=listed, roll=True)).roll
        found = {one.key: one.info for one in roll.here} if roll is not None else {}
        expect(found, {key: f'"{key}"' for key in keys})
        tracked = await room.say(*(Entry(key, 0) for key in keys[:BATCH]), listed=listed)
        expect(sorted(_left(tracked)), sorted(keys[:BATCH]))
        expect([one.total // BATCH for one in await room.heard()], [1, 2, 3, 2])

    @_in_a_room
    async def test_a_tracker_that_has_ended_is_not_known_any_more(self, room: Room) -> None:
        await room.say(Entry("ann", 1))
        await room.say(Entry("bob", 1), by="two")
        expect(_left(await room.say(Entry("ann", 0), ends=True)), ["ann"])
        expect((await room.say(by="two")).known, True)
        expect((await room.say(ends=True)).known, False)
        expect((await room.say(Entry("bob", 0), by="two", ends=True)).known, True)
        expect((await room.broker.asnapshot(room.channel, 10))[1:], (0, []))
        tracked = await room.say(Entry("ann", 1), roll=True)
        expect((tracked.known, tracked.roll and tracked.roll.total), (False, 1))

    @_in_a_room
    async def test_a_tracker_is_told_of_how_many_keys_it_has_sockets(self, room: Room) -> None:
        expect((await room.say()).keys, 0)
        expect((await room.say(Entry("ann", 2), Entry("bob", 1))).keys, 2)
        expect((await room.say(Entry("ann", 1), by="two")).keys, 1)
        expect((await room.say(Entry("ann", 1), Entry("bob", 0, lingers=True))).keys, 1)
        expect((await room.say(Entry("ann", 0), ends=True)).keys, 0)

    @_in_a_room
    async def test_after_an_outage_everything_is_as_it_was(self, room: Room) -> None:
        await room.say(Entry("ann", 1), Entry("bob", 1))
        tracked = await room.say(Entry("bob", 0), by="two", away=True, roll=True)
        expect((tracked.changes, tracked.roll and tracked.roll.total), (None, 2))
        expect(_left(await room.say(Entry("ann", 0), away=True)), ["ann"])
        expect(await room.look(), [("bob", 1, "null")])

    @_in_a_room
    async def test_one_tracker_may_take_the_place_of_another(self, room: Room) -> None:
        came = _here(await room.say(Entry("ann", 2, "1"), Entry("bob", 1), Entry("eve", 1)))
        await room.say(Entry("eve", 2), by="two")
        expect(_left(await room.say(Entry("ann", 1, "1"), by="new", replaces="one")), [])
        told = await room.say(by="new", replaces="one", replaced=True, away=True)
        left = _left(told)
        while told.more:
            told = await room.say(by="new")
            left += _left(told)
        expect(left, ["bob"])
        expect(await room.look(), [("ann", 1, "1"), ("eve", 2, "null")])
        here = (await room.broker.asnapshot(room.channel, 10)).here
        expect({one[::2] for one in here}, {one[::2] for one in came if one.key != "bob"})
        expect((await room.say()).known, False)
        expect((await room.say(by="new", replaces="nobody", replaced=True)).changes, None)

    @_in_a_room
    async def test_channels_of_similar_names_have_nothing_in_common(self, room: Room) -> None:
        names = ("a", "A", "{a}", "%7Ba%7D", "a}", "a:", "a*", "\u00e4", "a\u0308")
        start = room.channel
        for name in names:
            room.channel = start + name
            await room.say(Entry(name, 1), by=name)
        for name in names:
            room.channel = start + name
            expect(await room.look(), [(name, 1, "null")])

    @_in_a_room
    async def test_other_processes_see_and_hear_it(self, room: Room) -> None:
        if room.broker.in_process:
            return
        other = self.make_broker()
        try:
            await room.hear(other)
            tracked = await room.say(Entry("ann", 1), roll=True)
            expect(await other.asnapshot(room.channel, 10), tracked.roll)
            expect(await room.heard(), [tracked.changes])
        finally:
            await other.aclose()
            other.close()
