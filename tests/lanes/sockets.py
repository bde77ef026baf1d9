"""What the lanes see of a socket, calls that wait, and a database for them."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from contextlib import contextmanager

from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from django_ws_dispatch import lanes
from tests.kit.waiting import DEADLINE

PREFIX = "websocket-lane-"
ALIAS = "lanes"


class Socket:
    """A holder, and what a connection does with it."""

    opened = weakref.WeakSet()

    def __init__(self, *, is_between_reads=True, user=None, client=None, urgent=False):
        self.opened.add(self)
        self.lane = None
        self.lane_ended = self.is_over = False
        self.lane_urgent = urgent
        self.lane_user = user
        self.lane_client = user or client or id(self)
        self.lane_socket = None
        self.path = "/ws/"
        self.is_between_reads = is_between_reads

    def start(self, handler):
        context = contextvars.copy_context()
        context.run(lanes.enter, self)
        return asyncio.get_running_loop().create_task(handler, context=context)

    async def run(self, function, *args):
        """One message: its sync work, then the next read."""
        try:
            return await self.start(sync_to_async(function)(*args))
        finally:
            self.read()

    async def hold(self, function, *args):
        """The same, but the handler does not come back to its read."""
        return await self.start(sync_to_async(function)(*args))

    def read(self):
        if self.lane is not None:
            lanes.release(self)

    def end(self):
        self.lane_ended = True
        self.read()


class Blocked:
    """A call that runs until it is let go."""

    def __init__(self):
        self.running = threading.Event()
        self.gate = threading.Event()

    def __call__(self):
        self.running.set()
        if not self.gate.wait(DEADLINE):
            raise TimeoutError
        return thread_name()


def thread_name():
    return threading.current_thread().name


def lane_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(PREFIX)]


def run(main):
    async def bounded():
        try:
            async with asyncio.timeout(2 * DEADLINE):
                return await main
        finally:
            for socket in list(Socket.opened):
                socket.end()

    return asyncio.run(bounded())


def run_handler(handler):
    async def main():
        return await Socket().start(handler)

    return run(main())


@contextmanager
def extra_database(**options):
    """A database of its own for the lanes: other threads see another one of SQLite's in memory."""
    connections.settings[ALIAS] = connections.configure_settings({"default": options})["default"]
    try:
        yield connections
    finally:
        lanes.shutdown()
        connections[ALIAS].close()
        del connections[ALIAS]
        del connections.settings[ALIAS]


def open_sessions_table(rows):
    with connections[ALIAS].schema_editor() as editor:
        editor.create_model(Session)
    Session.objects.using(ALIAS).bulk_create(
        Session(session_key=f"{number:032}", session_data="", expire_date=timezone.now())
        for number in range(rows)
    )


def lane_connection():
    """Return the connection of the thread that runs this, opened."""
    connection = connections[ALIAS]
    connection.ensure_connection()
    return connection


def execute(sql):
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else None


one_slot = override_settings(WEBSOCKET_SYNC_THREADS=1)


def fails_to_start(monkeypatch, kind, times=1, name=""):
    """Have no thread for the first ``times`` that would be started."""
    start, left = threading.Thread.start, [None] * times

    def try_to_start(thread):
        if isinstance(thread, kind) and thread.name.startswith(name) and left:
            left.pop()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", try_to_start)
    return left
