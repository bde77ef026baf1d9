"""Sockets that do what they like, at random, and what must hold all the same.

For longer, and with another seed: set ``STRESS_SECONDS`` and ``STRESS_SEED``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
import threading
import time
from collections import Counter
from contextlib import suppress

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import Error, connections, transaction
from django.test import override_settings

from django_ws_dispatch import lanes
from django_ws_dispatch.lanes import caretaker, databases, pool
from django_ws_dispatch.lanes.executors import executor
from tests.kit.waiting import DEADLINE, until
from tests.lanes.sockets import ALIAS, Socket, lane_threads

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("STRESS_SECONDS", "1"))
SEED = int(os.environ.get("STRESS_SEED", "8"))

here = threading.local()
ROWS = 40
# What is a while to the lanes is short here, so that all of it happens often.
SHORT = {
    "SHORT_IDLE_SECONDS": 0.02,
    "HOLD_IDLE_SECONDS": 0.1,
    "LINGER_SECONDS": 0.02,
    "CHECK_AFTER_SECONDS": 0.03,
    "STALLED_SECONDS": 0.05,
    "TICK_SECONDS": 0.01,
}


def cursor():
    return connections[ALIAS].cursor()


def execute(sql, params=()):
    with cursor() as one:
        one.execute(sql, params)
        return one.fetchall() if one.description else None


class Crossed(AssertionError):
    """Something of one socket was seen by another."""


class Actor:
    """A socket, what it has left, and what it does next."""

    numbers = iter(range(10_000, 10_000_000))

    def __init__(self, world):
        self.world, self.random = world, world.random
        self.number = next(self.numbers)
        self.name = f"socket{self.number}"
        user = self.random.choice([None, None, 1, 2, 3])
        self.socket = Socket(
            user=user,
            client=self.random.choice(["a", "b", None]),
            urgent=self.random.random() < 0.1,
            is_between_reads=self.random.random() < 0.7,
        )
        self.cursor = self.seen = self.atomic = None

    # What runs in a lane

    def look(self):
        wrapper = connections[ALIAS]
        found = {
            "thread": getattr(here, "name", None),
            "connection": getattr(wrapper, "name", None),
        }
        cache = execute("SELECT cache_size FROM pragma_cache_size")[0][0]
        found["pragma"] = None if cache == self.world.cache_size else f"socket{cache}"
        for (name,) in execute("SELECT name FROM sqlite_temp_master"):
            found[f"table {name}"] = name
        for (name,) in execute("SELECT name FROM rows WHERE name IS NOT NULL"):
            found[f"row {name}"] = name
        if wrapper.in_atomic_block or wrapper.connection.in_transaction:
            found["transaction"] = getattr(wrapper, "of", "somebody")
        others = {what: name for what, name in found.items() if name not in (None, self.name)}
        if others:
            raise Crossed(f"{self.name} finds {others}")

    def on_thread(self):
        here.name = self.name

    def on_connection(self):
        connections[ALIAS].name = self.name

    def pragma(self):
        execute(f"PRAGMA cache_size = {self.number}")

    def script(self):
        wrapper = connections[ALIAS]
        if wrapper.connection and wrapper.connection.in_transaction:
            return  # which a script commits
        with cursor() as one:
            one.executescript(f"PRAGMA cache_size = {self.number}; SELECT 1")

    def table(self):
        execute(f"CREATE TEMP TABLE IF NOT EXISTS {self.name} (x)")

    def begin(self):
        wrapper = connections[ALIAS]
        if not wrapper.connection or not wrapper.connection.in_transaction:
            wrapper.of = self.name
            execute(self.random.choice(["BEGIN", "SAVEPOINT a"]))
            self.insert()

    def enter(self):
        wrapper = connections[ALIAS]
        if not wrapper.in_atomic_block:
            wrapper.of = self.name
            transaction.atomic(using=ALIAS).__enter__()
            self.insert()

    def autocommit(self):
        wrapper = connections[ALIAS]
        if not wrapper.in_atomic_block:
            wrapper.of = self.name
            wrapper.set_autocommit(False)
            self.insert()

    def insert(self):
        with suppress(Error):  # locked: somebody else writes
            execute("INSERT INTO rows (name) VALUES (%s)", [self.name])

    def open(self):
        self.cursor, self.seen = cursor(), 0
        self.cursor.execute("SELECT n FROM numbers ORDER BY n")

    def fetch(self):
        if self.cursor is None:
            return
        try:
            found = [n for (n,) in self.cursor.fetchmany(7)]
        except Exception as exc:  # somebody else's mess was cleared away below it
            self.world.counts[f"cursor: {exc}"[:40]] += 1
            self.cursor = None
            return
        if found != list(range(self.seen, min(ROWS, self.seen + 7))):
            raise Crossed(f"{self.name} reads {found} behind {self.seen}")
        self.seen += len(found)
        if not found:
            self.cursor = None

    def block(self):
        with transaction.atomic(using=ALIAS):
            execute("SELECT count(*) FROM numbers")

    def close(self):
        with suppress(Error):
            connections[ALIAS].close()

    def fail(self):
        raise LookupError(self.name)

    def wait(self):
        time.sleep(self.random.random() * 0.01)

    def nested(self):
        async def inner():
            return await sync_to_async(threading.current_thread)()

        if async_to_sync(inner)() is not threading.current_thread():
            raise Crossed("another thread below")

    STEPS = (
        *("look",) * 6,
        *("wait", "on_thread", "open", "fetch", "fetch", "fetch", "block", "nested", "fail"),
        *("on_connection", "pragma", "script", "table", "begin", "enter", "autocommit", "close"),
    )

    # What the socket does

    async def call(self):
        number, step = next(self.world.calls), getattr(self, self.random.choice(self.world.steps))

        def work():
            self.world.begins(number)
            try:
                step()
            except (Error, sqlite3.Error, LookupError):
                pass
            finally:
                self.world.ends(number)
            return number

        task = self.socket.start(sync_to_async(work)())
        cancelled = self.random.random() < 0.05
        if cancelled:
            await asyncio.sleep(self.random.random() * 0.005)
            cancelled = task.cancel()
        try:
            async with asyncio.timeout(DEADLINE):
                found = await asyncio.shield(task) if not cancelled else await task
        except asyncio.CancelledError:
            if not cancelled:
                raise
            return
        except TimeoutError:
            raise Crossed(f"a call of {self.name} hangs") from None
        if found != number or self.world.runs[number] != 1:
            raise Crossed(f"a call ran {self.world.runs[number]} times")

    async def live(self):
        try:
            for _ in range(self.random.randrange(1, 6)):
                for _ in range(self.random.randrange(1, 5)):
                    calls = self.random.choice([1, 1, 1, 3])
                    await asyncio.gather(*(self.call() for _ in range(calls)))
                    if self.random.random() < 0.2:
                        await asyncio.sleep(self.random.random() * 0.15)
                self.socket.read()
                if self.random.random() < 0.3:
                    await asyncio.sleep(self.random.random() * 0.05)
            self.socket.is_over = self.random.random() < 0.5
            if self.random.random() < 0.2:  # it leaves a call behind
                self.socket.start(sync_to_async(self.wait)())
                await asyncio.sleep(0)
        finally:
            self.socket.end()

    async def shake_hands(self):
        async def inside():
            with lanes.private_lane():
                await sync_to_async(self.look)()
                await sync_to_async(self.on_thread)()
                with suppress(Error):
                    await sync_to_async(self.pragma)()
                    await sync_to_async(self.begin)()

        await self.socket.start(inside())


class World:
    def __init__(self, seed, threads, *, changes):
        self.random = random.Random(seed)
        self.threads, self.changes = threads, changes
        self.calls = iter(range(10_000_000))
        self.counts, self.runs, self.running = Counter(), Counter(), set()
        self.most = 0
        self.lock = threading.Lock()
        self.cache_size = execute("SELECT cache_size FROM pragma_cache_size")[0][0]
        self.steps = Actor.STEPS

    def begins(self, number):
        with self.lock:
            self.runs[number] += 1
            self.running.add(number)
            self.most = max(self.most, len(self.running))

    def ends(self, number):
        with self.lock:
            self.running.discard(number)

    async def people(self, until_when):
        while time.monotonic() < until_when:
            actor = Actor(self)
            if self.random.random() < 0.1:
                await actor.shake_hands()
            await actor.live()
            self.counts["sockets"] += 1

    async def change(self, until_when):
        while self.changes and time.monotonic() < until_when:
            await asyncio.sleep(self.random.random() * 0.3)
            executor.retire()
            self.counts["changes"] += 1

    async def run(self, seconds, crowd):
        until_when = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self.change(until_when))
            for _ in range(crowd):
                group.create_task(self.people(until_when))
        used = executor.pools.get(False)
        await until(lambda: not lane_threads())
        if used is not None:
            await until(lambda: used.caretaker is None)
            assert not used.lanes
            assert not used.idle
            assert not used._lingering
            assert all(slot.is_free_for(None) for slot in [*used.slots, used.extra])
            assert not any(slot.wanted for slot in used.slots)
        if not self.changes:
            assert self.most <= self.threads + 1


def patch(monkeypatch):
    for name, value in SHORT.items():
        monkeypatch.setattr(caretaker, name, value)
    monkeypatch.setattr(pool, "IDLE_THREADS", 3)
    monkeypatch.setattr(databases, "RESTED", 0.02)


def live_through(seed, threads, seconds, *, crowd, changes):
    connections[ALIAS].settings_dict["OPTIONS"] = {"timeout": 0.02}
    execute("PRAGMA journal_mode = WAL")
    execute("CREATE TABLE IF NOT EXISTS rows (name)")
    execute("CREATE TABLE IF NOT EXISTS numbers (n)")
    if execute("SELECT count(*) FROM numbers") == [(0,)]:
        with cursor() as one:
            one.executemany("INSERT INTO numbers VALUES (%s)", [(n,) for n in range(ROWS)])
    connections[ALIAS].close()
    with override_settings(WEBSOCKET_SYNC_THREADS=threads):
        world = World(seed, threads, changes=changes)
        connections[ALIAS].close()
        asyncio.run(world.run(seconds, crowd))
    return world


@pytest.mark.parametrize("changes", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_nothing_crosses_whatever_sockets_do(
    database,
    monkeypatch,
    caplog,
    threads,
    changes,
):
    patch(monkeypatch)
    world = live_through(SEED + threads, threads, SECONDS, crowd=4 + SEED % 24, changes=changes)
    assert world.counts["sockets"]
    # asyncio reports what becomes of a call whose caller was cancelled: that is asgiref's.
    ours = [record for record in caplog.records if record.name.startswith("django_ws_dispatch")]
    assert [record for record in ours if record.levelno >= logging.ERROR] == []
