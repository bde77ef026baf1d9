"""Commands: from any thread on sync connections, in an event loop on async ones.

Both keep a few idle connections. One that was idle may turn out to be broken, because the server
was restarted; then a fresh one gets a try, within the same time-out. One that is silent takes all
of that time; the others are given up with it, so that the next command gets a fresh one.

Whatever a connection raises is a ``BrokerError``, since a server that does not speak RESP can have
redis-py raise anything; but for a command that can not be sent, which is the caller's mistake.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from typing import Any, NamedTuple

from redis.asyncio.connection import Connection as AsyncConnection
from redis.exceptions import DataError, InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

from ...exceptions import BrokerError
from ..base import BaseBroker
from .nodes import Node, SyncConnection

__all__ = ["AsyncCalls", "Calls", "Command"]

# Connections kept idle by the threads of a process, and used at once by one event loop.
MAX_IDLE = 16
MAX_CONNECTIONS = 8


class Command(NamedTuple):
    """What is asked of a server."""

    name: str
    answer: type
    """what it answers; anything else is garbage"""
    did_not: str
    """what it did not do where it failed: the middle of a ``BrokerError``"""

    def check(self, answer: Any) -> Any:
        """Return the answer of a server if it can be one."""
        if not isinstance(answer, self.answer):
            raise InvalidResponse(
                f"the answer to {self.name} is {type(answer).__name__} and not "
                f"{self.answer.__name__}"
            )
        return answer

    def error(self, broker: BaseBroker, node: Node, exc: Exception) -> BrokerError:
        """Return what the caller gets where it failed."""
        return BrokerError(
            f"The broker {broker.alias!r} ({node.name}) did not {self.did_not} "
            f"within {broker.timeout:g} s: {node.why(exc)}."
        )


class Calls:
    """Runs commands on one server from sync code, in any thread."""

    def __init__(self, node: Node, broker: BaseBroker) -> None:
        self._node = node
        self._broker = broker
        self._idle: deque[SyncConnection] = deque()  # append and pop are atomic
        self._pid = os.getpid()

    def call(self, command: Command, *args: bytes) -> Any:
        """Return the server's answer, within the broker's time-out.

        Raises:
            BrokerError: there was none.
        """
        if self._pid != os.getpid():
            # The parent's connections: closing our copies leaves its own alone.
            self._pid = os.getpid()
            self._idle = deque()
        deadline = time.monotonic() + self._broker.timeout
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                pass
            else:
                try:
                    return self._call(connection, command, args, deadline)
                except RedisTimeoutError:
                    raise
                except Exception:
                    self.close()  # The others are as old.
            # Half of the time for each step of connecting, which has more than one.
            connection = self._node.connect((deadline - time.monotonic()) / 2)
            return self._call(connection, command, args, deadline)
        except DataError:
            raise
        except Exception as exc:
            self.close()
            raise command.error(self._broker, self._node, exc) from exc

    def _call(
        self, connection: SyncConnection, command: Command, args: tuple[bytes, ...], deadline: float
    ) -> Any:
        try:
            connection.send_command(command.name, *args)
            if not connection.can_read(max(deadline - time.monotonic(), 0)):
                raise RedisTimeoutError("no answer")
            answer = command.check(connection.read_response())
        except BaseException:
            connection.disconnect()
            raise
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.disconnect()
        return answer

    def close(self) -> None:
        """Close the connections that are idle."""
        while True:
            try:
                self._idle.pop().disconnect()
            except IndexError:
                return


class AsyncCalls:
    """Runs commands on one server in one event loop."""

    def __init__(self, node: Node, broker: BaseBroker) -> None:
        self._node = node
        self._broker = broker
        self._idle: list[AsyncConnection] = []
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._owner: asyncio.Task[None] | None = None
        self._closed = False

    async def call(self, command: Command, *args: bytes) -> Any:
        """Return the server's answer, within the broker's time-out.

        Raises:
            BrokerError: there was none.
        """
        try:
            async with asyncio.timeout(self._broker.timeout), self._slots:
                if self._idle:
                    try:
                        return await self._call(self._idle.pop(), command, args)
                    except Exception:
                        await self._close_idle()  # The others are as old.
                return await self._call(await self._node.aconnect(), command, args)
        except DataError:
            raise
        except Exception as exc:
            await self._close_idle()
            raise command.error(self._broker, self._node, exc) from exc

    async def _call(
        self, connection: AsyncConnection, command: Command, args: tuple[bytes, ...]
    ) -> Any:
        try:
            await connection.send_command(command.name, *args)
            answer = command.check(await connection.read_response())
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if self._closed:
            await connection.disconnect(nowait=True)
            return answer
        self._idle.append(connection)
        if self._owner is None:
            self._owner = asyncio.get_running_loop().create_task(
                self._own(), name=f"django-ws-dispatch calls of {self._broker.alias}"
            )
        return answer

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
