"""What is sent in a transaction is sent if it commits, once, and in one order for all."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from django.db import connections, transaction

from django_ws_dispatch.groups import Group
from tests.kit.server import ROOT
from tests.kit.waiting import DEADLINE, until
from tests.live.test_history import reading

from .database import Database

pytestmark = [pytest.mark.live, pytest.mark.databases, pytest.mark.asyncio]

ROOM, HALL, PLAIN = Group("room:a"), Group("hall:a"), Group("plain")
MANY = 1000
PUBLISHERS = 8
TRANSACTIONS = 50
KILLED = 20


class RolledBackError(Exception):
    pass


@contextmanager
def rolled_back(database: Database) -> Iterator[None]:
    """A transaction, or a savepoint, that comes to nothing."""
    try:
        with transaction.atomic(using=database.alias):
            yield
            raise RolledBackError
    except RolledBackError:
        pass


@pytest.mark.parametrize("group", [ROOM, PLAIN], ids=["kept", "not kept"])
async def test_a_thousand_transactions_that_are_rolled_back_send_nothing(
    here: Database, group: Group
) -> None:
    def roll_back() -> None:
        for number in range(MANY):
            with rolled_back(here):
                assert group.send(str(number)) is None

    async with reading(group) as reader:
        before = await position(group)
        await here.do(roll_back)
        assert await position(group) == before
        await here.do(group.send, str(MANY))
        await until(lambda: reader.got)
        assert reader.got == [MANY]


async def position(group: Group) -> str | None:
    """Where it stands, if it is kept."""
    return await group.aposition() if group.options else None


async def test_of_a_transaction_that_commits_all_is_sent_but_what_a_savepoint_took_back(
    here: Database,
) -> None:
    def send() -> None:
        with transaction.atomic(using=here.alias):
            ROOM.send("0")
            with transaction.atomic(using=here.alias):
                ROOM.send("1")
            with rolled_back(here):
                ROOM.send("99")
            ROOM.send("2")
        assert ROOM.send("3") is not None

    async with reading() as reader:
        await here.do(send)
        await until(lambda: len(reader.got) == 4)
        assert reader.got == [0, 1, 2, 3]
    history = await ROOM.ahistory()
    assert [one.data for one in history.messages] == ["0", "1", "2", "3"]


async def test_what_is_not_committed_yet_is_neither_heard_nor_kept(here: Database) -> None:
    sent, commit = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def send() -> None:
        with transaction.atomic(using=here.alias):
            ROOM.send("1")
            loop.call_soon_threadsafe(sent.set)
            asyncio.run_coroutine_threadsafe(commit.wait(), loop).result(DEADLINE)

    async with reading() as reader:
        sending = asyncio.create_task(here.do(send))
        await sent.wait()
        assert (await ROOM.ahistory()).messages == []
        if here.kind != "sqlite":  # it has one writer
            await ROOM.asend("0")
            await until(lambda: reader.got)
            assert reader.got == [0]
        commit.set()
        await sending
        await until(lambda: reader.got[-1:] == [1])


async def test_async_code_sends_in_a_transaction_of_its_own(here: Database) -> None:
    async with reading() as reader:
        positions = [await ROOM.asend(str(number)) for number in range(10)]
        await until(lambda: len(reader.got) == 10)
        assert reader.got == [*range(10)]
    history = await ROOM.ahistory()
    assert [one.position for one in history.messages] == positions


class Sent(NamedTuple):
    """One transaction that was committed."""

    number: int
    began: float
    """when it began to send"""
    ended: float
    """when its commit was through"""
    mark: int
    """by which the database knows in which order it was committed"""


class Publisher:
    """Sends a number to two groups in a transaction, the first time to the one, then to the other.

    Args:
        number: of the publisher.
        database: that it works on.
    """

    def __init__(self, number: int, database: Database) -> None:
        self.number = number
        self.database = database
        self.sent: list[Sent] = []
        self._random = random.Random(number)

    def publish(self) -> None:
        """Do all of it; every fifth is rolled back."""
        for number in range(TRANSACTIONS):
            time.sleep(self._random.uniform(0, 0.005))
            if self._random.random() < 0.2:
                with rolled_back(self.database):
                    self._send(MANY * self.number + number + 500)
            else:
                self._commit(MANY * self.number + number)

    def _commit(self, number: int) -> None:
        with transaction.atomic(using=self.database.alias):
            began = time.monotonic()
            self._send(number)
            mark = self._mark(number)
        self.sent.append(Sent(number, began, time.monotonic(), mark))

    def _send(self, number: int) -> None:
        for group in self._random.sample([ROOM, HALL], 2):
            group.send(str(number))
            time.sleep(self._random.uniform(0, 0.01))

    def _mark(self, number: int) -> int:
        with connections[self.database.alias].cursor() as cursor:
            if self.database.kind == "sqlite":
                cursor.execute("INSERT INTO commits (number) VALUES (%s)", [number])
                return int(cursor.lastrowid)
            if self.database.kind == "mariadb":
                return 0
            cursor.execute("SELECT pg_current_xact_id()::text")
            return int(cursor.fetchone()[0])


async def test_what_eight_publishers_commit_at_once_comes_once_and_in_an_order(
    here: Database,
) -> None:
    publishers = [Publisher(number, here) for number in range(PUBLISHERS)]

    def prepare() -> None:
        with connections[here.alias].cursor() as cursor:
            key = "INTEGER PRIMARY KEY AUTOINCREMENT"
            cursor.execute(f"CREATE TABLE commits (id {key}, number INTEGER)")

    if here.kind == "sqlite":
        await here.do(prepare)
    async with reading() as room, reading(HALL) as hall, reading() as other:
        await asyncio.gather(*(here.do(one.publish) for one in publishers))
        sent = {one.number: one for publisher in publishers for one in publisher.sent}
        readers = (room, hall, other)
        await until(lambda: all(len(one.got) >= len(sent) for one in readers))
        await ROOM.asend("-1")
        await HALL.asend("-1")
        await until(lambda: all(one.got[-1] == -1 for one in readers))
    for reader in readers:
        assert reader.told is None
        # None passed over, none twice, none that was rolled back.
        assert sorted(reader.got[:-1]) == sorted(sent)
        check_order(here, [sent[number] for number in reader.got[:-1]])
    # It is the same for everybody.
    assert room.got == other.got
    assert [int(one.data) for one in (await ROOM.ahistory()).messages] == room.got


def check_order(database: Database, order: list[Sent]) -> None:
    """What was committed before another began to send is before it; or all as it was committed."""
    soonest = float("inf")
    for one in reversed(order):
        assert one.began <= soonest, f"{one} comes before what was committed before it"
        soonest = min(soonest, one.ended)
    marks = [one.mark for one in order]
    if database.server is not None and database.kind != "mariadb":
        asking = "SELECT pg_xact_commit_timestamp(%s::text::xid)"
        marks = [database.server.ask(asking, str(mark))[0][0] for mark in marks]
    assert marks == sorted(marks)


async def test_what_was_committed_by_who_is_killed_at_once_is_sent(here: Database) -> None:
    command = [sys.executable, "-m", "tests.databases.dying", str(KILLED)]
    environment = {**os.environ, **here.environment}
    async with reading() as reader:
        await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env=environment, check=True, timeout=DEADLINE
        )
        await until(lambda: len(reader.got) == KILLED)
        assert reader.got == [*range(KILLED)]
