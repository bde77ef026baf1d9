"""PUBLISH and other commands: in any thread on sync connections, in an event loop on async ones.

Both keep a few idle connections. One that was idle may turn out to be broken, because the server
was restarted; then a fresh one gets a try, within the same time-out. One that is silent takes all
of that time; the others are given up with it, so that the next message gets a fresh one.

Whatever a connection raises is a ``BrokerError``, since a server that does not speak RESP can have
redis-py raise anything; but for a message that can not be sent, which is the caller's mistake.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import Connection as AsyncConnection
from redis.exceptions import DataError, InvalidResponse, NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ...exceptions import BrokerError
from ..base import BaseBroker
from .history import Command, Script
from .nodes import Node, SyncConnection

__all__ = ["AsyncCalls", "Calls"]

# Connections kept idle by the threads of a process, and used at once by one event loop.
MAX_IDLE = 16
MAX_CONNECTIONS = 8


class Calls:
    """Commands of one server from sync code, in any thread."""

    def __init__(self, node: Node, broker: BaseBroker) -> None:
        self._node = node
        self._broker = broker
        self._idle: deque[SyncConnection] = deque()  # append and pop are atomic
        self._pid = os.getpid()

    def publish(self, name: bytes, message: bytes) -> None:
        """Return once the server has answered, within the broker's time-out.

        Raises:
            BrokerError: it has not.
        """
        _check(*self.call([("PUBLISH", name, message)]))

    def call(self, commands: Sequence[Command], again: Sequence[Command] = ()) -> list[Any]:
        """Return the answers to commands that are sent at once.

        Args:
            commands: of one round trip, or a script alone.
            again: what to send instead where it is not known whether they were carried out.

        Raises:
            BrokerError: they did not come within the broker's time-out, or one is an error.
        """
        if self._pid != os.getpid():
            # The parent's connections: closing our copies leaves its own alone.
            self._pid = os.getpid()
            self._idle = deque()
        deadline = time.monotonic() + self._broker.timeout
        first = True
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                pass
            else:
                try:
                    return self._call(connection, commands, deadline)
                except RedisTimeoutError:
                    raise
                except Exception:
                    first = False
                    self.close()  # The others are as old.
            # Half of the time for each step of connecting, which has more than one.
            connection = self._node.connect((deadline - time.monotonic()) / 2)
            return self._call(connection, commands if first else again or commands, deadline)
        except DataError:
            raise
        except Exception as exc:
            self.close()
            raise _error(self._broker, self._node, exc) from exc

    def _call(
        self, connection: SyncConnection, commands: Sequence[Command], deadline: float
    ) -> list[Any]:
        try:
            try:
                answers = self._answers(connection, commands, deadline)
            except NoScriptError:
                answers = self._answers(connection, [Script.sent(*commands)], deadline)
        except BaseException:
            connection.disconnect()
            raise
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.disconnect()
        return answers

    @staticmethod
    def _answers(
        connection: SyncConnection, commands: Sequence[Command], deadline: float
    ) -> list[Any]:
        for command in commands:
            connection.send_command(*command)
        answers = []
        for _ in commands:
            if not connection.can_read(max(deadline - time.monotonic(), 0)):
                raise RedisTimeoutError("no answer")
            answers.append(connection.read_response())
        return answers

    def close(self) -> None:
        """Close the connections that are idle."""
        with suppress(IndexError):
            while True:
                self._idle.pop().disconnect()


class AsyncCalls:
    """Commands of one server in one event loop."""

    def __init__(self, node: Node, broker: BaseBroker) -> None:
        self._node = node
        self._broker = broker
        self._idle: list[AsyncConnection] = []
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._owner: asyncio.Task[None] | None = None
        self._closed = False

    async def publish(self, name: bytes, message: bytes) -> None:
        """See ``Calls.publish()``."""
        _check(*await self.call([("PUBLISH", name, message)]))

    async def call(self, commands: Sequence[Command], again: Sequence[Command] = ()) -> list[Any]:
        """See ``Calls.call()``."""
        try:
            async with asyncio.timeout(self._broker.timeout), self._slots:
                first = True
                if self._idle:
                    try:
                        return await self._call(self._idle.pop(), commands)
                    except Exception:
                        first = False
                        await self._close_idle()  # The others are as old.
                connection = await self._node.aconnect()
                return await self._call(connection, commands if first else again or commands)
        except DataError:
            raise
        except Exception as exc:
            await self._close_idle()
            raise _error(self._broker, self._node, exc) from exc

    async def _call(self, connection: AsyncConnection, commands: Sequence[Command]) -> list[Any]:
        try:
            try:
                answers = await self._answers(connection, commands)
            except NoScriptError:
                answers = await self._answers(connection, [Script.sent(*commands)])
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if self._closed:
            await connection.disconnect(nowait=True)
            return answers
        self._idle.append(connection)
        if self._owner is None:
            self._owner = asyncio.get_running_loop().create_task(
                self._own(), name=f"django-ws-dispatch calls of {self._broker.alias}"
            )

        return answers

    @staticmethod
    async def _answers(connection: AsyncConnection, commands: Sequence[Command]) -> list[Any]:
        for command in commands:
            await connection.send_command(*command)
        return [await connection.read_response() for _ in commands]

    async def _own(self) -> None:
        """Close the idle connections when this loop ends and cancels its tasks."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._closed = True
            await self._close_idle()

    async def _close_idle(self) -> None:
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    async def aclose(self) -> None:
        """Close the connections, those in use when they are done."""
        self._closed = True
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.wait([self._owner])
        await self._close_idle()


def _check(answer: object) -> None:
    """Raise unless it is what PUBLISH is answered with."""
    if not isinstance(answer, int):
        raise InvalidResponse(f"the answer to PUBLISH is {type(answer).__name__} and not int")


def _error(broker: BaseBroker, node: Node, exc: Exception) -> BrokerError:
    return BrokerError(
        f"The broker {broker.alias!r} ({node.name}) did not take a message "
        f"within {broker.timeout:g} s: {node.why(exc)}."
    )
