"""The broker of the groups that remember, and how it is killed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.kit.valkey import Valkey

__all__ = ["KINDS", "Kill", "Store"]

KINDS = ["with its data", "without its data", "with its data", "with an older state"]
"""How it comes back, in this order."""


@dataclass
class Kill:
    """One kill of the broker, in the ledger's count."""

    kind: str
    begun: int
    until: int = 0
    """what was acknowledged before is still there"""
    done: int | None = None
    """from then on it answers"""

    @property
    def loses(self) -> bool:
        return self.kind != "with its data"


class Store(Valkey):
    """Whatever it has acknowledged is on disk."""

    def __init__(self) -> None:
        # Files that are rewritten can not be copied meanwhile.
        always = ("--appendfsync", "always", "--auto-aof-rewrite-percentage", "0")
        super().__init__(arguments=("--appendonly", "yes", *always))

    @property
    def _data(self) -> Path:
        return self.folder / "appendonlydir"

    @property
    def _older(self) -> Path:
        return self.folder / "older"

    def save(self) -> None:
        """Keep its state, to come back with. What is cut off at its end is no harm."""
        shutil.rmtree(self._older, ignore_errors=True)
        shutil.copytree(self._data, self._older)

    def come_back(self, kind: str) -> None:
        """Kill it, and start it again."""
        self.kill()
        if kind != "with its data":
            shutil.rmtree(self._data)
        if kind == "with an older state":
            shutil.move(self._older, self._data)
        self.start()
