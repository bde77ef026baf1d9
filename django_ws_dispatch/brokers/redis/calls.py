"""Commands: from any thread on sync connections, in an event loop on async ones.

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
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from hashlib import sha1
from typing import Any, NamedTuple

from redis.asyncio.connection import Connection as AsyncConnection
from redis.exceptions import (
    AskError,
    ClusterDownError,
    DataError,
    InvalidResponse,
    NoScriptError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from ...exceptions import BrokerError
from ..base import BaseBroker
from ..slots import Slots
from .nodes import Node, SyncConnection

__all__ = ["AsyncCalls", "Call", "Calls", "Script", "broker_error", "publish"]

# Connections kept idle by the threads of a process, and used at once by one event loop.
MAX_IDLE = 16
MAX_CONNECTIONS = 8

# What a node of a cluster says where it can not do it now, or not at all: no connection is broken.
REFUSALS = (AskError, ClusterDownError, TryAgainError)


class Script:
    """A Lua script, which stands where a command has its name: sent by its hash, if need be whole.

    Args:
        text: its source.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        # That is how Redis names a script.
        self.hash = sha1(text.encode(), usedforsecurity=False).hexdigest()

    @cached_property
    def sharded(self) -> Script:
        """The same for a cluster: it publishes to the shard that has the slot."""
        return Script(self.text.replace("'PUBLISH'", "'SPUBLISH'"))


class Call(NamedTuple):
    """What is sent at once, on one connection."""

    commands: Sequence[tuple[Any, ...]]
    """one script, or any commands that are none"""
    decode: Callable[[list[Any]], Any]
    """makes of the answers what ``call()`` returns, or raises"""
    again: Sequence[tuple[Any, ...]] | None = None
    """sent instead of the commands after a connection that was idle was found broken"""
    purpose: str = "answer"
    """what the server did not do, for an error"""


class Calls:
    """Calls one server from sync code, in any thread."""

    def __init__(self, node: Node, broker: BaseBroker) -> None:
        self._node = node
        self._broker = broker
        self._idle: deque[SyncConnection] = deque()  # append and pop are atomic
        self._pid = os.getpid()

    def publish(self, name: bytes, message: bytes) -> None:
        """Publish; see ``call()``."""
        self.call(publish(name, message))

    def call(self, call: Call) -> Any:
        """Return once the server has answered, within the broker's time-out.

        Raises:
            BrokerError: it has not.
        """
        try:
            return self.attempt(call, time.monotonic() + self._broker.timeout)
        except DataError:
            raise
        except Exception as exc:
            raise broker_error(self._broker, self._node, call, exc) from exc

    def attempt(self, call: Call, deadline: float) -> Any:
        """Do the same until a time of ``time.monotonic()``, and raise whatever goes wrong."""
        if self._pid != os.getpid():
            # The parent's connections: closing our copies leaves its own alone.
            self._pid = os.getpid()
            self._idle = deque()
        commands = call.commands
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                pass
            else:
                try:
                    return self._call(connection, call.commands, call, deadline)
                except (RedisTimeoutError, *REFUSALS):
                    raise
                except Exception as exc:
                    self.close()  # The others are as old.
                    commands = _again(call, exc)
            # Half of the time for each step of connecting, which has more than one.
            connection = self._node.connect((deadline - time.monotonic()) / 2)
            return self._call(connection, commands, call, deadline)
        except (DataError, *REFUSALS):
            raise
        except Exception:
            self.close()
            raise

    def _call(
        self,
        connection: SyncConnection,
        commands: Sequence[tuple[Any, ...]],
        call: Call,
        deadline: float,
    ) -> Any:
        def answer() -> Any:
            if not connection.can_read(max(deadline - time.monotonic(), 0)):
                raise RedisTimeoutError("no answer")
            return connection.read_response()

        try:
            connection.send_packed_command(connection.pack_commands(_wire(commands)))
            try:
                answers = [answer() for _ in commands]
            except NoScriptError:
                connection.send_packed_command(connection.pack_commands(_wire(commands, True)))
                answers = [answer() for _ in commands]
            result = call.decode(answers)
        except BaseException:
            connection.disconnect()
            raise
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.disconnect()
        return result

    def close(self) -> None:
        """Close the connections that are idle."""
        with suppress(IndexError):
            while True:
                self._idle.pop().disconnect()


class AsyncCalls:
    """Calls one server in one event loop."""

    def __init__(self, node: Node, broker: BaseBroker) -> None:
        self._node = node
        self._broker = broker
        self._idle: list[AsyncConnection] = []
        self.slots = Slots(MAX_CONNECTIONS, broker.timeout)
        self._owner: asyncio.Task[None] | None = None
        self._closed = False

    async def publish(self, name: bytes, message: bytes) -> None:
        """Publish; see ``call()``."""
        await self.call(publish(name, message))

    async def call(self, call: Call) -> Any:
        """See ``Calls.call()``."""
        try:
            async with self.slots.hold() as left:
                return await self.attempt(call, left)
        except DataError:
            raise
        except Exception as exc:
            raise broker_error(self._broker, self._node, call, exc) from exc

    async def attempt(self, call: Call, seconds: float) -> Any:
        """Call within so many seconds, in a slot, and raise whatever goes wrong."""
        try:
            async with asyncio.timeout(seconds):
                return await self._call_in_slot(call)
        except (DataError, *REFUSALS):
            raise
        except Exception:
            await self._close_idle()
            raise

    async def _call_in_slot(self, call: Call) -> Any:
        commands = call.commands
        if self._idle:
            try:
                return await self._call(self._idle.pop(), commands, call)
            except REFUSALS:
                raise
            except Exception as exc:
                await self._close_idle()  # The others are as old.
                commands = _again(call, exc)
        return await self._call(await self._node.aconnect(), commands, call)

    async def _call(
        self, connection: AsyncConnection, commands: Sequence[tuple[Any, ...]], call: Call
    ) -> Any:
        try:
            await connection.send_packed_command(connection.pack_commands(_wire(commands)))
            try:
                answers = [await connection.read_response() for _ in commands]
            except NoScriptError:
                whole = connection.pack_commands(_wire(commands, True))
                await connection.send_packed_command(whole)
                answers = [await connection.read_response() for _ in commands]
            result = call.decode(answers)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self.slots.answered()
        if self._closed:
            await connection.disconnect(nowait=True)
            return result
        self._idle.append(connection)
        if self._owner is None:
            self._owner = asyncio.get_running_loop().create_task(
                self._own(), name=f"django-ws-dispatch calls of {self._broker.alias}"
            )
        return result

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


def publish(name: bytes, message: bytes) -> Call:
    """Return the call that publishes a message."""
    return Call([("PUBLISH", name, message)], _check, purpose="take a message")


def _check(answers: list[Any]) -> None:
    if not isinstance(answers[0], int):
        raise InvalidResponse(f"the answer to PUBLISH is {type(answers[0]).__name__} and not int")


def _wire(commands: Sequence[tuple[Any, ...]], whole: bool = False) -> list[tuple[Any, ...]]:
    sent = []
    for command in commands:
        script = command[0]
        if isinstance(script, Script):
            how = ("EVAL", script.text) if whole else ("EVALSHA", script.hash)
            command = (*how, *command[1:])
        sent.append(command)
    return sent


def _again(call: Call, exc: Exception) -> Sequence[tuple[Any, ...]]:
    """Return what to send on a fresh connection: what a server has refused it has not done."""
    if isinstance(exc, ResponseError):
        return call.commands
    return call.again or call.commands


def broker_error(broker: BaseBroker, node: Node, call: Call, exc: Exception) -> BrokerError:
    """Return what a caller gets where a server, or a cluster, has not answered a call."""
    return BrokerError(
        f"The broker {broker.alias!r} ({node.name}) did not {call.purpose} "
        f"within {broker.timeout:g} s: {node.why(exc)}."
    )
