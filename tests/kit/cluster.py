"""A real cluster for the tests: three primaries and a replica of the first one, each a process."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any

import redis
from redis.crc import key_slot

from .ports import free_port
from .valkey import Valkey
from .waiting import wait_until

__all__ = ["Cluster"]

SLOTS = 16384
PRIMARIES = 3
# Milliseconds after which a node that is silent is taken for gone.
NODE_TIMEOUT = 1000


class Cluster:
    """Nodes that know each other, each of which can be killed, started again, and frozen.

    Args:
        arguments: further ones of every node, such as ``("--requirepass", "secret")``.
        login: how the tests' own connections log in, such as ``{"password": "secret"}``.

    Attributes:
        primaries: as it begins.
        replica: of the first of them.
    """

    def __init__(self, *arguments: str, login: dict[str, Any] | None = None) -> None:
        self._login = login or {}
        self._bus = [free_port() for _ in range(PRIMARIES + 1)]
        self._nodes = [self._node(port, arguments) for port in self._bus]
        *self.primaries, self.replica = self._nodes
        self._stack = ExitStack()

    def _node(self, bus: int, arguments: tuple[str, ...]) -> Valkey:
        words = f"--cluster-enabled yes --cluster-port {bus} "
        words += f"--cluster-node-timeout {NODE_TIMEOUT} --cluster-replica-validity-factor 0 "
        words += "--repl-diskless-sync-delay 0"
        return Valkey(port=None, arguments=(*words.split(), *arguments))

    @property
    def url(self) -> str:
        """Of any node: that of the last primary, which has no replica."""
        return self.primaries[-1].url

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _start(self) -> None:
        for node in self._nodes:
            self._stack.enter_context(node)
        first = self.primaries[0]
        for number, node in enumerate(self.primaries):
            start, end = (SLOTS * one // PRIMARIES for one in (number, number + 1))
            self.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            self.ask(node, "CLUSTER", "ADDSLOTSRANGE", str(start), str(end - 1))
        for node in self._nodes[1:]:
            self.ask(node, "CLUSTER", "MEET", "127.0.0.1", str(first.port), str(self._bus[0]))
        wait_until(lambda: all(self._knows_all(node) for node in self._nodes))
        self.replicate(self.replica, first)
        wait_until(lambda: all(self.is_well(node) for node in self._nodes))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, value, traceback)

    def ask(self, node: Valkey, *command: str | bytes) -> Any:
        """Return what one node answers."""
        with redis.Redis(port=node.port, decode_responses=True, **self._login) as client:
            return client.execute_command(*command)

    def _info(self, node: Valkey, *command: str) -> dict[str, str]:
        answer = self.ask(node, *command)
        if isinstance(answer, dict):
            return {key: str(value) for key, value in answer.items()}
        return dict(line.split(":", 1) for line in answer.splitlines() if ":" in line)

    def _knows_all(self, node: Valkey) -> bool:
        info = self._info(node, "CLUSTER", "INFO")
        return info["cluster_known_nodes"] == str(len(self._nodes))

    def is_well(self, node: Valkey) -> bool:
        """Whether it takes the cluster for well."""
        return self._info(node, "CLUSTER", "INFO")["cluster_state"] == "ok"

    def replicate(self, node: Valkey, primary: Valkey) -> None:
        """Make a node a replica, and return once it has all that its primary has."""
        self.ask(node, "CLUSTER", "REPLICATE", self.id_of(primary))
        wait_until(
            lambda: self._info(node, "INFO", "replication").get("master_link_status") == "up"
        )

    def id_of(self, node: Valkey) -> str:
        """Return what the cluster calls it."""
        found: str = self.ask(node, "CLUSTER", "MYID")
        return found

    def is_primary(self, node: Valkey) -> bool:
        """Whether it says so itself."""
        return bool(self.ask(node, "ROLE")[0] == "master")

    def owner(self, slot: int) -> Valkey:
        """Return the node of which all say that it has a slot, once they do."""
        found: list[Valkey] = []

        def agreed() -> bool:
            ports = {self._port_of(node, slot) for node in self._nodes if node.alive}
            found[:] = [node for node in self._nodes if node.port in ports]
            return len(ports) == len(found) == 1

        wait_until(agreed)
        return found[0]

    def _port_of(self, node: Valkey, slot: int) -> int:
        connection = redis.Connection(port=node.port, protocol=2, **self._login)
        try:
            connection.send_command("CLUSTER", "SLOTS")
            for start, end, primary, *_ in connection.read_response():
                if start <= slot <= end:
                    return int(primary[1])
        finally:
            connection.disconnect()
        return 0

    # A slot on its way

    def begin_move(self, slot: int, target: Valkey) -> Valkey:
        """Begin to move a slot, without any key of it; return where it was."""
        source = self.owner(slot)
        self.ask(target, "CLUSTER", "SETSLOT", str(slot), "IMPORTING", self.id_of(source))
        self.ask(source, "CLUSTER", "SETSLOT", str(slot), "MIGRATING", self.id_of(target))
        return source

    def move_keys(self, slot: int, source: Valkey, target: Valkey, *keys: str) -> None:
        """Move keys of a slot; all that there are if none is named."""
        while names := keys or self.ask(source, "CLUSTER", "GETKEYSINSLOT", str(slot), "100"):
            word = ("127.0.0.1", str(target.port), "", "0", "5000")
            auth = ("AUTH", self._login["password"]) if self._login else ()
            self.ask(source, "MIGRATE", *word, *auth, "KEYS", *names)
            if keys:
                break

    def end_move(self, slot: int, target: Valkey) -> None:
        """Tell the primaries that the slot has a new owner, it itself first."""
        others = [node for node in self.primaries if node is not target]
        for node in (target, *others):
            if node.alive:
                self.ask(node, "CLUSTER", "SETSLOT", str(slot), "NODE", self.id_of(target))

    def move(self, slot: int, target: Valkey) -> None:
        """Move a slot with all that is in it, as redis-cli does."""
        source = self.begin_move(slot, target)
        self.move_keys(slot, source, target)
        self.end_move(slot, target)

    def elsewhere(self, slot: int) -> Valkey:
        """Return a primary that has not the slot, and no replica."""
        owner = self.owner(slot)
        return next(node for node in reversed(self.primaries) if node is not owner)

    @staticmethod
    def slot_of(name: str) -> int:
        """Return the slot of a key."""
        return int(key_slot(name.encode()))
