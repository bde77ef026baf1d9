"""The ledger of who is here, without a broker: what it takes, and what it finds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from django_ws_dispatch.brokers.presence import Changes, Here
from tests.soak.ledger import Ledger
from tests.soak.rolls import Rolls

ROOM = "here-0"


@pytest.fixture
def rolls() -> Rolls:
    rolls = Rolls(Ledger(), "redis://127.0.0.1:1/0")
    rolls.ask(ROOM, "ann")
    return rolls


def change(
    rolls: Rolls, number: int, *, left: Sequence[str] = (), came: Sequence[str] = (), total: int = 1
) -> list[str]:
    """Have a change be told; return what is violated."""
    here = [Here(key, 1, 0, "null") for key in came]
    rolls.apply(ROOM, Changes(f"1.{number - 1}", f"1.{number}", total, [*left], here))
    return rolls._ledger.violations


def test_who_came_and_left_is_gone(rolls: Rolls) -> None:
    change(rolls, 1, came=["ann"])
    assert not change(rolls, 2, left=["ann"], total=0)
    assert rolls.here[ROOM] == {}
    assert (rolls.joined, rolls.left) == (1, 1)


def test_a_leaving_that_is_told_twice_is_found(rolls: Rolls) -> None:
    change(rolls, 1, came=["ann"])
    change(rolls, 2, left=["ann"], total=0)
    assert "ann left at 1.3, and was not here" in change(rolls, 3, left=["ann"], total=0)[0]


def test_a_change_that_two_processes_tell_is_found(rolls: Rolls) -> None:
    change(rolls, 1, came=["ann"])
    assert "a change of 1.0 after 1.1" in change(rolls, 1, came=["ann"])[0]


def test_a_change_that_is_left_out_is_found(rolls: Rolls) -> None:
    change(rolls, 1, came=["ann"])
    assert "a change of 1.2 after 1.1" in change(rolls, 3, came=["ann"])[0]


def test_who_is_told_to_have_left_and_comes_without_asking_is_found(rolls: Rolls) -> None:
    change(rolls, 1, came=["ann"])
    change(rolls, 2, left=["ann"], total=0)
    assert "ann came at 1.3, and did not ask to" in change(rolls, 3, came=["ann"])[0]


def test_a_wrong_number_is_found(rolls: Rolls) -> None:
    assert "2 are here" in change(rolls, 1, came=["ann"], total=2)[0]


def test_who_never_leaves_is_found(rolls: Rolls) -> None:
    change(rolls, 1, came=["ann"])

    async def fence() -> None:
        """Nothing was published."""

    rolls.fence = fence  # type: ignore[method-assign]
    asyncio.run(rolls.stop())
    assert "never left" in rolls._ledger.violations[0]
