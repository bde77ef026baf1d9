"""PUBLISH: from any thread on sync connections, in an event loop on async ones.

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
from contextlib import suppress

from redis.asyncio.connection import Connection as AsyncConnection
from redis.exceptions import DataError, InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

from ...exceptions import BrokerError
from ..base import BaseBroker
from .nodes import Node, SyncConnection

__all__ = ["AsyncCalls", "Calls"]

# Connections kept idle by the threads of a process, and used at once by one event loop.
MAX_IDLE = 16
MAX_CONNECTIONS = 8


class Calls:
    """Publishes on one server from sync code, in any thread."""

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
                    return self._publish(connection, name, message, deadline)
                except RedisTimeoutError:
                    raise
                except Exception:
                    self.close()  # The others are as old.
            # Half of the time for each step of connecting, which has more than one.
            connection = self._node.connect((deadline - time.monotonic()) / 2)
            self._publish(connection, name, message, deadline)
        except DataError:
            raise
        except Exception as exc:
            self.close()
            raise _error(self._broker, self._node, exc) from exc

    def _publish(
        self, connection: SyncConnection, name: bytes, message: bytes, deadline: float
    ) -> None:
        try:
            connection.send_command("PUBLISH", name, message)
            if not connection.can_read(max(deadline - time.monotonic(), 0)):
                raise RedisTimeoutError("no answer")
            _check(connection.read_response())
        except BaseException:
            connection.disconnect()
            raise
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.disconnect()

    def close(self) -> None:
        """Close the connections that are idle."""
        with suppress(IndexError):
            while True:
                self._idle.pop().disconnect()


class AsyncCalls:
    """Publishes on one server in one event loop."""

    def __init__(self, node: Node, broker: BaseBroker) -> None:
        self._node = node
        self._broker = broker
        self._idle: list[AsyncConnection] = []
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._owner: asyncio.Task[None] | None = None
        self._closed = False

    async def publish(self, name: bytes, message: bytes) -> None:
        """See ``Calls.publish()``."""
        try:
            async with asyncio.timeout(self._broker.timeout), self._slots:
                if self._idle:
                    try:
                        return await self._publish(self._idle.pop(), name, message)
                    except Exception:
                        await self._close_idle()  # The others are as old.
                await self._publish(await self._node.aconnect(), name, message)
        except DataError:
            raise
        except Exception as exc:
            await self._close_idle()
            raise _error(self._broker, self._node, exc) from exc

    async def _publish(self, connection: AsyncConnection, name: bytes, message: bytes) -> None:
        try:
            await connection.send_command("PUBLISH", name, message)
            _check(await connection.read_response())
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if self._closed:
            await connection.disconnect(nowait=True)
            return
        self._idle.append(connection)
        if self._owner is None:
            self._owner = asyncio.get_running_loop().create_task(
                self._own(), name=f"django-ws-dispatch calls of {self._broker.alias}"
            )

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
    if not isinstance(answer, int):
        raise InvalidResponse(f"the answer to PUBLISH is {type(answer).__name__} and not int")


def _error(broker: BaseBroker, node: Node, exc: Exception) -> BrokerError:
    return BrokerError(
        f"The broker {broker.alias!r} ({node.name}) did not take a message "
        f"within {broker.timeout:g} s: {node.why(exc)}."
    )
