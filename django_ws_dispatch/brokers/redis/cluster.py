"""A Redis Cluster: which of its nodes has which slot, and how it is spoken to.

The names of a channel and of its keys have one hash tag, and so one slot. What is asked of a node
that has it no more is refused, and who refuses knows better: it is asked for all slots, and then
the one that has it is asked. A message is published to the shard that has its slot
(``SPUBLISH``), also by scripts.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeAlias

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    DataError,
    InvalidResponse,
    MovedError,
    ResponseError,
    TryAgainError,
)

from ...loops import back_off
from .calls import Call, Script
from .nodes import Location, Node

__all__ = ["Ask", "Cluster", "Pause", "Refresh", "Steps"]

# Seconds between two attempts, at first and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.2
# Commands sent at once.
BATCH = 200
# What a script gets whose slot begins to leave while it runs.
LEAVING = "non local key"


class Ask(NamedTuple):
    """Ask a node, and answer with what the call returns."""

    node: Node
    call: Call


class Refresh(NamedTuple):
    """Learn anew which node has which slot."""

    first: Node | None
    """knows it, since it refused"""
    last: Node | None
    """is lost, as it seems"""


class Pause(NamedTuple):
    """Wait, or raise the problem where there is no time left."""

    seconds: float
    problem: Exception


Steps: TypeAlias = Generator[Ask | Refresh | Pause, Any, Any]
"""What is to be done to call a cluster: sync and async code do it, and throw what it raises."""


class Cluster(Node):
    """The nodes of a cluster. As a node it is the one of ``LOCATION``, which is asked at first.

    Threads and event loops share it: what it knows is replaced as a whole.

    Args:
        location: any node.
        extra: further arguments of redis-py's connections to all of them.

    Raises:
        ValueError: redis-py does not take the arguments.
    """

    in_cluster = True

    def __init__(self, location: Location, extra: dict[str, Any]) -> None:
        super().__init__(location, extra)
        arguments = {**location.arguments, **extra}
        self._address = arguments.get("host", "localhost"), arguments.get("port", 6379)
        self._scheme = "rediss" if location.has_tls else "redis"
        self._known: dict[tuple[str, int], Node] = {}
        self._current: Sequence[Node] = ()  # primaries and replicas
        self._addresses: dict[Node, tuple[str, int]] = {self: self._address}
        self._owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._answered: Node | None = None
        self.version = 0
        """counts how often the slots have changed"""
        self.stale = True
        """they may have changed again"""

    @property
    def nodes(self) -> set[Node]:
        """The nodes that have slots."""
        return {node for node in self._owners if node is not None}

    def owner(self, name: bytes) -> Node | None:
        """Return the node that has the slot of a key or channel, as far as is known."""
        return self._owners[key_slot(name)]

    def at(self, host: str, port: int, told_by: Node | None = None) -> Node:
        """Return the node of an address, as another one tells it."""
        if host in ("", "?"):  # it knows no name of it but ours
            host = self._addresses.get(told_by or self, self._address)[0]
        node = self._known.get((host, port))
        if node is None:
            node = Node(self._location, {**self._extra, "host": host, "port": port})
            shown = f"[{host}]" if ":" in host else host
            node.name, node.channels = f"{self._scheme}://{shown}:{port}", self.channels
            node.in_cluster = True
            node = self._known.setdefault((host, port), node)
            self._addresses[node] = host, port
        return node

    # Slots

    def distrust(self, version: int) -> None:
        """What was known at that version is wrong, unless it was learned anew meanwhile."""
        if version == self.version:
            self.stale = True

    def refresh(self, first: Node | None, last: Node | None) -> Steps:
        """Ask one node after the other, until one says which node has which slot."""
        others = [node for node in {*self._current, self} if node is not last]
        random.shuffle(others)
        candidates = [first, self._answered if self._answered is not last else None, *others, last]
        problem: Exception = ClusterDownError("no node is known")
        for node in dict.fromkeys(candidates):
            if node is None:
                continue
            try:
                self._learn(node, (yield Ask(node, _SLOTS)))
            except Exception as exc:
                # What the first one that answers says comes before what is wrong with others.
                if not isinstance(problem, ResponseError) or isinstance(problem, ClusterDownError):
                    problem = exc
            else:
                return None
        raise problem

    def _learn(self, node: Node, rows: Sequence[Any]) -> None:
        owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        current: dict[Node, None] = {}
        for start, end, *places in rows:
            nodes = [self.at((host or b"").decode(), port, node) for host, port, *_ in places]
            owners[start : end + 1] = [nodes[0]] * (end + 1 - start)
            current.update(dict.fromkeys(nodes))
        self._current, self._answered = tuple(current), node
        if owners != self._owners:
            self._owners = owners
            self.version += 1
        self.stale = False

    # Calls

    def steps(self, call: Call) -> Steps:
        """Yield what is to be done for a call; return what it returns.

        A command that was refused was not carried out, and is sent as it was. What may have been is
        sent as ``call.again`` has it, for the rest.
        """
        call = _in_cluster(call)
        if len(call.commands) == 1:
            return (yield from self._one(call))
        if self.stale:
            yield Refresh(None, None)
        shares: dict[Node | None, list[int]] = {}
        for index, command in enumerate(call.commands):
            shares.setdefault(self.owner(_name_of(command)), []).append(index)
        answers: dict[int, Any] = {}
        for node, indexes in shares.items():
            for start in range(0, len(indexes), BATCH):
                part = indexes[start : start + BATCH]
                commands = [call.commands[index] for index in part]
                if node is not None:
                    try:
                        answers.update(zip(part, (yield Ask(node, _plain(commands))), strict=True))
                        continue
                    except Exception as exc:
                        if not _passes(exc):
                            raise
                # Each for itself: of one slot a part of the keys may have moved.
                for index, command in zip(part, commands, strict=True):
                    (answers[index],) = yield from self._one(_plain([command]))
        return call.decode([answers[index] for index in range(len(call.commands))])

    def _one(self, call: Call) -> Steps:
        name = _name_of(call.commands[0])
        pauses = back_off(FIRST_PAUSE, LONGEST_PAUSE)
        node: Node | None = None
        first: Node | None = None
        last: Node | None = None
        problem: Exception
        asking = False
        while True:
            version, target = self.version, None
            try:
                if not asking:
                    if self.stale or self.owner(name) is None:
                        yield Refresh(first, last)
                    version, node = self.version, self.owner(name)
                    first = last = None
                if node is None:
                    raise ClusterDownError("no node has its slot")
                return (yield Ask(node, _asked(call) if asking else call))
            except MovedError as exc:
                self.distrust(version)
                first, problem = node, exc
            except AskError as exc:
                target, problem = self.at(exc.host, exc.port, node), exc
            except Exception as exc:
                if not _passes(exc):
                    raise
                problem = exc
                if not isinstance(exc, ResponseError):
                    last = node
                if not isinstance(exc, TryAgainError):
                    self.distrust(version)
                if not isinstance(exc, (TryAgainError, ClusterDownError)):
                    call = call._replace(commands=call.again or call.commands)
            if target is not None and not asking:
                node, asking = target, True
                continue
            asking = False
            yield Pause(next(pauses), problem)


def _passes(exc: Exception) -> bool:
    """Whether it may be otherwise in a moment, perhaps on another node."""
    if isinstance(exc, DataError):
        return False
    if isinstance(exc, (AskError, TryAgainError, ClusterDownError)):
        return True
    return not isinstance(exc, ResponseError) or LEAVING in str(exc)


def _name_of(command: tuple[Any, ...]) -> bytes:
    """Return the first key, or the channel: it says which slot."""
    name: bytes = command[2] if isinstance(command[0], Script) else command[1]
    return name


def _plain(commands: Sequence[tuple[Any, ...]]) -> Call:
    return Call(commands, list)


def _asked(call: Call) -> Call:
    """Return the same for the node that a slot is on its way to."""

    def asking(commands: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [("ASKING",), *commands]

    return call._replace(
        commands=asking(call.commands),
        decode=lambda answers: call.decode(answers[1:]),
        again=call.again and asking(call.again),
    )


def _in_cluster(call: Call) -> Call:
    """Return the same as a cluster wants it: published to a shard, and a slot in each command."""
    if call.commands[0][0] == "MGET":
        gets = [("GET", key) for key in call.commands[0][1:]]
        return Call(gets, lambda answers: call.decode([answers]), None, call.purpose)

    def sharded(commands: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [(_sharded(command[0]), *command[1:]) for command in commands]

    return call._replace(commands=sharded(call.commands), again=call.again and sharded(call.again))


def _sharded(word: Any) -> Any:
    if isinstance(word, Script):
        return word.sharded
    return "SPUBLISH" if word == "PUBLISH" else word


def _slots(answers: list[Any]) -> list[Any]:
    info, rows = answers
    if not isinstance(info, bytes) or not isinstance(rows, list):
        raise InvalidResponse("the answer is no list of slots")
    if b"cluster_state:ok" not in info:
        # Perhaps it is this node alone that is cut off, and others have elected another primary.
        raise ClusterDownError("cluster_state is not ok")
    return rows


_SLOTS = Call([("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")], _slots)
