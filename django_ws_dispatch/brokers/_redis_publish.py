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

from redis.asyncio.connection import Connection as AsyncConnection
from redis.exceptions import DataError, InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..exceptions import BrokerError
from ._redis_nodes import Node, SyncConnection
from .base import BaseBroker

__all__ = ["AsyncPublisher", "Publisher"]

# Connections kept idle by the threads of a process, and used at once by one event loop.
MAX_IDLE = 16
MAX_CONNECTIONS = 8


def _broker_error(broker: BaseBroker, node: Node, exc: Exception) -> BrokerError:
    return BrokerError(
        f"The broker {broker.alias!r} ({node.name}) did not take a message "
        f"within {broker.timeout:g} s: {node.why(exc)}."
    )


def _check_answer(answer: object) -> None:
    if not isinstance(answer, int):
        raise InvalidResponse(f"the answer to PUBLISH is {type(answer).__name__} and not a number")


class Publisher:
    """Publishes from sync code, in any thread."""

    def __init__(self, node: Node, broker: BaseBroker) -> None:
        self.node = node
        self._broker = broker
        self._idle: deque[SyncConnection] = deque()  # append and pop are atomic
        self._pid = os.getpid()

    def publish(self, channel: bytes, message: bytes) -> None:
        """Publish within the broker's time-out.

        Raises:
            BrokerError: the server did not take it.
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
                    self._publish(connection, channel, message, deadline)
                except RedisTimeoutError:
                    raise
                except Exception:
                    self.close()  # The others are as old.
                else:
                    return
            # Half of the time for each step of connecting, which has more than one.
            connection = self.node.connect((deadline - time.monotonic()) / 2)
            self._publish(connection, channel, message, deadline)
        except DataError:
            raise
        except Exception as exc:
            self.close()
            raise _broker_error(self._broker, self.node, exc) from exc

    def _publish(
        self, connection: SyncConnection, channel: bytes, message: bytes, deadline: float
    ) -> None:
        try:
            connection.send_command("PUBLISH", channel, message)
            if not connection.can_read(max(deadline - time.monotonic(), 0)):
                raise RedisTimeoutError("no answer")
            _check_answer(connection.read_response())
        except BaseException:
            connection.disconnect()
            raise
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.disconnect()

    def close(self) -> None:
        """Close the connections that are idle."""
        while True:
            try:
                self._idle.pop().disconnect()
            except IndexError:
                return


class AsyncPublisher:
    """Publishes in one event loop."""

    def __init__(self, node: Node, broker: BaseBroker) -> None:
        self._node = node
        self._broker = broker
        self._idle: list[AsyncConnection] = []
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._owner: asyncio.Task[None] | None = None
        self._closed = False

    async def publish(self, channel: bytes, message: bytes) -> None:
        """Publish within the broker's time-out.

        Raises:
            BrokerError: the server did not take it.
        """
        try:
            async with asyncio.timeout(self._broker.timeout), self._slots:
                if self._idle:
                    try:
                        await self._publish(self._idle.pop(), channel, message)
                    except Exception:
                        await self._close_idle()  # The others are as old.
                    else:
                        return
                await self._publish(await self._node.aconnect(), channel, message)
        except DataError:
            raise
        except Exception as exc:
            await self._close_idle()
            raise _broker_error(self._broker, self._node, exc) from exc

    async def _publish(self, connection: AsyncConnection, channel: bytes, message: bytes) -> None:
        try:
            await connection.send_command("PUBLISH", channel, message)
            _check_answer(await connection.read_response())
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if self._closed:
            await connection.disconnect(nowait=True)
            return
        self._idle.append(connection)
        if self._owner is None:
            self._owner = asyncio.get_running_loop().create_task(
                self._own(), name=f"django-ws-dispatch publishers of {self._broker.alias}"
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
