"""Who is in which group: to join several, some of which the broker is slow about."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_ws_dispatch import groups
from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group
from django_ws_dispatch.groups.present import PresentGroup
from django_ws_dispatch.groups.seats import Seat
from django_ws_dispatch.groups.watch import Watcher

from ..kit.late_broker import LATE, LateBroker, late
from ..kit.members import FakeMember, run
from ..kit.waiting import until

A, B, C = Group("a"), Group("b"), Group("c")


@pytest.fixture(autouse=True)
def _late(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEBSOCKET_BROKERS = LATE
    monkeypatch.setattr(groups.group, "unheard", False)


async def joining(member: FakeMember, *to: Group) -> tuple[asyncio.Task[None], LateBroker]:
    task = asyncio.create_task(groups.members.local().join(member, *to))
    await asyncio.sleep(0)
    return task, late()


def members() -> set[object]:
    """All that are in any group of this loop."""
    links = groups.members.local()._links.values()
    return {
        one for link in links for group in link.groups.values() for one in group.channel.members
    }


def test_all_groups_are_asked_for_before_one_is_acknowledged() -> None:
    async def scenario() -> None:
        task, broker = await joining(FakeMember(), A, B, C)
        assert list(broker.asked) == ["group:a", "group:b", "group:c"]
        broker.acknowledge("c")
        broker.acknowledge("a")
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        broker.acknowledge("b")
        await task
        assert len(members()) == 1

    run(scenario)


def test_what_one_group_gets_before_the_other_is_acknowledged_arrives() -> None:
    async def scenario() -> None:
        member = FakeMember()
        task, broker = await joining(member, A, B)
        broker.acknowledge("a")
        await A.asend("early")
        broker.acknowledge("b")
        await task
        assert member.got == ["early"]

    run(scenario)


def test_one_that_fails_fails_all_at_once_and_nobody_stays() -> None:
    async def scenario() -> None:
        member = FakeMember()
        task, broker = await joining(member, A, B, C)
        broker.acknowledge("a")
        broker.fail("c")
        with pytest.raises(BrokerError, match="group:c is late"):
            await task
        assert not members()
        assert not broker.channels
        assert not broker.asked
        await A.asend("x")
        assert member.got == []

    run(scenario)


def test_the_failures_that_nobody_hears_of_are_no_log_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        broker = late()
        task, _ = await joining(FakeMember(), A, B)
        broker.fail()
        with pytest.raises(BrokerError):
            await task
        task, _ = await joining(FakeMember(), A)
        ready = broker.asked["group:a"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ready.set_exception(BrokerError("too late"))
        del task, ready
        await asyncio.sleep(0)
        gc.collect()

    run(scenario)
    assert not caplog.records


def test_a_join_that_is_cancelled_leaves_all_groups_and_cancels_no_other() -> None:
    async def scenario() -> None:
        stayer = FakeMember()
        leaving, broker = await joining(FakeMember(), A, B)
        staying, _ = await joining(stayer, A)
        broker.acknowledge("b")
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert members() == {stayer}
        assert not broker.channels
        broker.acknowledge("a")
        await staying

    run(scenario)


def test_an_unknown_broker_among_them_leaves_nobody_behind() -> None:
    async def scenario() -> None:
        with pytest.raises(ImproperlyConfigured, match="'nope' in WEBSOCKET_BROKERS"):
            await groups.members.local().join(FakeMember(), A, Group("b", broker="nope"))
        assert not members()

    run(scenario)


def test_a_subscriber_that_raises_leaves_nobody_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        task, broker = await joining(FakeMember(), A)
        broker.acknowledge("a")
        await task
        (link,) = groups.members.local()._links.values()

        def subscribe(channel: str) -> None:
            raise RuntimeError("a bug of the broker's")

        monkeypatch.setattr(link.subscriber, "subscribe", subscribe)
        newcomer = FakeMember()
        with pytest.raises(RuntimeError, match="a bug"):
            await groups.members.local().join(newcomer, A, B)
        assert newcomer not in members()
        assert len(members()) == 1

    run(scenario)


def test_a_group_that_is_named_twice_is_joined_twice() -> None:
    async def scenario() -> None:
        member, registry = FakeMember(), groups.members.local()
        task, broker = await joining(member, A, A)
        broker.acknowledge()
        await task
        registry.leave(member, A)
        assert members() == {member}
        registry.leave(member, A)
        assert not members()

    run(scenario)


def test_a_subscription_that_is_cancelled_leaves_nobody_behind() -> None:
    async def scenario() -> None:
        task, broker = await joining(FakeMember(), A)
        broker.asked["group:a"].cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not members()

    run(scenario)


# Who is here


@pytest.fixture
def _present(settings: Any) -> None:
    settings.WEBSOCKET_GROUPS = {
        "a": {"presence": True, "linger": 0},
        "b": {"presence": True, "history": 5, "linger": 0},
        "c": {"presence": True, "linger": 300},
    }


def with_seats(member: FakeMember, *seats: tuple[Group, Seat]) -> asyncio.Task[Any]:
    """Join groups, and be here in them."""
    options = {group.place: group.options for group, _ in seats}
    wanted = {group.place: (seat, options[group.place]) for group, seat in seats}
    kept = {place: one for place, one in options.items() if one.history}
    return asyncio.create_task(
        groups.members.local().join(member, *wanted, kept=kept, seats=wanted)
    )


def present() -> dict[str, PresentGroup]:
    (link,) = groups.members.local()._links.values()
    return link.present


@pytest.mark.usefixtures("_present")
def test_who_joins_is_here_once_it_is_a_member_and_not_before() -> None:
    async def scenario() -> None:
        joining = with_seats(FakeMember(), (A, Seat("anna", "1")), (B, Seat("anna", "2")))
        await asyncio.sleep(0)
        assert await A.apresent() == await B.apresent() == []
        late().acknowledge()
        await joining
        assert [one.info for one in await A.apresent() + await B.apresent()] == [1, 2]

    run(scenario)


@pytest.mark.usefixtures("_present")
def test_a_subscription_that_fails_has_nobody_here() -> None:
    async def scenario() -> None:
        seats = [Seat("anna", "1"), Seat("anna", "1")]
        joining = with_seats(FakeMember(), (A, seats[0]), (B, seats[1]))
        await asyncio.sleep(0)
        late().acknowledge("a")
        late().fail("b")
        with pytest.raises(BrokerError):
            await joining
        assert [seat.group for seat in seats] == [None, None]
        assert not present()
        assert not members()
        assert not late().channels

    run(scenario)


@pytest.mark.usefixtures("_present")
def test_a_broker_that_does_not_take_who_is_here_leaves_nobody_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(*args: object, **kwargs: object) -> None:
        raise BrokerError("away")

    async def scenario() -> None:
        broker = late()
        with monkeypatch.context() as patched:
            patched.setattr(broker, "atrack", away)
            joining = with_seats(FakeMember(), (A, Seat("anna", "1")), (B, Seat("anna", "1")))
            await asyncio.sleep(0)
            broker.acknowledge()
            with pytest.raises(BrokerError, match="away"):
                await joining
            assert not members()
        for group in present().values():
            group.refresh()
        await until(lambda: not present())
        assert await A.apresent() == await B.apresent() == []
        assert not broker.channels

    run(scenario)


@pytest.mark.usefixtures("_present")
def test_who_does_not_get_in_lingers_since_its_page_tries_again() -> None:
    async def scenario() -> None:
        broker, go_on = late(), asyncio.Event()
        track = broker.atrack

        async def slow(*args: Any, **kwargs: Any) -> Any:
            answer = await track(*args, **kwargs)
            await go_on.wait()
            return answer

        broker.atrack = slow  # type: ignore[method-assign]
        joining = with_seats(FakeMember(), (C, Seat("anna", "1")))
        await asyncio.sleep(0)
        broker.acknowledge()
        while not await C.acount():  # noqa: ASYNC110
            await asyncio.sleep(0)
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
        go_on.set()
        await groups.members.local().sweep()
        assert [(one.key, one.sockets) for one in await C.apresent()] == [("anna", 0)]

    run(scenario)


@pytest.mark.usefixtures("_present")
def test_a_broker_that_does_not_say_in_time_that_it_knows_who_is_here_fails_the_join() -> None:
    async def scenario() -> None:
        broker, go_on = late(), asyncio.Event()
        track = broker.atrack

        async def slow(*args: Any, **kwargs: Any) -> Any:
            await go_on.wait()
            return await track(*args, **kwargs)

        broker.atrack = slow  # type: ignore[method-assign]
        broker.timeout = 0.01
        joining = with_seats(FakeMember(), (A, Seat("anna", "1")))
        await asyncio.sleep(0)
        broker.acknowledge()
        with pytest.raises(BrokerError, match=r"did not take within 0\.01 s who is here"):
            await joining
        assert not members()
        go_on.set()
        await until(lambda: not present())
        assert await A.apresent() == []

    run(scenario)


@pytest.mark.usefixtures("_present")
def test_a_join_that_is_cancelled_while_the_broker_is_told_leaves_nobody_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    atrack = MemoryBroker.atrack

    async def scenario() -> None:
        answers = asyncio.Event()

        async def waits(*args: Any, **kwargs: Any) -> Any:
            await answers.wait()
            return await atrack(*args, **kwargs)

        monkeypatch.setattr(MemoryBroker, "atrack", waits)
        joining = with_seats(FakeMember(), (A, Seat("anna", "1")), (B, Seat("bob", "1")))
        await asyncio.sleep(0)
        late().acknowledge()
        await until(present)
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
        answers.set()
        await until(lambda: not present())
        assert await A.apresent() == await B.apresent() == []
        assert not late().channels

    run(scenario)


@pytest.mark.usefixtures("_present")
def test_an_end_of_the_loop_tells_the_broker_who_has_left() -> None:
    async def scenario() -> None:
        member, seats = FakeMember(), [Seat("anna", "1"), Seat("bob", "1")]
        joining = with_seats(member, (A, seats[0]), (C, seats[1]))
        await asyncio.sleep(0)
        late().acknowledge()
        await joining
        for seat in seats:
            seat.leave(lingers=True)
        await groups.members.aclose()
        assert await A.apresent() == []
        # It lingers on, for whoever asks.
        assert [(one.key, one.sockets) for one in await C.apresent()] == [("bob", 0)]

    run(scenario)


def watch(group: Group) -> asyncio.Task[tuple[PresentGroup, Watcher]]:
    options = group.options
    assert options is not None
    return asyncio.create_task(groups.members.local().watch(group.place, options, group))


@pytest.mark.usefixtures("_present")
def test_who_watches_keeps_a_group_that_nobody_has_joined() -> None:
    async def scenario() -> None:
        watching = watch(A)
        await asyncio.sleep(0)
        assert list(late().asked) == [A.channel]
        late().acknowledge()
        group, first = await watching
        same, second = await watch(A)
        assert same is group
        assert first is not second
        assert present() == {A.channel: group}
        group.unwatch(first)
        group.unwatch(second)
        await until(lambda: not present())
        assert not late().channels

    run(scenario)


@pytest.mark.usefixtures("_present")
def test_who_stops_to_wait_for_a_watch_leaves_nothing_and_takes_no_other_with_it() -> None:
    async def scenario() -> None:
        leaving, staying = watch(A), watch(A)
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        for _ in range(10):
            await asyncio.sleep(0)
        late().acknowledge()
        group, watcher = await staying
        await anext(watcher)
        joining = with_seats(FakeMember(), (A, Seat("anna", "1")))
        await joining
        assert [one.key for one in (await anext(watcher)).joined] == ["anna"]
        group.unwatch(watcher)
        nowhere, options = Group("a", broker="nope").place, A.options
        assert options is not None
        with pytest.raises(ImproperlyConfigured, match="'nope' in WEBSOCKET_BROKERS"):
            await groups.members.local().watch(nowhere, options, A)

    run(scenario)


@pytest.mark.usefixtures("_present")
def test_a_watch_whose_subscription_fails_leaves_nothing() -> None:
    async def scenario() -> None:
        watching = watch(A)
        await asyncio.sleep(0)
        late().fail()
        with pytest.raises(BrokerError, match="is late"):
            await watching
        await until(lambda: not present())
        assert not late().channels

    run(scenario)


@pytest.mark.usefixtures("_present")
def test_a_sweep_returns_once_every_broker_is_told() -> None:
    async def scenario() -> None:
        joining = with_seats(FakeMember(), (A, Seat("anna", "1")), (B, Seat("anna", "1")))
        await asyncio.sleep(0)
        late().acknowledge()
        await joining
        broker, told = late(), []
        track = broker.atrack

        async def atrack(channel: str, *args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            told.append(channel)
            return await track(channel, *args, **kwargs)

        broker.atrack = atrack  # type: ignore[method-assign]
        await groups.members.local().sweep()
        assert sorted(told) == [A.channel, B.channel]

    run(scenario)


def test_a_loop_in_which_nobody_was_has_nothing_to_end() -> None:
    async def scenario() -> None:
        await groups.members.aclose()
        groups.members.local()
        await groups.members.aclose()

    run(scenario)
