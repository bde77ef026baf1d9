"""SUBSCRIBE: the one connection of an event loop that messages of a server come in on."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from redis.asyncio.connection import Connection as AsyncConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from ..base import BaseBroker, Receiver
from ..supervised import Connection, SupervisedSubscriber
from .nodes import ERRORS, Node

__all__ = ["RedisConnection", "RedisSubscriber"]


class RedisSubscriber(SupervisedSubscriber):
    """The subscriptions of one event loop on one server."""

    expected = ERRORS

    def __init__(self, node: Node, broker: BaseBroker, receiver: Receiver) -> None:
        super().__init__(broker, receiver, node.name)
        self._node = node

    async def connect(self) -> Connection:
        return RedisConnection(await self._node.aconnect())

    def why(self, exc: Exception) -> str:
        return self._node.why(exc)


class RedisConnection:
    """A connection of redis-py as a ``supervised.Connection``."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        writer = getattr(connection, "_writer", None)  # private, and not in every redis-py perhaps
        self._abort = getattr(getattr(writer, "transport", None), "abort", None)

    async def subscribe(self, names: Sequence[bytes]) -> None:
        await self._send("SUBSCRIBE", *names)

    async def unsubscribe(self, names: Sequence[bytes]) -> None:
        await self._send("UNSUBSCRIBE", *names)

    async def ping(self) -> None:
        await self._send("PING")

    async def _send(self, *command: str | bytes) -> None:
        if not self._connection.is_connected:
            # redis-py would connect again, and the subscriptions would be gone.
            raise RedisConnectionError("Connection closed by server.")
        await self._connection.send_command(*command)

    def read(self) -> Awaitable[object]:
        return self._connection.read_response(disable_decoding=True)

    async def close(self) -> None:
        # Where the server has not taken all, redis-py leaves it waiting for that without end.
        if self._abort is not None:
            self._abort()
        await self._connection.disconnect(nowait=True)
