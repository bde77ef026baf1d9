"""SSUBSCRIBE: the subscriptions of an event loop on a cluster, one connection for each node.

Each channel is with the node that has its slot. A node that loses a slot says so, unasked for; one
that is lost says nothing, so others are asked. Then the channels go where their slot is, and what
they may have missed is caught up with. Until a node is known they are with none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError

from ...exceptions import BrokerError
from ...loops import back_off
from ..base import BaseBroker, Receiver
from ..supervised import ACKNOWLEDGED, MESSAGE, Connection
from ..wanted import Wanted
from .cluster import Cluster
from .cluster_calls import AsyncClusterCalls
from .nodes import Node
from .subscriber import RedisConnection, RedisSubscriber

__all__ = ["ClusterSubscriber"]

logger = logging.getLogger("django_ws_dispatch.brokers")

# Seconds after which the slots are looked at though nothing was heard of a change: a primary that
# is cut off from the others still answers.
LOOK = 1.0
# Seconds between two looks, where there is cause: a slot after the other may be moved.
PAUSE = 0.05
LONGEST_PAUSE = 0.5


class ClusterSubscriber:
    """The subscriptions of one event loop on one cluster.

    Args:
        cluster: which.
        broker: whose.
        receiver: is told of messages, and when some may have been missed.
        calls: of the same event loop.
    """

    def __init__(
        self, cluster: Cluster, broker: BaseBroker, receiver: Receiver, calls: AsyncClusterCalls
    ) -> None:
        self._cluster = cluster
        self._broker = broker
        self._receiver = receiver
        self._calls = calls
        self._nowhere = Wanted(broker.timeout, self._error)
        self._nodes: dict[Node, _NodeSubscriber] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._first: Node | None = None  # has lost a slot, and knows who has it
        self._lost: str | None = None  # why, while nobody says who has which slot

    def subscribe(self, channel: str, name: bytes) -> asyncio.Future[None] | None:
        """Ask for ``channel``, which is called ``name`` on the wire (see ``BaseSubscriber``)."""
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(
                self._keep(), name=f"django-ws-dispatch cluster of {self._broker.alias}"
            )
        holder = self._holder(name)
        if holder is None:
            owner = self._cluster.owner(name)
            holder = None if owner is None else self._at(owner)
        if holder is not None:
            return holder.subscribe(channel, name)
        self._news.set()
        return self._nowhere.add(channel, name)

    def unsubscribe(self, name: bytes) -> None:
        """Let go of a channel, wherever it is."""
        holder = self._holder(name)
        if holder is None:
            self._nowhere.remove(name)
        else:
            holder.unsubscribe(name)

    def _holder(self, name: bytes) -> _NodeSubscriber | None:
        for one in self._nodes.values():
            if name in one.wanted.subscriptions:
                return one
        return None

    def _at(self, node: Node) -> _NodeSubscriber:
        found = self._nodes.get(node)
        if found is None:
            found = self._nodes[node] = _NodeSubscriber(
                node, self._broker, self._receiver, self._note
            )
        return found

    def _note(self, one: _NodeSubscriber, names: Sequence[bytes]) -> None:
        """A node has lost slots, or is lost itself, where no names are said."""
        for name in names:
            one.wanted.give(name, self._nowhere)
        if names:
            self._first = one.node
        self._news.set()

    def _error(self) -> BrokerError:
        why = f": {self._lost}" if self._lost else ""
        return BrokerError(
            f"The broker {self._broker.alias!r} ({self._cluster.name}) did not acknowledge a "
            f"subscription within {self._broker.timeout:g} s{why}."
        )

    # Which channel is where

    async def _keep(self) -> None:
        pauses = back_off(PAUSE, LONGEST_PAUSE)
        placed = -1
        while True:
            pause = PAUSE
            self._news.clear()
            first, self._first = self._first, None
            try:
                await self._calls.refresh(first, self._lost_node())
            except Exception as exc:  # Garbage, or a bug, must not end all deliveries.
                self._note_loss(exc)
                pause = next(pauses)
                self._news.set()
            else:
                pauses = back_off(PAUSE, LONGEST_PAUSE)
                if placed != self._cluster.version or self._nowhere.subscriptions:
                    placed = self._cluster.version
                    self._place()
                self._lost = None
                await self._close_empty()
            await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(LOOK - pause):
                    await self._news.wait()
            except TimeoutError:
                pass

    def _lost_node(self) -> Node | None:
        return next((one.node for one in self._nodes.values() if one.is_lost), None)

    def _note_loss(self, exc: Exception) -> None:
        why = self._cluster.why(exc)
        if self._lost is None and self._nowhere.subscriptions:
            self._receiver.on_lost(_channels(self._nowhere))
            logger.error(
                "Lost the broker %r (%s): %s. No node says where %d channels are.",
                self._broker.alias,
                self._cluster.name,
                why,
                len(self._nowhere.subscriptions),
            )
        self._lost = why

    def _place(self) -> None:
        """Have each channel where its slot is, as far as that is known."""
        moved: list[str] = []
        for one in (None, *self._nodes.values()):
            wanted = self._nowhere if one is None else one.wanted
            lost = self._lost is not None if one is None else one.is_lost
            for name, subscription in list(wanted.subscriptions.items()):
                owner = self._cluster.owner(name)
                if owner is None or (target := self._at(owner)) is one:
                    continue
                channel = subscription.channel
                missed = lost or subscription.acknowledged or (one and channel in one.missed)
                if missed:
                    moved.append(channel)
                target.take(name, wanted, missed=bool(missed))
        if moved:
            self._receiver.on_lost(moved)
            logger.warning(
                "Slots of the cluster of the broker %r (%s) have other nodes; %d channels follow "
                "them. Messages of groups without history may have been lost.",
                self._broker.alias,
                self._cluster.name,
                len(moved),
            )

    async def _close_empty(self) -> None:
        """Close what nothing is asked of any more."""
        owners = self._cluster.nodes
        for node, one in list(self._nodes.items()):
            if not one.wanted.subscriptions and (one.is_lost or node not in owners):
                del self._nodes[node]
                await one.aclose()

    async def aclose(self) -> None:
        """Close the connections; whoever waits for a subscription gets ``BrokerError``."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        while self._nodes:
            await self._nodes.popitem()[1].aclose()
        self._nowhere.clear()


class _NodeSubscriber(RedisSubscriber):
    """What is subscribed to on one node."""

    def __init__(
        self,
        node: Node,
        broker: BaseBroker,
        receiver: Receiver,
        note: Callable[[_NodeSubscriber, Sequence[bytes]], None],
    ) -> None:
        super().__init__(node, broker, receiver)
        self.node = node
        self._note = note

    async def connect(self) -> Connection:
        if self.is_lost:
            self._note(self, ())
        return _Connection(await self.node.aconnect(), self._lose, self._lose_slot)

    def _channels(self) -> Collection[str]:
        return _channels(self.wanted)

    def _lose(self, name: bytes) -> None:
        subscription = self.wanted.subscriptions.get(name)
        # The answer to what it was told looks the same: then another one is still to come.
        if subscription is not None and subscription.sent and not subscription.pending:
            self._note(self, [name])

    def _lose_slot(self, slot: int) -> None:
        self._note(self, [name for name in self.wanted.subscriptions if key_slot(name) == slot])


def _channels(wanted: Wanted) -> list[str]:
    return [subscription.channel for subscription in wanted.subscriptions.values()]


class _Connection(RedisConnection):
    """Says the same as any, in the words of sharded pub/sub.

    Args:
        connection: to one node.
        lose: is told of a channel that is subscribed to no more, as the node says.
        lose_slot: is told of a slot that another node has.
    """

    def __init__(
        self,
        connection: object,
        lose: Callable[[bytes], None],
        lose_slot: Callable[[int], None],
    ) -> None:
        super().__init__(connection)  # type: ignore[arg-type]
        self._lose = lose
        self._lose_slot = lose_slot

    async def subscribe(self, names: Sequence[bytes]) -> None:
        await self._send_each("SSUBSCRIBE", names)

    async def unsubscribe(self, names: Sequence[bytes]) -> None:
        await self._send_each("SUNSUBSCRIBE", names)

    async def _send_each(self, word: str, names: Sequence[bytes]) -> None:
        # Of one slot each, as a command has to be.
        if not self._connection.is_connected:
            raise RedisConnectionError("Connection closed by server.")
        commands = [(word, name) for name in names]
        await self._connection.send_packed_command(self._connection.pack_commands(commands))

    async def read(self) -> object:
        try:
            response = await super().read()
        except MovedError as exc:
            self._lose_slot(exc.slot_id)
            return None
        if isinstance(response, list) and len(response) == 3:
            kind, name, _ = response
            if kind == b"smessage":
                response[0] = MESSAGE
            elif kind == b"ssubscribe":
                response[0] = ACKNOWLEDGED
            elif kind == b"sunsubscribe" and name is not None:
                self._lose(name)
        return response
